//! Clients of the services as the KPL's client configures them: its credentials, its endpoints, its certificates, its
//! proxy.

mod unverified;

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::meta::region::ProvideRegion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_kinesis::config::{BehaviorVersion, IdentityCache, Region};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;

use super::configuration::{Configuration, Endpoint};
use super::message;
use crate::aws::Clients;

/// How long a call waits for the first credentials, before it is told that there are none.
const FIRST_CREDENTIALS: Duration = Duration::from_secs(1);

/// Without spaces and line ends around them, as a file may have them. What the SDK would put into a header and could not, or is
/// none at all, is told.
fn usable(mut credentials: message::Credentials) -> Option<message::Credentials> {
    let message::Credentials {
        akid,
        secret_key,
        token,
    } = &mut credentials;
    trim(akid);
    trim(secret_key);
    token.iter_mut().for_each(trim);
    // None, as it would be in the environment.
    token.take_if(|token| token.is_empty());
    let goes_in_a_header = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let why = match (&*akid, &*secret_key, &*token) {
        (akid, _, _) if akid.is_empty() || !goes_in_a_header(akid) => "the access key id",
        (_, secret, _) if secret.is_empty() => "the secret key",
        (_, _, Some(token)) if !goes_in_a_header(token) => "the session token",
        _ => return Some(credentials),
    };
    tracing::error!(
        "{why} that the client sent is empty, or has characters that none has: not used; give the credentials provider of the \
         Java client good ones"
    );
    None
}

/// In its own memory, of which no copy is left.
fn trim(text: &mut String) {
    text.truncate(text.trim_end().len());
    let start = text.len() - text.trim_start().len();
    text.drain(..start);
}

/// What a client cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error(
        "no region: set the KPL's `region`, or AWS_REGION where the instance's metadata does not say it"
    )]
    NoRegion,
    #[error("certificates of {path}: {message}", path = path.display())]
    Certificates { path: PathBuf, message: String },
    #[error("proxy {host}: {message}")]
    Proxy { host: String, message: String },
}

/// Whose certificates are trusted, as the Java client says it in the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// `CA_DIR`: each file in it is one or more certificates in PEM.
    pub directory: Option<PathBuf>,
    /// `CA_FILE`.
    pub file: Option<PathBuf>,
}

/// What the environment adds to the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub trust: Trust,
    /// Whole URLs, for tests: the configuration has hosts only, and means https.
    pub kinesis_url: Option<String>,
    pub kms_url: Option<String>,
    pub cloudwatch_url: Option<String>,
}

/// The keys that come over the pipe, each time the client has new ones.
#[derive(Debug)]
pub struct PipeCredentials(watch::Sender<Option<message::Credentials>>);

impl PipeCredentials {
    /// What cannot be used is told, and is none.
    pub fn new(first: Option<message::Credentials>) -> Self {
        Self(watch::Sender::new(first.and_then(usable)))
    }

    /// Whether they are others than before. What cannot be used is told, and those before stay.
    pub fn set(&self, credentials: message::Credentials) -> bool {
        let Some(credentials) = usable(credentials) else {
            return false;
        };
        self.0.send_if_modified(|latest| {
            let is_new = latest.as_ref() != Some(&credentials);
            if is_new {
                *latest = Some(credentials);
            }
            is_new
        })
    }

    pub(super) fn are_there(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub(super) fn provider(&self) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(FromPipe(self.0.subscribe()))
    }
}

/// Asked for each call: what came last is what is signed with.
#[derive(Debug)]
struct FromPipe(watch::Receiver<Option<message::Credentials>>);

impl ProvideCredentials for FromPipe {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let mut latest = self.0.clone();
        future::ProvideCredentials::new(async move {
            let there = latest.wait_for(Option::is_some);
            let waited = tokio::time::timeout(FIRST_CREDENTIALS, there).await;
            let Ok(Ok(there)) = waited else {
                return Err(CredentialsError::not_loaded(
                    "none have come over the pipe yet",
                ));
            };
            let message::Credentials {
                akid,
                secret_key,
                token,
            } = there.as_ref().expect("waited for");
            Ok(Credentials::new(
                akid,
                secret_key,
                token.clone().filter(|token| !token.is_empty()),
                None,
                "KPL client",
            ))
        })
    }
}

/// What the client says, or else the environment or the instance's metadata.
pub async fn region(configuration: &Configuration) -> Result<String, ClientsError> {
    match &configuration.region {
        Some(region) => Ok(region.clone()),
        None => {
            let chain = aws_config::default_provider::region::default_provider();
            let found = chain.region().await.ok_or(ClientsError::NoRegion)?;
            Ok(found.to_string())
        }
    }
}

/// Makes the clients. Makes no call.
pub(super) fn clients(
    configuration: &Configuration,
    overrides: &Overrides,
    region: &str,
    http: SharedHttpClient,
    credentials: &PipeCredentials,
) -> Clients {
    let region = Region::new(region.to_owned());
    let time_outs = TimeoutConfig::builder()
        .connect_timeout(configuration.connect_timeout)
        .operation_attempt_timeout(configuration.request_timeout)
        .build();
    let provider = credentials.provider();
    let kinesis = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.clone())
        .credentials_provider(provider.clone())
        .identity_cache(IdentityCache::no_cache())
        .http_client(http.clone())
        .timeout_config(time_outs.clone())
        // It watches for slow bodies; the time-out bounds answers.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::disabled());
    let kinesis = match kinesis_url(configuration, overrides) {
        Some(url) => kinesis.endpoint_url(url),
        None => kinesis,
    };
    let kms = aws_sdk_kms::Config::builder()
        .behavior_version(aws_sdk_kms::config::BehaviorVersion::latest())
        .region(region.clone())
        .credentials_provider(provider)
        .identity_cache(aws_sdk_kms::config::IdentityCache::no_cache())
        .http_client(http)
        .timeout_config(time_outs)
        .retry_config(RetryConfig::standard());
    let kms = match &overrides.kms_url {
        Some(url) => kms.endpoint_url(url),
        None => kms,
    };
    Clients {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        kms: aws_sdk_kms::Client::from_conf(kms.build()),
        place: kinesis_url(configuration, overrides).unwrap_or_else(|| region.to_string()),
    }
}

fn kinesis_url(configuration: &Configuration, overrides: &Overrides) -> Option<String> {
    let given = || configuration.kinesis_endpoint.as_ref().map(https);
    overrides.kinesis_url.clone().or_else(given)
}

pub(super) fn https(Endpoint { host, port }: &Endpoint) -> String {
    format!("https://{host}:{port}")
}

/// Over TLS to whom the configuration trusts, through its proxy.
pub(super) fn http_client(
    configuration: &Configuration,
    trust: &Trust,
) -> Result<SharedHttpClient, ClientsError> {
    match (&configuration.proxy, configuration.verify_certificate) {
        (None, false) => return Ok(unverified::client(configuration.connect_timeout)),
        (Some(_), false) => tracing::warn!(
            "verifyCertificate = false does not work through a proxy: certificates are verified"
        ),
        (_, true) => {}
    }
    let context = TlsContext::builder()
        .with_trust_store(trust_store(trust)?)
        .build();
    let context = context.map_err(|error| ClientsError::Certificates {
        path: (trust.file.clone().or_else(|| trust.directory.clone())).unwrap_or_default(),
        message: error.to_string(),
    })?;
    let proxy = proxy(configuration)?;
    // It keeps what is made here, and the connections with it.
    let client = aws_smithy_http_client::Builder::new();
    Ok(client.build_with_connector_fn(move |settings, components| {
        let mut builder: ConnectorBuilder = Connector::builder();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.set_proxy_config(proxy.clone());
        let secured = builder
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(context.clone());
        secured.build()
    }))
}

fn proxy(configuration: &Configuration) -> Result<Option<ProxyConfig>, ClientsError> {
    let Some(proxy) = &configuration.proxy else {
        return Ok(None);
    };
    let made = ProxyConfig::all(format!("http://{}:{}", proxy.host, proxy.port));
    let made = made.map_err(|error| ClientsError::Proxy {
        host: proxy.host.clone(),
        message: error.to_string(),
    })?;
    Ok(Some(match &proxy.user {
        Some((name, password)) => made.with_basic_auth(name, password),
        None => made,
    }))
}

/// Only what the client says, where it says something: so did the KPL's own daemon.
fn trust_store(trust: &Trust) -> Result<TrustStore, ClientsError> {
    let mut store = TrustStore::empty();
    let mut is_empty = true;
    if let Some(file) = &trust.file {
        let pem = read(file)?;
        check(&pem).map_err(|message| ClientsError::Certificates {
            path: file.clone(),
            message,
        })?;
        store.add_pem_certificate(pem);
        is_empty = false;
    }
    for path in trust.directory.iter().flat_map(|path| files_of(path)) {
        let pem = match read(&path) {
            Ok(pem) => pem,
            Err(error) => {
                tracing::warn!("{error}; it is not trusted");
                continue;
            }
        };
        // Java leaves others there, like a lock.
        if memchr::memmem::find(&pem, b"-----BEGIN CERTIFICATE-----").is_none() {
            continue;
        }
        match check(&pem) {
            Ok(()) => {
                store.add_pem_certificate(pem);
                is_empty = false;
            }
            Err(error) => {
                tracing::warn!(certificate = %path.display(), error, "is not trusted");
            }
        }
    }
    Ok(match is_empty {
        true => store.with_native_roots(true),
        false => store,
    })
}

/// Whether these are certificates that TLS can use: what takes them later panics at others.
fn check(pem: &[u8]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("no PEM: {error}"))?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("no certificate of an authority: {error}"))?;
    }
    match roots.is_empty() {
        true => Err("no certificate in PEM is in it".to_owned()),
        false => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientsError> {
    std::fs::read(path).map_err(|error| ClientsError::Certificates {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(CA_DIR = %directory.display(), %error, "cannot be listed; this host's own roots are trusted");
            return Vec::new();
        }
    };
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(akid: &str, secret_key: &str, token: Option<&str>) -> message::Credentials {
        message::Credentials {
            akid: akid.to_owned(),
            secret_key: secret_key.to_owned(),
            token: token.map(str::to_owned),
        }
    }

    /// A line end in one of them was a panic in the SDK, and a stream that answered nothing any more.
    #[test]
    fn what_no_header_can_hold_is_not_used_and_what_was_before_stays() {
        let pipe = PipeCredentials::new(Some(credentials("A\0", "s", None)));
        assert!(!pipe.are_there());
        assert!(pipe.set(credentials(" AKID\n", "secret\n", Some("token\r\n"))));
        let trimmed = credentials("AKID", "secret", Some("token"));
        assert_eq!(pipe.0.borrow().clone(), Some(trimmed.clone()));
        assert!(pipe.set(credentials("AKID", "secret", Some(" "))));
        assert!(pipe.set(trimmed.clone()));
        for bad in [
            credentials("", "secret", None),
            credentials("AKID", "", None),
            credentials("A\nB", "secret", None),
            credentials("AKÏD", "secret", None),
            credentials("AKID", "secret", Some("to\nken")),
        ] {
            assert!(!pipe.set(bad));
            assert_eq!(pipe.0.borrow().clone(), Some(trimmed.clone()));
        }
    }
}
