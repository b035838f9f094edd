//! What the KPL's client configures its daemon with: the `Configuration` message, of all client generations. Pure.
//!
//! Fields, defaults and ranges are those of the KPL's public `config.proto` and of its daemon, which refuses to start
//! outside of them. Two fields (32, 33) are a text and a number in one generation of clients and a number and a text in
//! another, so they are read apart.

mod fields;

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use self::fields::Newest;
pub use self::fields::{Fields, FieldsOfDimension, LastFields};

/// All of it valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    pub aggregation_enabled: bool,
    pub aggregation_max_count: u64,
    /// Bytes.
    pub aggregation_max_size: u64,
    /// `None`: the service's own.
    pub cloudwatch_endpoint: Option<Endpoint>,
    /// Kinesis records in a call.
    pub collection_max_count: u64,
    /// Bytes of a call.
    pub collection_max_size: u64,
    pub connect_timeout: Duration,
    /// `None`: as it is.
    pub core_dumps: Option<bool>,
    pub fail_if_throttled: bool,
    pub kinesis_endpoint: Option<Endpoint>,
    /// Calls under way at once.
    pub max_connections: u64,
    pub metrics_granularity: Granularity,
    pub metrics_level: Level,
    pub metrics_namespace: String,
    pub metrics_upload_delay: Duration,
    /// Percent of a shard's quota.
    pub rate_limit: u64,
    pub record_max_buffered_time: Duration,
    pub record_ttl: Duration,
    /// `None`: as the environment or the instance says.
    pub region: Option<String>,
    pub request_timeout: Duration,
    pub verify_certificate: bool,
    pub proxy: Option<Proxy>,
    pub dimensions: Vec<AdditionalDimension>,
    /// Whether the client knows messages of late 2026, like a stream's strategy.
    pub is_newest: bool,
    /// Keys with a value of the client's own that means nothing here.
    pub ignored: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub host: String,
    pub port: u16,
    /// Name and password.
    pub user: Option<(String, String)>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Of what a metric is: the finest dimension that it has, or that is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Granularity {
    Global,
    Stream,
    Shard,
}

/// How much is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    None,
    Summary,
    Detailed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdditionalDimension {
    pub key: String,
    pub value: String,
    pub granularity: Granularity,
}

/// Why a daemon cannot be configured like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    #[error("the configuration is no Configuration of the KPL's protocol: {0}")]
    Undecodable(String),
    #[error("{key} is {value}, allowed is {allowed}")]
    OutOfRange {
        key: &'static str,
        value: String,
        allowed: String,
    },
}

type Checked<T> = Result<T, ConfigurationError>;

impl Default for Configuration {
    /// The KPL's own defaults.
    fn default() -> Self {
        Self::decode(Bytes::new()).expect("all is at its default")
    }
}

impl Configuration {
    /// # Errors
    ///
    /// What is no such message, or has a value that the KPL's daemon would refuse too.
    pub fn decode(bytes: Bytes) -> Checked<Self> {
        // Only clients whose fields are of these types know what came with them.
        let newest = Newest::decode(bytes.clone()).unwrap_or_default();
        let wire = Fields::decode(bytes)
            .map_err(|error| ConfigurationError::Undecodable(error.to_string()))?;
        Self::check(wire, &newest)
    }

    fn check(wire: Fields, newest: &Newest) -> Checked<Self> {
        const LONGEST: u64 = i64::MAX as u64;
        let collection_max_size = number(
            "collectionMaxSize",
            wire.collection_max_size,
            5 << 20,
            52_224..=LONGEST,
        )?;
        let ignored = ignored(&wire, newest)?;
        if let Some(level) = &wire.log_level {
            let levels = ["trace", "debug", "info", "warning", "error"];
            word("logLevel", level, &levels)?;
        }
        Ok(Self {
            aggregation_enabled: wire.aggregation_enabled.unwrap_or(true),
            aggregation_max_count: number(
                "aggregationMaxCount",
                wire.aggregation_max_count,
                u64::from(u32::MAX),
                1..=LONGEST,
            )?,
            aggregation_max_size: number(
                "aggregationMaxSize",
                wire.aggregation_max_size,
                51_200,
                64..=10 << 20,
            )?,
            cloudwatch_endpoint: endpoint(
                ("cloudwatchEndpoint", "cloudwatchPort"),
                wire.cloudwatch_endpoint,
                wire.cloudwatch_port,
            )?,
            collection_max_count: number(
                "collectionMaxCount",
                wire.collection_max_count,
                500,
                1..=500,
            )?,
            collection_max_size,
            connect_timeout: millis("connectTimeout", wire.connect_timeout, 6_000, 100..=300_000)?,
            core_dumps: wire.enable_core_dumps,
            fail_if_throttled: wire.fail_if_throttled.unwrap_or(false),
            kinesis_endpoint: endpoint(
                ("kinesisEndpoint", "kinesisPort"),
                wire.kinesis_endpoint,
                wire.kinesis_port,
            )?,
            max_connections: number("maxConnections", wire.max_connections, 24, 1..=256)?,
            metrics_granularity: granularity(
                "metricsGranularity",
                wire.metrics_granularity.as_deref().unwrap_or("shard"),
            )?,
            metrics_level: level(wire.metrics_level.as_deref().unwrap_or("detailed"))?,
            metrics_namespace: namespace(wire.metrics_namespace)?,
            metrics_upload_delay: millis(
                "metricsUploadDelay",
                wire.metrics_upload_delay,
                60_000,
                1..=60_000,
            )?,
            rate_limit: number("rateLimit", wire.rate_limit, 150, 1..=LONGEST)?,
            record_max_buffered_time: millis(
                "recordMaxBufferedTime",
                wire.record_max_buffered_time,
                100,
                0..=LONGEST,
            )?,
            record_ttl: millis("recordTtl", wire.record_ttl, 30_000, 100..=LONGEST)?,
            region: region(wire.region)?,
            request_timeout: millis("requestTimeout", wire.request_timeout, 6_000, 100..=600_000)?,
            verify_certificate: wire.verify_certificate.unwrap_or(true),
            proxy: proxy(
                wire.proxy_host,
                wire.proxy_port,
                wire.proxy_user_name,
                wire.proxy_password,
            )?,
            dimensions: dimensions(wire.additional_metrics_dims)?,
            is_newest: newest.describe_stream_summary_interval.is_some(),
            ignored,
        })
    }
}

/// What is said and has no effect here: there is one pool of threads, connections are opened as they are needed, and a
/// stream is described before its first record goes, and about every five minutes.
fn ignored(wire: &Fields, newest: &Newest) -> Checked<Vec<&'static str>> {
    const FIVE_MINUTES: u64 = 300_000;
    let fewest = number("minConnections", wire.min_connections, 1, 1..=16)?;
    let set = [
        ("minConnections", fewest > 1),
        (
            "threadingModel",
            wire.thread_config.is_some_and(|model| model > 0),
        ),
        (
            "threadPoolSize",
            wire.thread_pool_size.is_some_and(|size| size > 0),
        ),
        (
            "describeStreamSummaryInterval",
            (newest.describe_stream_summary_interval).is_some_and(|millis| millis != FIVE_MINUTES),
        ),
        (
            "recordDistributionStrategyDefault",
            (newest.record_distribution_strategy_default.as_ref())
                .is_some_and(|strategy| !strategy.is_empty()),
        ),
    ];
    let set = set.into_iter().filter(|(_, is_set)| *is_set);
    Ok(set.map(|(key, _)| key).collect())
}

fn number(
    key: &'static str,
    given: Option<u64>,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Checked<u64> {
    let value = given.unwrap_or(default);
    match allowed.contains(&value) {
        true => Ok(value),
        false => Err(ConfigurationError::OutOfRange {
            key,
            value: value.to_string(),
            allowed: format!("{} to {}", allowed.start(), allowed.end()),
        }),
    }
}

/// A time that is as good as for ever is a hundred years: what is added to it does not overflow.
fn millis(
    key: &'static str,
    given: Option<u64>,
    default: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Checked<Duration> {
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let millis = number(key, given, default, allowed)?;
    Ok(Duration::from_millis(millis).min(FOR_EVER))
}

fn out_of(key: &'static str, value: &str, allowed: &str) -> ConfigurationError {
    ConfigurationError::OutOfRange {
        key,
        value: format!("{value:?}"),
        allowed: allowed.to_owned(),
    }
}

fn word(key: &'static str, value: &str, allowed: &[&str]) -> Checked<()> {
    match allowed.contains(&value) {
        true => Ok(()),
        false => Err(out_of(
            key,
            value,
            &format!("one of {}", allowed.join(", ")),
        )),
    }
}

fn granularity(key: &'static str, value: &str) -> Checked<Granularity> {
    word(key, value, &["global", "stream", "shard"])?;
    Ok(match value {
        "global" => Granularity::Global,
        "stream" => Granularity::Stream,
        _ => Granularity::Shard,
    })
}

fn level(value: &str) -> Checked<Level> {
    word("metricsLevel", value, &["none", "summary", "detailed"])?;
    Ok(match value {
        "none" => Level::None,
        "summary" => Level::Summary,
        _ => Level::Detailed,
    })
}

fn namespace(given: Option<String>) -> Checked<String> {
    let name = given.unwrap_or_else(|| "KinesisProducerLibrary".to_owned());
    let allowed = "1 to 255 characters that do not begin with AWS/";
    match (1..=255).contains(&name.chars().count()) && !name.starts_with("AWS/") {
        true => Ok(name),
        false => Err(out_of("metricsNamespace", &name, allowed)),
    }
}

/// An empty host is none.
fn endpoint(
    (key, port_key): (&'static str, &'static str),
    host: Option<String>,
    port: Option<u64>,
) -> Checked<Option<Endpoint>> {
    let port = port_number(port_key, port)?;
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Ok(None);
    };
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'\\');
    match host.bytes().all(allowed) {
        true => Ok(Some(Endpoint { host, port })),
        false => Err(out_of(
            key,
            &host,
            "a host's name or address, without a scheme or a port",
        )),
    }
}

fn port_number(key: &'static str, given: Option<u64>) -> Checked<u16> {
    let port = number(key, given, 443, 1..=u64::from(u16::MAX))?;
    Ok(u16::try_from(port).expect("in range"))
}

/// As `us-east-1` or `us-gov-west-1`; an empty one is none.
fn region(given: Option<String>) -> Checked<Option<String>> {
    let Some(region) = given.filter(|region| !region.is_empty()) else {
        return Ok(None);
    };
    let parts: Vec<&str> = region.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = |part: &&str| part.len() == 1 && part.as_bytes()[0].is_ascii_digit();
    let is_region = match parts.split_last() {
        Some((number, words)) => {
            is_number(number) && (2..=3).contains(&words.len()) && words.iter().all(is_word)
        }
        None => false,
    };
    match is_region {
        true => Ok(Some(region)),
        false => Err(out_of("region", &region, "a region like us-east-1")),
    }
}

fn proxy(
    host: Option<String>,
    port: Option<u64>,
    name: Option<String>,
    password: Option<String>,
) -> Checked<Option<Proxy>> {
    let port = port_number("proxyPort", port)?;
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Ok(None);
    };
    let name = name.filter(|name| !name.is_empty());
    let user = name.map(|name| (name, password.unwrap_or_default()));
    Ok(Some(Proxy { host, port, user }))
}

fn dimensions(given: Vec<FieldsOfDimension>) -> Checked<Vec<AdditionalDimension>> {
    let checked = given.into_iter().map(|dimension| {
        let given = dimension.granularity.as_deref().unwrap_or("shard");
        Ok(AdditionalDimension {
            granularity: granularity("additionalMetricsDimension", given)?,
            key: dimension.key.unwrap_or_default(),
            value: dimension.value.unwrap_or_default(),
        })
    });
    checked.collect()
}

#[cfg(test)]
mod tests;
