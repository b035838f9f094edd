//! The `Configuration` message as it is on the wire: what is decoded, and how a client writes it.

use bytes::Bytes;
use prost::Message as _;

/// As it is on the wire: nothing is checked. What is `None` is not said, and at its default.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Fields {
    #[prost(bool, optional, tag = "1")]
    pub aggregation_enabled: Option<bool>,
    #[prost(uint64, optional, tag = "2")]
    pub aggregation_max_count: Option<u64>,
    /// Bytes.
    #[prost(uint64, optional, tag = "3")]
    pub aggregation_max_size: Option<u64>,
    /// A host, without scheme and port.
    #[prost(string, optional, tag = "4")]
    pub cloudwatch_endpoint: Option<String>,
    #[prost(uint64, optional, tag = "5")]
    pub cloudwatch_port: Option<u64>,
    /// Kinesis records in a call.
    #[prost(uint64, optional, tag = "6")]
    pub collection_max_count: Option<u64>,
    /// Bytes.
    #[prost(uint64, optional, tag = "7")]
    pub collection_max_size: Option<u64>,
    /// Milliseconds, as all times here.
    #[prost(uint64, optional, tag = "8")]
    pub connect_timeout: Option<u64>,
    #[prost(bool, optional, tag = "9")]
    pub enable_core_dumps: Option<bool>,
    #[prost(bool, optional, tag = "10")]
    pub fail_if_throttled: Option<bool>,
    #[prost(string, optional, tag = "11")]
    pub kinesis_endpoint: Option<String>,
    #[prost(uint64, optional, tag = "12")]
    pub kinesis_port: Option<u64>,
    #[prost(string, optional, tag = "13")]
    pub log_level: Option<String>,
    /// Calls under way at once.
    #[prost(uint64, optional, tag = "14")]
    pub max_connections: Option<u64>,
    #[prost(string, optional, tag = "15")]
    pub metrics_granularity: Option<String>,
    #[prost(string, optional, tag = "16")]
    pub metrics_level: Option<String>,
    #[prost(string, optional, tag = "17")]
    pub metrics_namespace: Option<String>,
    #[prost(uint64, optional, tag = "18")]
    pub metrics_upload_delay: Option<u64>,
    #[prost(uint64, optional, tag = "19")]
    pub min_connections: Option<u64>,
    /// Percent of a shard's quota.
    #[prost(uint64, optional, tag = "20")]
    pub rate_limit: Option<u64>,
    #[prost(uint64, optional, tag = "21")]
    pub record_max_buffered_time: Option<u64>,
    #[prost(uint64, optional, tag = "22")]
    pub record_ttl: Option<u64>,
    #[prost(string, optional, tag = "23")]
    pub region: Option<String>,
    #[prost(uint64, optional, tag = "24")]
    pub request_timeout: Option<u64>,
    #[prost(bool, optional, tag = "25")]
    pub verify_certificate: Option<bool>,
    #[prost(string, optional, tag = "26")]
    pub proxy_host: Option<String>,
    #[prost(uint64, optional, tag = "27")]
    pub proxy_port: Option<u64>,
    #[prost(string, optional, tag = "28")]
    pub proxy_user_name: Option<String>,
    #[prost(string, optional, tag = "29")]
    pub proxy_password: Option<String>,
    /// `PER_REQUEST` or `POOLED`: there is one pool of threads here.
    #[prost(uint64, optional, tag = "30")]
    pub thread_config: Option<u64>,
    #[prost(uint32, optional, tag = "31")]
    pub thread_pool_size: Option<u32>,
    #[prost(message, repeated, tag = "128")]
    pub additional_metrics_dims: Vec<FieldsOfDimension>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FieldsOfDimension {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub granularity: Option<String>,
}

/// The two fields as clients of late 2026 and newer have them; in older ones they are of other types.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Newest {
    #[prost(uint64, optional, tag = "32")]
    pub describe_stream_summary_interval: Option<u64>,
    #[prost(string, optional, tag = "33")]
    pub record_distribution_strategy_default: Option<String>,
}

/// The two fields as clients from 0.15 to 1.0.4 have them. They mean nothing any more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct WithSts {
    #[prost(string, optional, tag = "32")]
    sts_endpoint: Option<String>,
    #[prost(uint64, optional, tag = "33")]
    sts_port: Option<u64>,
}

/// What a client's fields 32 and 33 are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LastFields<'a> {
    /// It has none: 0.12 to 0.14, and 1.0.5 to 1.0.8.
    #[default]
    None,
    /// 0.15 to 1.0.4.
    Sts { endpoint: &'a str, port: u64 },
    /// Of late 2026 and newer.
    Strategies {
        /// Milliseconds.
        describe_interval: u64,
        default: &'a str,
    },
}

impl Fields {
    /// The message, as a client whose last two fields are these writes it.
    pub fn encode_with(&self, last: LastFields<'_>) -> Bytes {
        let mut bytes = self.encode_to_vec();
        bytes.extend(match last {
            LastFields::None => Vec::new(),
            LastFields::Sts { endpoint, port } => WithSts {
                sts_endpoint: Some(endpoint.to_owned()),
                sts_port: Some(port),
            }
            .encode_to_vec(),
            LastFields::Strategies {
                describe_interval,
                default,
            } => Newest {
                describe_stream_summary_interval: Some(describe_interval),
                record_distribution_strategy_default: Some(default.to_owned()),
            }
            .encode_to_vec(),
        });
        bytes.into()
    }
}
