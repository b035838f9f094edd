//! What the frames of a body have in common in both directions.
//!
//! Source: `data-format/message-body.md` and `data-format/message-body-aad.md`.

use super::aead::{IV_LEN, Iv, TAG_LEN};

/// Where a frame's sequence number would stand, this announces the final frame.
pub(super) const FINAL_FRAME: u32 = u32::MAX;

/// Sequence number, IV and tag.
pub(super) const FRAME_OVERHEAD: usize = 4 + IV_LEN + TAG_LEN;

/// The same, the announcement and the length.
pub(super) const FINAL_FRAME_OVERHEAD: usize = 4 + 4 + IV_LEN + 4 + TAG_LEN;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockKind {
    Frame,
    FinalFrame,
    /// An unframed body.
    Single,
}

impl BlockKind {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Frame => b"AWSKMSEncryptionClient Frame",
            Self::FinalFrame => b"AWSKMSEncryptionClient Final Frame",
            Self::Single => b"AWSKMSEncryptionClient Single Block",
        }
    }
}

/// Deterministic: safe only because every message has a key of its own.
pub(super) fn sequence_iv(sequence: u32) -> Iv {
    let mut iv = [0; IV_LEN];
    iv[8..].copy_from_slice(&sequence.to_be_bytes());
    iv
}

/// Associated data of one block: message id, label, sequence number, length. On the stack.
pub(super) struct BlockAad {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl BlockAad {
    const MAX: usize = 32 + 35 + 4 + 8;

    /// The message id in full: the specification's table still says 16 bytes, but for version 2 every
    /// implementation takes all 32.
    pub(super) fn new(message_id: &[u8], kind: BlockKind, sequence: u32, len: usize) -> Self {
        let mut aad = Self {
            bytes: [0; Self::MAX],
            len: 0,
        };
        aad.push(message_id);
        aad.push(kind.label());
        aad.push(&sequence.to_be_bytes());
        aad.push(&(len as u64).to_be_bytes());
        aad
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
