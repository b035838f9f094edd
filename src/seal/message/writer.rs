//! Plaintext → message.

mod settings;

use std::fmt;

use hkdf_lanes::{COMMITMENT_LEN, Committed, Deriver, LANES};
use zeroize::Zeroizing;

pub use self::settings::{Binding, Settings, WriteError};
use super::aead::{Aead, Cipher, IV_LEN, TAG_LEN};
use super::body::{
    BlockAad, BlockKind, FINAL_FRAME, FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, sequence_iv,
};
use super::context;
use super::derive::Extracted;
use super::edk::EncryptedDataKey;
use super::encoding::Encoding;
use super::header::{self, FRAMED};
use super::ids::{MessageId, MessageIds};
use super::secret::SecretKeyBytes;
use super::signature::SigningKey;
use super::suite::Version;

/// Writes messages under one data key. Immutable, so any number of jobs share it; the header between
/// message id and commitment is the same in each message and built once.
pub struct Writer {
    settings: Settings,
    keys: MessageKeys,
    signing_key: Option<SigningKey>,
    /// Version, type where there is one, suite.
    begin: Box<[u8]>,
    /// AAD, encrypted data keys, content type, frame length and what is fixed around them.
    middle: Box<[u8]>,
}

/// A message that has everything but its bytes.
struct Keyed<'a> {
    writer: &'a Writer,
    id: MessageId,
    /// Of a suite that commits.
    derived: &'a Committed,
    plaintext: &'a [u8],
}

impl Keyed<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match &self.writer.keys {
            MessageKeys::Committed(_) => {
                let (writer, derived) = (self.writer, self.derived);
                writer.write_committed(&self.id, derived, self.plaintext, out);
            }
            MessageKeys::Uncommitted(extracted) => {
                let writer = self.writer;
                writer.write_uncommitted(extracted, &self.id, self.plaintext, out);
            }
        }
    }
}

/// How a message's own key comes from the data key.
enum MessageKeys {
    Committed(Box<Deriver>),
    Uncommitted(Box<Extracted>),
}

impl Writer {
    /// `key` is the data key that was generated for this binding. The suite is the binding's.
    pub fn new(
        binding: Binding,
        key: &SecretKeyBytes,
        edks: &[EncryptedDataKey],
        settings: Settings,
    ) -> Result<Self, WriteError> {
        let suite = binding.suite;
        let settings = Settings { suite, ..settings };
        settings.check()?;
        let wrong_length = WriteError::KeyLength {
            suite,
            expected: suite.key_len(),
            found: key.len(),
        };
        if key.len() != suite.key_len() {
            return Err(wrong_length);
        }
        let keys = match suite.version() {
            Version::V1 => {
                MessageKeys::Uncommitted(Box::new(Extracted::new(suite, key.as_bytes())))
            }
            Version::V2 => {
                let key = key.as_bytes().try_into().map_err(|_| wrong_length)?;
                MessageKeys::Committed(Box::new(Deriver::new(settings.lanes, suite.id(), key)))
            }
        };
        let mut middle = Vec::new();
        context::serialize_field(&binding.context, &mut middle);
        write_keys(edks, &mut middle)?;
        middle.push(FRAMED);
        if suite.version() == Version::V1 {
            middle.extend_from_slice(&header::V1_FIXED);
        }
        middle.extend_from_slice(&settings.frame_length.to_be_bytes());
        Ok(Self {
            keys,
            signing_key: binding.signing_key,
            begin: header::begin(suite).into_boxed_slice(),
            middle: middle.into_boxed_slice(),
            settings,
        })
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Exact length of what [`Self::seal`] writes.
    pub fn sealed_len(&self, plaintext_len: usize) -> usize {
        let message = self.message_len(plaintext_len);
        self.settings.encoding.encoded_len(message)
    }

    /// Appends exactly [`Self::sealed_len`] bytes. The plaintext is copied once, to where its ciphertext
    /// will lie.
    pub fn seal(&self, message_id: MessageId, plaintext: &[u8], out: &mut Vec<u8>) {
        let mut encode = Encode::new(self.settings.encoding);
        match &self.keys {
            MessageKeys::Committed(deriver) => {
                let derived = deriver.derive(message_id.as_bytes());
                self.write_committed(&message_id, &derived, plaintext, encode.begin(out));
            }
            MessageKeys::Uncommitted(extracted) => {
                self.write_uncommitted(extracted, &message_id, plaintext, encode.begin(out));
            }
        }
        encode.end(out);
    }

    /// Appends one message for each plaintext, and to `ends` where in `out` each one ends. Several times
    /// faster than one by one where messages are small and the processor has lanes for it: then keys are
    /// derived several at a time. Reserve `out` and `ends` beforehand.
    pub fn seal_all<'a>(
        &self,
        ids: &mut MessageIds,
        plaintexts: impl IntoIterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
    ) {
        let mut encode = Encode::new(self.settings.encoding);
        self.derive_all(ids, plaintexts, |message| {
            message.write(encode.begin(out));
            encode.end(out);
            ends.push(out.len());
        });
    }

    /// The same, each message in a buffer of its own: for large ones, which are not all freed at once.
    pub fn seal_apart<'a>(
        &self,
        ids: &mut MessageIds,
        plaintexts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Vec<Vec<u8>> {
        let mut encode = Encode::new(self.settings.encoding);
        let mut sealed = Vec::new();
        self.derive_all(ids, plaintexts, |message| {
            let mut out = Vec::with_capacity(self.sealed_len(message.plaintext.len()));
            message.write(encode.begin(&mut out));
            encode.end(&mut out);
            sealed.push(out);
        });
        sealed
    }

    /// An id and a key for each plaintext, group by group.
    fn derive_all<'a>(
        &self,
        ids: &mut MessageIds,
        plaintexts: impl IntoIterator<Item = &'a [u8]>,
        mut each: impl FnMut(Keyed<'_>),
    ) {
        let mut plaintexts = plaintexts.into_iter();
        let mut group = Vec::with_capacity(LANES);
        let mut group_ids = Vec::with_capacity(LANES);
        let mut derived: [Committed; LANES] = Default::default();
        loop {
            group.extend(plaintexts.by_ref().take(LANES));
            if group.is_empty() {
                return;
            }
            ids.draw_many(group.len(), &mut group_ids);
            if let MessageKeys::Committed(deriver) = &self.keys {
                deriver.derive_many(&group_ids, &mut derived[..group.len()]);
            }
            for ((id, plaintext), derived) in group_ids.drain(..).zip(group.drain(..)).zip(&derived)
            {
                each(Keyed {
                    writer: self,
                    id,
                    derived,
                    plaintext,
                });
            }
        }
    }

    fn message_len(&self, plaintext_len: usize) -> usize {
        let frame_length = self.settings.frame_length as usize;
        let frames = plaintext_len.div_ceil(frame_length).max(1);
        let body = (frames - 1) * FRAME_OVERHEAD + FINAL_FRAME_OVERHEAD + plaintext_len;
        self.header_len() + body + self.settings.footer_len()
    }

    fn header_len(&self) -> usize {
        let version = self.settings.suite.version();
        let end = match version {
            Version::V1 => IV_LEN + TAG_LEN,
            Version::V2 => COMMITMENT_LEN + TAG_LEN,
        };
        self.begin.len() + version.message_id_len() + self.middle.len() + end
    }

    fn write_committed(
        &self,
        id: &MessageId,
        derived: &Committed,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) {
        let header_end: &[u8] = &derived.commitment;
        self.write(id.as_bytes(), &derived.key[..], header_end, plaintext, out);
    }

    /// Of the id's bytes it takes the first sixteen.
    fn write_uncommitted(
        &self,
        extracted: &Extracted,
        id: &MessageId,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) {
        let id = &id.as_bytes()[..Version::V1.message_id_len()];
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..self.settings.suite.key_len()];
        extracted.expand(id, key);
        self.write(id, key, &[], plaintext, out);
    }

    fn write(&self, id: &[u8], key: &[u8], commitment: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let message_len = self.message_len(plaintext.len());
        out.reserve(message_len);
        let start = out.len();
        out.extend_from_slice(&self.begin);
        out.extend_from_slice(id);
        out.extend_from_slice(&self.middle);
        out.extend_from_slice(commitment);
        let cipher = Cipher::new(self.settings.backend, key).expect("a suite has a key's length");
        let tag = cipher.seal(&[0; IV_LEN], &out[start..], &mut []);
        if self.settings.suite.version() == Version::V1 {
            out.extend_from_slice(&[0; IV_LEN]);
        }
        out.extend_from_slice(&tag);
        self.write_frames(&cipher, id, plaintext, out);
        if let Some(signing_key) = &self.signing_key {
            let signature = signing_key.sign(&out[start..]);
            let len = u16::try_from(signature.len()).expect("103");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&signature);
        }
        debug_assert_eq!(out.len() - start, message_len);
    }

    /// The final frame is never empty unless the plaintext is: a whole number of frames ends with a full
    /// final frame, which spares 32 bytes.
    fn write_frames(&self, cipher: &impl Aead, id: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let frame_length = self.settings.frame_length as usize;
        let mut rest = plaintext;
        let mut sequence: u32 = 1;
        while rest.len() > frame_length {
            let (frame, after) = rest.split_at(frame_length);
            out.extend_from_slice(&sequence.to_be_bytes());
            out.extend_from_slice(&sequence_iv(sequence));
            write_block(cipher, id, BlockKind::Frame, sequence, frame, out);
            rest = after;
            sequence = sequence
                .checked_add(1)
                .expect("a record has fewer than 2^32 frames");
        }
        let len = u32::try_from(rest.len()).expect("at most one frame length is left");
        out.extend_from_slice(&FINAL_FRAME.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&sequence_iv(sequence));
        out.extend_from_slice(&len.to_be_bytes());
        write_block(cipher, id, BlockKind::FinalFrame, sequence, rest, out);
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Where a message is written, and what becomes of it then.
struct Encode(Option<Vec<u8>>);

impl Encode {
    fn new(encoding: Encoding) -> Self {
        Self(match encoding {
            Encoding::Binary => None,
            Encoding::Base64 => Some(Vec::new()),
        })
    }

    fn begin<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        match &mut self.0 {
            None => out,
            Some(message) => {
                message.clear();
                message
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if let Some(message) = &self.0 {
            base64_simd::STANDARD.encode_append(message, out);
        }
    }
}

/// Ciphertext and tag.
fn write_block(
    cipher: &impl Aead,
    id: &[u8],
    kind: BlockKind,
    sequence: u32,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(plaintext);
    let aad = BlockAad::new(id, kind, sequence, plaintext.len());
    let tag = cipher.seal(&sequence_iv(sequence), aad.as_bytes(), &mut out[start..]);
    out.extend_from_slice(&tag);
}

fn write_keys(edks: &[EncryptedDataKey], out: &mut Vec<u8>) -> Result<(), WriteError> {
    let count = u16::try_from(edks.len()).unwrap_or(0);
    if count == 0 {
        return Err(WriteError::KeyCount { found: edks.len() });
    }
    out.extend_from_slice(&count.to_be_bytes());
    for edk in edks {
        let fields: [(&'static str, &[u8]); 3] = [
            ("name", edk.provider.as_bytes()),
            ("provider info", &edk.info),
            ("ciphertext", &edk.ciphertext),
        ];
        for (field, bytes) in fields {
            let len = u16::try_from(bytes.len()).map_err(|_| WriteError::KeyField {
                provider: edk.provider.clone(),
                field,
                found: bytes.len(),
            })?;
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
