//! What `--verbose` tells about a message: its header, as a line of JSON on standard error.

use std::io::{self, Write};

use serde::Serialize;

use crate::hex::to_hex;
use crate::seal::EncryptionContext;
use crate::seal::message::{Content, EncryptedDataKeyRef, Message};

/// A header. `verified` says whether it is the writer's word, or whoever's.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    /// Which line or record it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    suite: String,
    message_id: String,
    context: EncryptionContext,
    encrypted_data_keys: Vec<KeyFacts>,
    /// `null`: the body is not in frames.
    frame_length: Option<u32>,
    plaintext_length: usize,
    signed: bool,
    verified: bool,
}

#[derive(Debug, Serialize)]
struct KeyFacts {
    provider: String,
    key: String,
    ciphertext_length: usize,
}

impl Facts {
    pub(super) fn of(number: Option<u64>, message: &Message<'_>, verified: bool) -> Self {
        Self {
            number,
            suite: message.suite().to_string(),
            message_id: to_hex(message.message_id()),
            context: message.context(),
            encrypted_data_keys: message.encrypted_data_keys().map(KeyFacts::of).collect(),
            frame_length: match message.content() {
                Content::Framed { frame_length } => Some(frame_length),
                Content::Unframed => None,
            },
            plaintext_length: message.plaintext_len(),
            signed: message.suite().signature().is_some(),
            verified,
        }
    }

    pub(super) fn say(&self) {
        let line = serde_json::to_string(self).expect("strings, numbers and maps of strings");
        // It may be closed; the plaintext is what was asked for.
        let _ = writeln!(io::stderr(), "{line}");
    }
}

impl KeyFacts {
    fn of(key: EncryptedDataKeyRef<'_>) -> Self {
        let name = key.to_owned().wrapping_key();
        let of_provider = format!("{}/", key.provider);
        Self {
            provider: key.provider.to_owned(),
            key: name.strip_prefix(&of_provider).unwrap_or(&name).to_owned(),
            ciphertext_length: key.ciphertext.len(),
        }
    }
}
