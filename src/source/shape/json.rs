//! JSON, appended to bytes.

/// `text` in quotes.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and memory can be written to");
}

pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect("a number is JSON, and memory can be written to");
}

/// `text` in quotes.
pub(super) fn string(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}
