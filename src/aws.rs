//! The one place where clients are made: region, endpoint, credentials, time-outs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use futures_util::FutureExt;

mod renewal;

use renewal::Renewal;

/// The `[aws]` table. What is `None` is found as every AWS tool finds it: environment, profile, SSO, web
/// identity, container, instance metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub region: Option<String>,
    pub profile: Option<String>,
    pub assume_role_arn: Option<String>,
    pub external_id: Option<String>,
    pub kinesis_endpoint_url: Option<String>,
    pub kms_endpoint_url: Option<String>,
    /// No words of the configuration say this: secrets do not belong in it.
    pub credentials: Option<Credentials>,
}

/// A fixed pair of keys, for a program that has its own, and for the stand-ins.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key_id: String,
    secret_access_key: String,
}

impl Credentials {
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Clients of the two services, sharing credentials and connections.
#[derive(Debug, Clone)]
pub struct Clients {
    pub kinesis: aws_sdk_kinesis::Client,
    pub kms: aws_sdk_kms::Client,
    /// Where they call, for messages: the region, or the endpoint where one was given.
    pub place: String,
}

/// How long a client waits.
#[derive(Debug, Clone, Copy)]
pub struct TimeOuts {
    pub connect: Duration,
    /// One try of one call. PutRecords has its own, around it.
    pub request: Duration,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(6),
            request: Duration::from_secs(6),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AwsError {
    #[error(
        "no AWS region: set aws.region (or --region, AWS_REGION, or the region of the profile in use)"
    )]
    NoRegion,
    #[error("AWS_CA_BUNDLE: cannot read {path}: {source}", path = path.display())]
    CaBundle {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("AWS_CA_BUNDLE: {path} holds no usable certificates: {message}", path = path.display())]
    BadCaBundle { path: PathBuf, message: String },
}

/// Finds region and credentials and makes the clients. Makes no call, except where the region must be asked
/// of the instance.
pub async fn clients(settings: &Settings, time_outs: TimeOuts) -> Result<Clients, AwsError> {
    let config = found(settings, time_outs).await?;
    let region = config.region().ok_or(AwsError::NoRegion)?.to_string();
    let renewal = config.credentials_provider().map(|provider| {
        // It need not be asked for again.
        let region = Some(region.clone());
        let settings = Settings {
            region,
            ..settings.clone()
        };
        Renewal::new(
            provider,
            Box::new(move || found_again(settings.clone(), time_outs).boxed()),
        )
    });
    let config = match &renewal {
        Some(renewal) => renewal.provide(&config),
        None => config,
    };

    // The pipeline judges each entry itself: a call that was repeated below it would double what was stored.
    let mut kinesis =
        aws_sdk_kinesis::config::Builder::from(&config).retry_config(RetryConfig::disabled());
    if let Some(url) = &settings.kinesis_endpoint_url {
        kinesis = kinesis.endpoint_url(url);
    }
    let mut kms = aws_sdk_kms::config::Builder::from(&config);
    if let Some(url) = &settings.kms_endpoint_url {
        kms = kms.endpoint_url(url);
    }
    if let Some(renewal) = renewal {
        kinesis = kinesis.interceptor(renewal.clone());
        kms = kms.interceptor(renewal);
    }
    Ok(Clients {
        kinesis: aws_sdk_kinesis::Client::from_conf(kinesis.build()),
        kms: aws_sdk_kms::Client::from_conf(kms.build()),
        place: settings.kinesis_endpoint_url.clone().unwrap_or(region),
    })
}

/// With the role's credentials, where one is to be assumed.
async fn found(settings: &Settings, time_outs: TimeOuts) -> Result<SdkConfig, AwsError> {
    let base = load(settings, time_outs).await?;
    Ok(match &settings.assume_role_arn {
        Some(role) => assume(&base, role, settings.external_id.as_deref()).await,
        None => base,
    })
}

async fn found_again(settings: Settings, time_outs: TimeOuts) -> Option<SharedCredentialsProvider> {
    let config = found(&settings, time_outs).await.ok()?;
    config.credentials_provider()
}

async fn load(settings: &Settings, time_outs: TimeOuts) -> Result<SdkConfig, AwsError> {
    let time_outs = TimeoutConfig::builder()
        .connect_timeout(time_outs.connect)
        .operation_attempt_timeout(time_outs.request)
        .build();
    let mut loader: ConfigLoader = aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(time_outs)
        // Watches for slow bodies; our answers are short, and the time-out bounds them.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &settings.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(fixed) = &settings.credentials {
        let (id, secret) = (&fixed.access_key_id, &fixed.secret_access_key);
        loader = loader.credentials_provider(aws_credential_types::Credentials::new(
            id, secret, None, None, "settings",
        ));
    }
    // The other AWS tools read this variable; the Rust SDK does not.
    if let Some(trusted) = trusted()? {
        loader = loader.http_client(
            aws_smithy_http_client::Builder::new()
                .tls_provider(TLS)
                .tls_context(trusted)
                .build_https(),
        );
    }
    Ok(loader.load().await)
}

const TLS: Provider = Provider::Rustls(CryptoMode::AwsLc);

/// The same client, but each of its calls has a connection for itself: for answers that last. Over HTTP/2 they would share
/// one and its window, and one that is not read for a while would hold up all others.
pub fn unshared(client: &aws_sdk_kinesis::Client) -> Result<aws_sdk_kinesis::Client, AwsError> {
    let http = aws_smithy_http_client::Builder::new()
        .pool_max_idle_per_host(0)
        .tls_provider(TLS);
    let http = match trusted()? {
        Some(trusted) => http.tls_context(trusted),
        None => http,
    };
    let config = client.config().to_builder().http_client(http.build_https());
    Ok(aws_sdk_kinesis::Client::from_conf(config.build()))
}

/// Whom `AWS_CA_BUNDLE` says to trust, where it is set.
fn trusted() -> Result<Option<TlsContext>, AwsError> {
    let Some(path) = std::env::var_os("AWS_CA_BUNDLE").filter(|p| !p.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(source) => return Err(AwsError::CaBundle { path, source }),
    };
    let trust = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trust).build();
    context.map(Some).map_err(|error| AwsError::BadCaBundle {
        path,
        message: error.to_string(),
    })
}

async fn assume(base: &SdkConfig, role: &str, external_id: Option<&str>) -> SdkConfig {
    let mut provider = AssumeRoleProvider::builder(role)
        .session_name("kinseal")
        .configure(base);
    if let Some(external_id) = external_id {
        provider = provider.external_id(external_id);
    }
    let provider = provider.build().await;
    base.to_builder()
        .credentials_provider(SharedCredentialsProvider::new(provider))
        .build()
}
