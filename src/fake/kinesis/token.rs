//! Opaque tokens: shard iterators and the NextTokens of ListShards and ListStreamConsumers. Clients must not look inside; we put the
//! fields there, so that the server need not remember what it handed out.

use std::time::Duration;

use super::Stream;

/// All kinds expire after 5 minutes (API_GetShardIterator, API_ListShards, API_ListStreamConsumers).
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);

/// Not in a stream name or shard id.
const SEPARATOR: char = '\n';

/// What all kinds hold: when and for which stream they were made, and fields of their own.
#[derive(Debug)]
pub(crate) struct Token {
    issued: u64,
    created: u64,
    pub(crate) stream: String,
    pub(crate) fields: Vec<String>,
}

impl Token {
    pub(crate) fn write(kind: &str, stream: &Stream, now_millis: u64, fields: &[&str]) -> String {
        let mut text = format!(
            "{kind}{SEPARATOR}{now_millis}{SEPARATOR}{}{SEPARATOR}{}",
            stream.created,
            stream.name()
        );
        for field in fields {
            text.push(SEPARATOR);
            text.push_str(field);
        }
        base64_simd::STANDARD.encode_to_string(text)
    }

    pub(crate) fn read(kind: &str, token: &str, fields: usize) -> Option<Self> {
        let bytes = base64_simd::STANDARD.decode_to_vec(token.as_bytes()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.split(SEPARATOR);
        if parts.next()? != kind {
            return None;
        }
        let token = Self {
            issued: parts.next()?.parse().ok()?,
            created: parts.next()?.parse().ok()?,
            stream: parts.next()?.to_owned(),
            fields: parts.map(str::to_owned).collect(),
        };
        (token.fields.len() == fields).then_some(token)
    }

    pub(crate) fn is_expired(&self, now_millis: u64) -> bool {
        u128::from(now_millis.saturating_sub(self.issued)) > LIFETIME.as_millis()
    }

    /// A stream that was deleted and made again is another one.
    pub(crate) fn is_of(&self, stream: &Stream) -> bool {
        self.created == stream.created
    }
}
