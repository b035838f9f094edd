//! How the stand-ins shall be, and their start.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;

use super::counters::Tally;
use super::faults::Injector;
use super::kinesis::Kinesis;
use super::kms::Kms;
use super::server::{self, Shared};
use super::sigv4::Verifier;
use super::tls::Tls;
use super::{
    Clock, DEFAULT_ACCOUNT, DEFAULT_CREDENTIAL, DEFAULT_REGION, Fake, Faults, Limits, micros,
};
use crate::shutdown;

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

    /// What PutRecords brings is counted and thrown away, and answered as stored on the shard that its key leads to;
    /// everything else works as ever.
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
            null: self.null,
            latency: AtomicU64::new(micros(self.latency)),
            http2: self.http2,
        }
    }
}
