//! Metadata around a message: one JSON object for each record.
//!
//! ```json
//! {"timestamp":"2026-11-25T07:43:28.123Z","host":"web1","file":"/var/log/a.log","offset":42,"labels":{"a":"b"},"message":"…"}
//! ```
//!
//! What was read is there without loss: as a string; as the object it is, where it is known to be JSON; or in base64,
//! under the name with `_base64` behind it, where it is not UTF-8, or where a string would be more than twice as long as
//! what was read, which only control characters come to.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::value::RawValue;

use super::json;

/// `envelope` of a `[[source]]`, with its `labels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub fields: Vec<Field>,
    /// The same for every record of the source, below `labels`.
    pub labels: Vec<(String, String)>,
    /// The name of what was read.
    pub message_key: String,
    /// A message that is a JSON object is put in as it is, and not as a string.
    pub nest_json: bool,
}

/// What an envelope tells of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// When it was read.
    Timestamp,
    Host,
    /// The path under which its file was found.
    File,
    /// Of its first byte in the file.
    Offset,
    /// The process that sent it: `pid`, `uid`, `gid`.
    Peer,
}

impl Envelope {
    pub const MESSAGE_KEY: &str = "message";
    /// Names that are not the message's.
    pub const TAKEN: [&str; 6] = ["timestamp", "host", "file", "offset", "peer", "labels"];

    fn has(&self, field: Field) -> bool {
        self.fields.contains(&field)
    }
}

/// Who has sent a message.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) pid: Option<i32>,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// An [`Envelope`] for what comes from one file or client: all that is the same for each record is written already.
#[derive(Debug, Clone)]
pub(super) struct Wrapper {
    has_time: bool,
    /// Between time and offset, each with the comma behind it.
    same: String,
    has_offset: bool,
    labels: String,
    /// `"message":`
    message: String,
    /// `"message_base64":`
    base64: String,
    nest_json: bool,
}

impl Wrapper {
    /// Of a message as a string: each byte is escaped with one more, or all of it is in base64.
    pub(super) const FACTOR: usize = 2;
    /// `"timestamp":"2026-11-25T07:43:28.123Z",`, with room for years to come
    const TIME: usize = 50;
    /// `"offset":18446744073709551615,`
    const OFFSET: usize = 30;
    /// Braces, quotes, and what base64 has more of the shortest messages.
    const AROUND: usize = 8;

    pub(super) fn new(envelope: &Envelope, host: &str, origin: &Path) -> Self {
        let mut same = String::new();
        if envelope.has(Field::Host) {
            push_member(&mut same, "host", &json::string(host));
        }
        if envelope.has(Field::File) {
            push_member(&mut same, "file", &json::string(&origin.to_string_lossy()));
        }
        let mut labels = String::new();
        if !envelope.labels.is_empty() {
            let mut members = String::new();
            for (name, value) in &envelope.labels {
                push_member(&mut members, name, &json::string(value));
            }
            members.pop();
            push_member(&mut labels, "labels", &format!("{{{members}}}"));
        }
        let key = &envelope.message_key;
        Self {
            has_time: envelope.has(Field::Timestamp),
            same,
            has_offset: envelope.has(Field::Offset),
            labels,
            message: format!("{}:", json::string(key)),
            base64: format!("{}:", json::string(&format!("{key}_base64"))),
            nest_json: envelope.nest_json,
        }
    }

    pub(super) fn sent_by(&mut self, envelope: &Envelope, sender: &Sender) {
        if !envelope.has(Field::Peer) {
            return;
        }
        let Sender { pid, uid, gid } = sender;
        let mut peer = String::from("{");
        if let Some(pid) = pid {
            let _ = write!(peer, "\"pid\":{pid},");
        }
        let _ = write!(peer, "\"uid\":{uid},\"gid\":{gid}}}");
        push_member(&mut self.same, "peer", &peer);
    }

    /// Bytes around a message, at most.
    pub(super) fn fixed(&self) -> usize {
        Self::TIME
            + self.same.len()
            + Self::OFFSET
            + self.labels.len()
            + self.base64.len()
            + Self::AROUND
    }

    /// Appends a message that begins at offset `at` and was read at `time`. `is_json`: it is a JSON value for certain.
    pub(super) fn wrap(
        &self,
        message: &[u8],
        is_json: bool,
        at: u64,
        time: &str,
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        if self.has_time {
            out.extend_from_slice(b"\"timestamp\":\"");
            out.extend_from_slice(time.as_bytes());
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(self.same.as_bytes());
        if self.has_offset {
            out.extend_from_slice(b"\"offset\":");
            json::push_number(out, at);
            out.push(b',');
        }
        out.extend_from_slice(self.labels.as_bytes());
        self.push_message(message, is_json, out);
        out.push(b'}');
    }

    fn push_message(&self, message: &[u8], is_json: bool, out: &mut Vec<u8>) {
        let begin = out.len();
        out.extend_from_slice(self.message.as_bytes());
        if is_json || (self.nest_json && is_object(message)) {
            out.extend_from_slice(message);
            return;
        }
        let text = out.len();
        if let Ok(message) = std::str::from_utf8(message) {
            json::push_string(out, message);
            let is_short = out.len() - text <= Self::FACTOR * message.len() + "\"\"".len();
            if is_short {
                return;
            }
        }
        out.truncate(begin);
        out.extend_from_slice(self.base64.as_bytes());
        out.push(b'"');
        base64_simd::STANDARD.encode_append(message, out);
        out.push(b'"');
    }
}

fn push_member(out: &mut String, name: &str, value: &str) {
    let name = json::string(name);
    let _ = write!(out, "{name}:{value},");
}

/// Whole and well-formed, in UTF-8.
fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<&RawValue>(text).is_ok()
}
