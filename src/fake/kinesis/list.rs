//! ListShards: filters and paging.

use serde::Deserialize;
use serde_json::{Value, json};

use super::read::millis_of;
use super::shard::Shard;
use super::token::Token;
use super::{Kinesis, Stream};
use crate::fake::protocol::{ApiError, json_bytes, parse};

/// Default and cap of MaxResults (API_ListShards).
const MOST_RESULTS: usize = 1000;

const KIND: &str = "shards";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListShards {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    next_token: Option<String>,
    exclusive_start_shard_id: Option<String>,
    max_results: Option<i64>,
    stream_creation_timestamp: Option<f64>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ShardFilter {
    r#type: Option<String>,
    shard_id: Option<String>,
    timestamp: Option<f64>,
}

/// Which shards are meant, by what was so at a time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    All,
    Latest,
    /// Open at that time.
    At(u64),
    /// Open at that time or since.
    From(u64),
}

impl Kinesis {
    pub(super) fn list_shards(&self, body: &[u8]) -> Result<Vec<u8>, ApiError> {
        let request: ListShards = parse(body)?;
        let now = self.clock.now_millis();
        let most = request.page_size()?;
        let (stream, filter, after) = match &request.next_token {
            Some(token) => self.resume(&request, token, now)?,
            None => {
                let stream = self.stream(
                    request.stream_name.as_deref(),
                    request.stream_arn.as_deref(),
                )?;
                let (filter, after) = request.filter(&stream, now)?;
                (stream, filter, after)
            }
        };
        let table = stream.shards();
        let mut following = table
            .all()
            .iter()
            .filter(|shard| shard.id() > after.as_str() && filter.takes(shard));
        let page: Vec<_> = following.by_ref().take(most).collect();
        let shards: Vec<Value> = page.iter().map(|shard| shard.describe()).collect();
        let mut answer = json!({ "Shards": shards });
        if let (Some(_), Some(last)) = (following.next(), page.last()) {
            answer["NextToken"] =
                Token::write(KIND, &stream, now, &[&filter.write(), last.id()]).into();
        }
        Ok(json_bytes(&answer))
    }

    /// A token stands for the stream, the filter and the place: nothing of that may be given beside it.
    fn resume(
        &self,
        request: &ListShards,
        token: &str,
        now: u64,
    ) -> Result<(std::sync::Arc<Stream>, Filter, String), ApiError> {
        if request.stream_name.is_some() || request.stream_arn.is_some() {
            return Err(ApiError::invalid_argument(
                "NextToken and StreamName cannot be provided together.",
            ));
        }
        if request.exclusive_start_shard_id.is_some()
            || request.stream_creation_timestamp.is_some()
            || request.shard_filter.is_some()
        {
            return Err(ApiError::invalid_argument(
                "NextToken cannot be provided together with ExclusiveStartShardId, StreamCreationTimestamp or \
                 ShardFilter.",
            ));
        }
        let invalid = || ApiError::invalid_argument("Invalid NextToken.");
        let token = Token::read(KIND, token, 2).ok_or_else(invalid)?;
        if token.is_expired(now) {
            return Err(ApiError::new(
                "ExpiredNextTokenException",
                "NextToken expired. It was created more than 300 seconds ago.",
            ));
        }
        let stream = self.stream(Some(&token.stream), None)?;
        if !token.is_of(&stream) {
            return Err(invalid());
        }
        let filter = Filter::read(&token.fields[0]).ok_or_else(invalid)?;
        Ok((stream, filter, token.fields[1].clone()))
    }
}

impl ListShards {
    fn page_size(&self) -> Result<usize, ApiError> {
        match self.max_results {
            None => Ok(MOST_RESULTS),
            Some(n) => usize::try_from(n)
                .ok()
                .filter(|n| (1..=10_000).contains(n))
                .map(|n| n.min(MOST_RESULTS))
                .ok_or_else(|| {
                    ApiError::validation("maxResults", "Member must have value from 1 to 10000")
                }),
        }
    }

    /// The filter, and the shard id after which to start.
    fn filter(&self, stream: &Stream, now: u64) -> Result<(Filter, String), ApiError> {
        let after = self.exclusive_start_shard_id.clone().unwrap_or_default();
        let Some(filter) = &self.shard_filter else {
            return Ok((Filter::All, after));
        };
        let at = || {
            filter.timestamp.map(millis_of).ok_or_else(|| {
                ApiError::invalid_argument("ShardFilter with a timestamp type needs Timestamp.")
            })
        };
        Ok(match filter.r#type.as_deref() {
            Some("AT_LATEST") => (Filter::Latest, after),
            Some("AT_TRIM_HORIZON") => (Filter::At(stream.horizon(now)), after),
            Some("FROM_TRIM_HORIZON") => (Filter::From(stream.horizon(now)), after),
            Some("AT_TIMESTAMP") => (Filter::At(at()?), after),
            Some("FROM_TIMESTAMP") => (Filter::From(at()?), after),
            Some("AFTER_SHARD_ID") => {
                let id = filter.shard_id.clone().ok_or_else(|| {
                    ApiError::invalid_argument("ShardFilter AFTER_SHARD_ID needs ShardId.")
                })?;
                (Filter::All, id.max(after))
            }
            _ => {
                return Err(ApiError::validation(
                    "shardFilter.type",
                    "Member must satisfy enum value set: [AT_TRIM_HORIZON, FROM_TIMESTAMP, AT_LATEST, \
                     AFTER_SHARD_ID, AT_TIMESTAMP, FROM_TRIM_HORIZON]",
                ));
            }
        })
    }
}

impl Filter {
    fn takes(self, shard: &Shard) -> bool {
        let closed = shard.closed_at();
        match self {
            Self::All => true,
            Self::Latest => closed.is_none(),
            Self::At(time) => shard.created <= time && closed.is_none_or(|closed| closed > time),
            Self::From(time) => closed.is_none_or(|closed| closed >= time),
        }
    }

    fn write(self) -> String {
        match self {
            Self::All => "all".to_owned(),
            Self::Latest => "latest".to_owned(),
            Self::At(time) => format!("at {time}"),
            Self::From(time) => format!("from {time}"),
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            None if text == "all" => Some(Self::All),
            None if text == "latest" => Some(Self::Latest),
            Some(("at", time)) => time.parse().ok().map(Self::At),
            Some(("from", time)) => time.parse().ok().map(Self::From),
            _ => None,
        }
    }
}
