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
//! their error codes, sequence numbers of 56 digits, lineage over resharding, iterators, encryption contexts
//! bound to blobs, ARNs and blobs of AWS's sizes; and bounded memory. Limits of a request are always checked;
//! quotas of a shard and signatures only in [strict](Builder::strict) mode. It refuses what it does not know,
//! and never listens beyond loopback unless told an address that does.
//!
//! Sources: the API references of Kinesis (2013-12-02) and KMS (2014-11-01) with the SDK models of 2026. Where
//! the service's exact words are known they are used; where they are not, the error code is.
//!
//! # Layout
//! `server` → `faults` → `sigv4` → `kinesis` or `kms`, or `null` for load tests without storage.

mod clock;
mod counters;
pub mod faults;
mod kinesis;
mod kms;
mod null;
mod protocol;
mod server;
mod sigv4;
mod tls;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use clock::Clock;
pub use counters::Counters;
pub use faults::{Action, Entries, Faults, FaultsFileError, Rule};
pub use kinesis::{Distribution, Limits, StoredRecord};
pub use protocol::{ApiError, Service};

use crate::shutdown::{self, Stop};
use counters::Tally;
use faults::Injector;
use kinesis::{Kinesis, StreamSpec};
use kms::Kms;
use null::NullAnswers;
use server::Shared;
use sigv4::Verifier;
use tls::Tls;

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

/// How the stand-ins shall be.
#[derive(Debug, Clone)]
pub struct Builder {
    kinesis_addr: SocketAddr,
    kms_addr: SocketAddr,
    one_port: bool,
    tls: bool,
    http2: bool,
    verify_signatures: bool,
    enforce_quotas: bool,
    null: bool,
    access_key: String,
    secret_key: String,
    region: String,
    account: String,
    latency: Duration,
    limits: Limits,
    faults: Faults,
    clock: Clock,
}

impl Default for Builder {
    fn default() -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            kinesis_addr: any_port,
            kms_addr: any_port,
            one_port: false,
            tls: false,
            http2: true,
            verify_signatures: false,
            enforce_quotas: false,
            null: false,
            access_key: DEFAULT_CREDENTIAL.to_owned(),
            secret_key: DEFAULT_CREDENTIAL.to_owned(),
            region: DEFAULT_REGION.to_owned(),
            account: DEFAULT_ACCOUNT.to_owned(),
            latency: Duration::ZERO,
            limits: Limits::default(),
            faults: Faults::none(),
            clock: Clock::system(),
        }
    }
}

impl Builder {
    /// Default: a free port on 127.0.0.1.
    #[must_use]
    pub fn kinesis_addr(mut self, addr: SocketAddr) -> Self {
        self.kinesis_addr = addr;
        self
    }

    /// Default: a free port on 127.0.0.1. The same address as Kinesis's means one listener for both.
    #[must_use]
    pub fn kms_addr(mut self, addr: SocketAddr) -> Self {
        self.kms_addr = addr;
        self
    }

    /// One listener for both services.
    #[must_use]
    pub fn addr(mut self, addr: SocketAddr) -> Self {
        self.kinesis_addr = addr;
        self.kms_addr = addr;
        self.one_port = true;
        self
    }

    /// HTTPS, under a certificate authority made at start: [`Fake::ca_pem`].
    #[must_use]
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Whether HTTP/2 is spoken; default true. Clients take it by ALPN over TLS, or by prior knowledge.
    #[must_use]
    pub fn http2(mut self, http2: bool) -> Self {
        self.http2 = http2;
        self
    }

    /// Signatures are verified, and the write and read quotas of shards enforced.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.verify_signatures = strict;
        self.enforce_quotas = strict;
        self
    }

    /// The half of [`strict`](Self::strict) that is about who calls.
    #[must_use]
    pub fn verify_signatures(mut self, verify: bool) -> Self {
        self.verify_signatures = verify;
        self
    }

    /// The one pair that signs validly; default `test` and `test`.
    #[must_use]
    pub fn credentials(
        mut self,
        access_key: impl Into<String>,
        secret_key: impl Into<String>,
    ) -> Self {
        self.access_key = access_key.into();
        self.secret_key = secret_key.into();
        self
    }

    /// PutRecords bodies are counted and thrown away; everything else works as ever.
    #[must_use]
    pub fn null(mut self, null: bool) -> Self {
        self.null = null;
        self
    }

    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// 12 digits, so that ARNs have AWS's length.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Added to every answer, after the work is done.
    #[must_use]
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Listens when it returns. Needs a tokio runtime, and lives on it.
    pub async fn start(self) -> io::Result<Fake> {
        let tls = self.tls.then(|| Tls::generate(self.http2)).transpose()?;
        let kinesis = TcpListener::bind(self.kinesis_addr).await?;
        let kinesis_addr = kinesis.local_addr()?;
        let one_port =
            self.one_port || (self.kms_addr == self.kinesis_addr && self.kms_addr.port() != 0);
        let mut listeners = vec![kinesis];
        let kms_addr = if one_port {
            kinesis_addr
        } else {
            let kms = TcpListener::bind(self.kms_addr).await?;
            let addr = kms.local_addr()?;
            listeners.push(kms);
            addr
        };
        let shared = Arc::new(self.into_shared());
        let (stop, stopping) = shutdown::channel();
        let serve = |listener| {
            let acceptor = tls.as_ref().map(|tls| tls.acceptor.clone());
            tokio::spawn(server::serve(
                listener,
                acceptor,
                Arc::clone(&shared),
                stopping.clone(),
            ))
        };
        Ok(Fake {
            listeners: listeners.into_iter().map(serve).collect(),
            shared,
            kinesis_addr,
            kms_addr,
            ca_pem: tls.map(|tls| tls.ca_pem),
            stop,
        })
    }

    fn into_shared(mut self) -> Shared {
        let tally = Arc::new(Tally::default());
        // Either way of asking counts, in whichever order they were called.
        self.limits.write_quota |= self.enforce_quotas;
        self.limits.read_quota |= self.enforce_quotas;
        let verifier = Verifier {
            access_key: self.access_key,
            secret_key: self.secret_key,
            region: self.region.clone(),
        };
        Shared {
            kms: Kms::new(
                self.account.clone(),
                self.region.clone(),
                self.clock.clone(),
            ),
            kinesis: Kinesis::new(
                self.account,
                self.region,
                self.clock.clone(),
                self.limits,
                Arc::clone(&tally),
            ),
            clock: self.clock,
            tally,
            injector: Injector::new(self.faults),
            verifier: self.verify_signatures.then_some(verifier),
            null: self.null.then(NullAnswers::new),
            latency: AtomicU64::new(micros(self.latency)),
            http2: self.http2,
        }
    }
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
        self.shared.kms.set_alias(alias, key, false)
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
