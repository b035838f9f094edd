//! Plaintext → message, suite 0x0478.

use std::fmt;

use bytes::Bytes;

use super::aead::{Aead, AwsLc, Backend, IV_LEN, TAG_LEN, aes_256_gcm};
use super::body::{
    BlockAad, BlockKind, FINAL_FRAME, FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, sequence_iv,
};
use super::context::{self, ContextError, EncryptionContext, check_context};
use super::derive::{COMMITMENT_LEN, Committed, Deriver, LANES};
use super::header::{FRAMED, VERSION_2};
use super::ids::{MessageId, MessageIds};
use super::secret::PlaintextKey;
use super::suite::{Suite, Version};

/// A data key as it travels in the message: wrapped, with the name of what wrapped it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EncryptedDataKey {
    /// `aws-kms`, or the namespace of a raw wrapping key.
    pub provider: String,
    /// The KMS key's ARN, or what the raw wrapping key needs.
    pub info: Bytes,
    pub ciphertext: Bytes,
}

impl EncryptedDataKey {
    /// The provider id of a key that KMS wrapped.
    pub const KMS: &str = "aws-kms";

    /// The wrapping key's name, for messages: the ARN of a KMS key, `namespace/name` of a raw one.
    pub fn wrapping_key(&self) -> String {
        if self.provider == Self::KMS {
            return String::from_utf8_lossy(&self.info).into_owned();
        }
        // A raw AES key's info ends with tag length, IV length and IV.
        let name = self.info.len().saturating_sub(20);
        let name = String::from_utf8_lossy(&self.info[..name]);
        format!("{}/{name}", self.provider)
    }
}

/// Why messages can not be written with these parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(
        "frame length {found} is not a multiple of 128 from 128 to 2147483520: other AWS Encryption SDKs \
         would refuse it; 4096 is their default"
    )]
    FrameLength { found: u32 },
    #[error("a message needs from 1 to 65535 encrypted data keys, and there are {found}")]
    KeyCount { found: usize },
    #[error(
        "the encrypted data key of \"{provider}\" has a {field} of {found} bytes, and a message has room for 65535"
    )]
    KeyField {
        provider: String,
        field: &'static str,
        found: usize,
    },
}

/// Writes messages under one data key. Immutable, so any number of jobs share it; the header between
/// message id and commitment is the same in each message and built once.
pub struct Writer {
    deriver: Deriver,
    /// AAD, encrypted data keys, content type, frame length.
    middle: Box<[u8]>,
    frame_length: u32,
    backend: Backend,
}

impl Writer {
    /// `context` is what the data key was generated with.
    pub fn new(
        key: PlaintextKey,
        edks: &[EncryptedDataKey],
        context: &EncryptionContext,
        frame_length: u32,
    ) -> Result<Self, WriteError> {
        check_context(context)?;
        // Below 2^31: some implementations read a signed number.
        if frame_length == 0 || !frame_length.is_multiple_of(128) || frame_length >= 1 << 31 {
            return Err(WriteError::FrameLength {
                found: frame_length,
            });
        }
        let mut middle = Vec::new();
        context::serialize_field(context, &mut middle);
        write_keys(edks, &mut middle)?;
        middle.push(FRAMED);
        middle.extend_from_slice(&frame_length.to_be_bytes());
        Ok(Self {
            deriver: Deriver::new(Suite::COMMITTED, key.as_bytes()),
            middle: middle.into_boxed_slice(),
            frame_length,
            backend: Backend::default(),
        })
    }

    /// Encrypts with this backend; the bytes stay the same.
    #[must_use]
    pub fn with_backend(self, backend: Backend) -> Self {
        Self { backend, ..self }
    }

    /// Exact length of the message that [`Self::seal`] writes.
    pub fn sealed_len(&self, plaintext_len: usize) -> usize {
        let frames = plaintext_len.div_ceil(self.frame_length as usize).max(1);
        self.header_len() + (frames - 1) * FRAME_OVERHEAD + FINAL_FRAME_OVERHEAD + plaintext_len
    }

    /// Appends exactly [`Self::sealed_len`] bytes. The plaintext is copied once, to where its ciphertext
    /// will lie.
    pub fn seal(&self, message_id: MessageId, plaintext: &[u8], out: &mut Vec<u8>) {
        let derived = self.deriver.derive(&message_id);
        self.write(message_id.as_bytes(), &derived, plaintext, out);
    }

    /// Appends one message for each plaintext, and to `ends` where in `out` each one ends. Several times
    /// faster than one by one where messages are small and the processor has AVX-512: then keys are derived
    /// eight at a time. Reserve `out` and `ends` beforehand.
    pub fn seal_all<'a>(
        &self,
        ids: &mut MessageIds,
        plaintexts: impl IntoIterator<Item = &'a [u8]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<usize>,
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
            group_ids.extend(group.iter().map(|_| ids.draw()));
            self.deriver
                .derive_many(&group_ids, &mut derived[..group.len()]);
            let parts = group_ids.drain(..).zip(&derived).zip(group.drain(..));
            for ((id, derived), plaintext) in parts {
                self.write(id.as_bytes(), derived, plaintext, out);
                ends.push(out.len());
            }
        }
    }

    pub fn frame_length(&self) -> u32 {
        self.frame_length
    }

    fn header_len(&self) -> usize {
        1 + 2 + Version::V2.message_id_len() + self.middle.len() + COMMITMENT_LEN + TAG_LEN
    }

    fn write(&self, id: &[u8; 32], derived: &Committed, plaintext: &[u8], out: &mut Vec<u8>) {
        if self.backend.is_aws_lc() {
            let cipher = AwsLc::new(&derived.key);
            self.write_with(&cipher, id, &derived.commitment, plaintext, out);
        } else {
            let cipher = aes_256_gcm(&derived.key);
            self.write_with(&cipher, id, &derived.commitment, plaintext, out);
        }
    }

    fn write_with(
        &self,
        cipher: &impl Aead,
        id: &[u8; 32],
        commitment: &[u8; COMMITMENT_LEN],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.reserve(self.sealed_len(plaintext.len()));
        out.push(VERSION_2);
        out.extend_from_slice(&Suite::COMMITTED.id().to_be_bytes());
        out.extend_from_slice(id);
        out.extend_from_slice(&self.middle);
        out.extend_from_slice(commitment);
        let tag = cipher.seal(&[0; IV_LEN], &out[start..], &mut []);
        out.extend_from_slice(&tag);

        self.write_frames(cipher, id, plaintext, out);
        debug_assert_eq!(out.len() - start, self.sealed_len(plaintext.len()));
    }

    /// The final frame is never empty unless the plaintext is: a whole number of frames ends with a full
    /// final frame, which spares 32 bytes.
    fn write_frames(&self, cipher: &impl Aead, id: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
        let mut rest = plaintext;
        let mut sequence: u32 = 1;
        while rest.len() > self.frame_length as usize {
            let (frame, after) = rest.split_at(self.frame_length as usize);
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
            .field("suite", &Suite::COMMITTED)
            .field("frame_length", &self.frame_length)
            .finish_non_exhaustive()
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn writer(context: &EncryptionContext, frame_length: u32) -> Result<Writer, WriteError> {
        let edk = EncryptedDataKey {
            provider: "aws-kms".into(),
            info: vec![b'a'; 75].into(),
            ciphertext: vec![0; 184].into(),
        };
        let key = PlaintextKey::from_slice(&[7; 32]).expect("32 bytes");
        Writer::new(key, &[edk], context, frame_length)
    }

    fn cars() -> EncryptionContext {
        [("Kinesis", "cars"), ("stream", "orders")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    /// `reference` figure: what a message under a KMS key adds to its plaintext.
    #[test]
    fn one_frame_under_kms_adds_437_bytes() {
        let writer = writer(&cars(), 4096).expect("valid");
        assert_eq!(writer.sealed_len(0), 437);
        assert_eq!(writer.sealed_len(4096), 437 + 4096);
        assert_eq!(writer.sealed_len(4097), 437 + 32 + 4097);
    }

    #[test]
    fn frame_lengths_that_others_refuse_are_refused() {
        for found in [0, 1, 127, 4097, 1 << 31] {
            let error = writer(&cars(), found).expect_err("refused");
            assert_eq!(error, WriteError::FrameLength { found });
        }
    }

    #[test]
    fn a_message_without_a_key_is_refused() {
        let key = PlaintextKey::from_slice(&[7; 32]).expect("32 bytes");
        let error = Writer::new(key, &[], &cars(), 4096).expect_err("refused");
        assert_eq!(error, WriteError::KeyCount { found: 0 });
    }

    #[test]
    fn an_oversized_key_field_is_refused_by_name() {
        let edk = EncryptedDataKey {
            provider: "shop".into(),
            info: vec![0; 65536].into(),
            ciphertext: Bytes::new(),
        };
        let key = PlaintextKey::from_slice(&[7; 32]).expect("32 bytes");
        let error = Writer::new(key, &[edk], &cars(), 4096).expect_err("refused");
        assert!(error.to_string().contains("\"shop\""), "{error}");
        assert!(error.to_string().contains("provider info"), "{error}");
    }

    #[test]
    fn the_same_id_and_plaintext_give_the_same_bytes() {
        let writer = writer(&cars(), 128).expect("valid");
        let seal = || {
            let mut out = Vec::new();
            writer.seal(MessageId::fixed([9; 32]), &[1; 300], &mut out);
            out
        };
        assert_eq!(seal(), seal());
    }

    proptest! {
        #[test]
        fn sealed_len_is_the_length_sealed(
            plaintext in prop::collection::vec(any::<u8>(), 0..2000),
            frames in 1u32..10,
            before in 0usize..50,
        ) {
            let writer = writer(&cars(), frames * 128).expect("valid");
            let mut out = vec![0xee; before];
            writer.seal(MessageId::fixed([3; 32]), &plaintext, &mut out);
            prop_assert_eq!(out.len() - before, writer.sealed_len(plaintext.len()));
            prop_assert!(out[..before].iter().all(|byte| *byte == 0xee));
        }
    }
}
