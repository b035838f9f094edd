//! Kinesis and KMS in this process, over real HTTP: for the demo, `kinseal local`, tests, benches, load tests.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use kinseal::fake::{Action, Entries, Fake, Faults, Rule};
//!
//! let fake = Fake::builder().start().await?;
//! fake.create_stream("shop-logs", 4)?;
//! let key_arn = fake.create_key();
//! fake.create_alias("alias/shop", &key_arn)?;
//! fake.set_faults(Faults::seeded(7).rule(Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords")));
//! println!("point a client at {} and {}", fake.kinesis_url(), fake.kms_url());
//! println!("{:?}", fake.counters());
//! fake.shutdown().await;
//! # Ok(()) }
//! ```
//!
//! It owns streams and keys in memory, and two listeners (or one) on which either service answers to its
//! `X-Amz-Target`. It promises what clients can see of the services' rules: routing by hash key, limits and
//! their error codes, sequence numbers of 56 digits, lineage over resharding, iterators, subscriptions, encryption contexts
//! bound to blobs, ARNs and blobs of AWS's sizes; and bounded memory. Limits of a request are always checked;
//! quotas of a shard and signatures only in [strict](Builder::strict) mode. It refuses what it does not know,
//! and never listens beyond loopback unless told an address that does.
//!
//! Sources: the API references of Kinesis (2013-12-02) and KMS (2014-11-01) with the SDK models of 2026. Where
//! the service's exact words are known they are used; where they are not, the error code is.
//!
//! # Layout
//! A request's way: `wire` (socket) → `server` → `faults` (what shall go wrong) → `sigv4` (who calls) →
//! `kinesis` or `kms`, or `null` for load tests without storage. A subscription's events go back through `events`, in
//! the frames of `eventstream`.

mod builder;
mod cbor;
mod clock;
mod counters;
mod events;
mod eventstream;
pub mod faults;
mod kinesis;
mod kms;
mod null;
mod protocol;
mod server;
mod sigv4;
mod tls;
mod wire;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use builder::Builder;
pub use clock::Clock;
pub use counters::Counters;
pub use faults::{Action, Entries, Faults, FaultsFileError, Rule};
pub use kinesis::{Distribution, Limits, StoredRecord};
pub use protocol::{ApiError, Service};

use crate::shutdown::Stop;
use kinesis::StreamSpec;
use server::Shared;

/// What strict mode expects as access key and as secret key, unless told otherwise.
pub const DEFAULT_CREDENTIAL: &str = "test";
pub const DEFAULT_REGION: &str = "eu-west-1";
pub const DEFAULT_ACCOUNT: &str = "000000000000";

/// The running stand-ins. Dropping them stops them.
#[derive(Debug)]
pub struct Fake {
    shared: Arc<Shared>,
    kinesis_addr: SocketAddr,
    kms_addr: SocketAddr,
    ca_pem: Option<String>,
    stop: Stop,
    listeners: Vec<JoinHandle<()>>,
}

impl Fake {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Plain HTTP on free ports, no signatures, no quotas.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    pub fn kinesis_addr(&self) -> SocketAddr {
        self.kinesis_addr
    }

    pub fn kms_addr(&self) -> SocketAddr {
        self.kms_addr
    }

    pub fn kinesis_url(&self) -> String {
        self.url(self.kinesis_addr)
    }

    pub fn kms_url(&self) -> String {
        self.url(self.kms_addr)
    }

    fn url(&self, addr: SocketAddr) -> String {
        let scheme = if self.ca_pem.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{addr}")
    }

    /// The certificate authority to trust, where TLS is on.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// A provisioned stream of shards of equal size; active at once.
    pub fn create_stream(&self, name: &str, shards: usize) -> Result<(), ApiError> {
        self.shared
            .kinesis
            .create_stream(StreamSpec::provisioned(name, shards))
    }

    /// A stream in on-demand mode: 4 shards.
    pub fn create_on_demand_stream(&self, name: &str) -> Result<(), ApiError> {
        self.shared
            .kinesis
            .create_stream(StreamSpec::on_demand(name))
    }

    /// 1024 to 10240.
    pub fn set_max_record_kib(&self, stream: &str, kib: u32) -> Result<(), ApiError> {
        let stream = self.shared.kinesis.stream(Some(stream), None)?;
        kinesis::set_max_record_size(&stream, kib)
    }

    /// Unlike the API, this also puts a provisioned stream to AUTO.
    pub fn set_distribution(
        &self,
        stream: &str,
        distribution: Distribution,
    ) -> Result<(), ApiError> {
        let stream = self.shared.kinesis.stream(Some(stream), None)?;
        stream.settings().distribution = distribution;
        Ok(())
    }

    /// Splits an open shard in the middle, in whatever mode its stream is.
    pub fn split(&self, stream: &str, shard: &str) -> Result<(), ApiError> {
        let stream = self.shared.kinesis.stream(Some(stream), None)?;
        self.shared.kinesis.split(&stream, shard, None)
    }

    pub fn merge(&self, stream: &str, shard: &str, adjacent: &str) -> Result<(), ApiError> {
        let stream = self.shared.kinesis.stream(Some(stream), None)?;
        self.shared.kinesis.merge(&stream, shard, adjacent)
    }

    /// To any number of shards of equal size, without the service's bounds of half and double.
    pub fn scale(&self, stream: &str, shards: usize) -> Result<(), ApiError> {
        let stream = self.shared.kinesis.stream(Some(stream), None)?;
        self.shared.kinesis.scale(&stream, shards);
        Ok(())
    }

    /// Everything in a stream, shard by shard in the order of sequence numbers.
    pub fn records(&self, stream: &str) -> Result<Vec<StoredRecord>, ApiError> {
        self.shared.kinesis.stored(stream)
    }

    /// An enabled symmetric key; returns its ARN.
    pub fn create_key(&self) -> String {
        self.shared.kms.create_key(String::new())
    }

    /// `alias/NAME`, for a key by id or ARN.
    pub fn create_alias(&self, alias: &str, key: &str) -> Result<(), ApiError> {
        self.shared.kms.create_alias(alias, key)
    }

    /// An enabled key that can be replicated to other Regions; returns its ARN.
    pub fn create_multi_region_key(&self) -> String {
        self.shared.kms.create_multi_region_key(String::new())
    }

    /// From then on, calls signed for that Region find this replica there, and nothing else. By the primary's
    /// ARN; returns the replica's.
    pub fn replicate_key(&self, primary: &str, region: &str) -> Result<String, ApiError> {
        self.shared.kms.replicate_key(primary, region)
    }

    /// Enables or disables a key by its ARN.
    pub fn enable_key(&self, key: &str, enabled: bool) -> Result<(), ApiError> {
        self.shared.kms.enable_key(key, enabled)
    }

    /// Replaces all rules.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.injector.replace(faults);
    }

    pub fn set_latency(&self, latency: Duration) {
        self.shared
            .latency
            .store(micros(latency), Ordering::Relaxed);
    }

    pub fn counters(&self) -> Counters {
        self.shared.tally.snapshot()
    }

    /// Drops every connection and gives the ports back.
    pub async fn shutdown(self) {
        self.stop.stop();
        for listener in self.listeners {
            // It only fails if it panicked, and then it has stopped as well.
            let _ = listener.await;
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
