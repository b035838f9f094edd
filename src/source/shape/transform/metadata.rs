//! `ADDMETADATA`.

use crate::source::shape::json;

/// An object of `metadata` and the line as `data`; and, where it is wanted, of the time it was read at as `ts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddMetadata {
    has_time: bool,
    /// `"metadata":…,"data":`
    before: String,
}

impl AddMetadata {
    /// `metadata` is JSON already.
    pub fn new(metadata: &serde_json::value::RawValue, has_time: bool) -> Self {
        Self {
            has_time,
            before: format!("\"metadata\":{metadata},\"data\":"),
        }
    }

    pub(super) fn apply(&self, line: &str, time: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        if self.has_time {
            out.extend_from_slice(b"\"ts\":\"");
            out.extend_from_slice(time.as_bytes());
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(self.before.as_bytes());
        json::push_string(out, line);
        out.push(b'}');
    }

    /// With room for the years to come.
    pub(super) fn fixed(&self) -> usize {
        "\"ts\":\"2026-11-25T07:43:28.123Z\",".len() + 8 + self.before.len() + "{}\"\"".len()
    }
}
