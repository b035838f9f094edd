//! The body of a message: frames, or one unframed block.
//!
//! Source: `data-format/message-body.md` and `data-format/message-body-aad.md`.

use super::aead::{IV_LEN, Iv, TAG_LEN, Tag};
use super::cursor::Cursor;
use super::header::Content;
use super::reader::ReadError;
use super::suite::Version;

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

/// One authenticated piece of a body, as slices of the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) kind: BlockKind,
    pub(super) sequence: u32,
    pub(super) iv: &'a Iv,
    pub(super) ciphertext: &'a [u8],
    pub(super) tag: &'a Tag,
}

/// Reads the blocks of a body in order. Checks sequence and lengths; the tags are the reader's business.
pub(super) struct Blocks<'a> {
    cursor: Cursor<'a>,
    version: Version,
    content: Content,
    sequence: u32,
    ended: bool,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(cursor: Cursor<'a>, version: Version, content: Content) -> Self {
        Self {
            cursor,
            version,
            content,
            sequence: 1,
            ended: false,
        }
    }

    /// `None` after the last block.
    pub(super) fn read(&mut self) -> Result<Option<Block<'a>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let block = match self.content {
            Content::Framed { frame_length } => self.frame(frame_length)?,
            Content::Unframed => self.single()?,
        };
        // Version 2 has always had deterministic IVs. Version 1 messages from before 2017 have random ones.
        if self.version == Version::V2 && *block.iv != sequence_iv(block.sequence) {
            return Err(ReadError::Malformed {
                part: "IV of a frame",
                reason: "is not its sequence number",
            });
        }
        if block.kind == BlockKind::Frame {
            self.sequence += 1;
        } else {
            self.ended = true;
        }
        Ok(Some(block))
    }

    /// What follows the blocks read so far.
    pub(super) fn into_cursor(self) -> Cursor<'a> {
        self.cursor
    }

    fn frame(&mut self, frame_length: u32) -> Result<Block<'a>, ReadError> {
        let announced = self.cursor.u32("sequence number")?;
        let kind = if announced == FINAL_FRAME {
            BlockKind::FinalFrame
        } else {
            BlockKind::Frame
        };
        let found = match kind {
            BlockKind::FinalFrame => self.cursor.u32("sequence number")?,
            _ => announced,
        };
        if found != self.sequence {
            return Err(ReadError::Sequence {
                expected: self.sequence,
                found,
            });
        }
        let iv = self.cursor.array("IV of a frame")?;
        let len = match kind {
            BlockKind::FinalFrame => self.cursor.u32("length of the final frame")?,
            _ => frame_length,
        };
        if len > frame_length {
            return Err(ReadError::Malformed {
                part: "final frame",
                reason: "is longer than a frame",
            });
        }
        self.block(kind, iv, len.into())
    }

    fn single(&mut self) -> Result<Block<'a>, ReadError> {
        let iv = self.cursor.array("IV of the body")?;
        let len = self.cursor.u64("length of the body")?;
        self.block(BlockKind::Single, iv, len)
    }

    fn block(&mut self, kind: BlockKind, iv: &'a Iv, len: u64) -> Result<Block<'a>, ReadError> {
        // A length that no memory holds is a length that the message lacks.
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        Ok(Block {
            kind,
            sequence: self.sequence,
            iv,
            ciphertext: self.cursor.take(len, "body")?,
            tag: self.cursor.array("tag of a frame")?,
        })
    }
}
