//! Plaintext → message.

use std::fmt;

use zeroize::Zeroizing;

use super::aead::{Aead, Backend, Cipher, IV_LEN, TAG_LEN};
use super::body::{
    BlockAad, BlockKind, FINAL_FRAME, FINAL_FRAME_OVERHEAD, FRAME_OVERHEAD, sequence_iv,
};
use super::context::{
    self, ContextError, EncryptionContext, PUBLIC_KEY, check_context, check_length,
};
use super::derive::{COMMITMENT_LEN, Committed, Deriver, Extracted, LANES, Lanes};
use super::edk::EncryptedDataKey;
use super::encoding::Encoding;
use super::header::{self, FRAMED};
use super::ids::{MessageId, MessageIds};
use super::secret::SecretKeyBytes;
use super::signature::{SIGNATURE_LEN, SigningKey};
use super::suite::{Suite, Version};

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub suite: Suite,
    /// Bytes of plaintext that are authenticated as one: a multiple of 128 below 2^31.
    pub frame_length: u32,
    pub encoding: Encoding,
    pub backend: Backend,
    pub lanes: Lanes,
}

impl Default for Settings {
    /// As the AWS Encryption SDK writes them, without a signature.
    fn default() -> Self {
        Self {
            suite: Suite::COMMITTED,
            frame_length: 4096,
            encoding: Encoding::Binary,
            backend: Backend::Auto,
            lanes: Lanes::Auto,
        }
    }
}

impl Settings {
    /// Whether messages can be written so.
    pub fn check(&self) -> Result<(), WriteError> {
        if !self.suite.is_written() {
            return Err(WriteError::Suite { found: self.suite });
        }
        // Below 2^31: some implementations read a signed number.
        let found = self.frame_length;
        if found == 0 || !found.is_multiple_of(128) || found >= 1 << 31 {
            return Err(WriteError::FrameLength { found });
        }
        Ok(())
    }

    /// What a message of one frame adds to its plaintext, its encrypted data keys apart, before encoding.
    pub fn overhead(&self, context: &EncryptionContext) -> usize {
        let mut context = context::serialized_len(context);
        if self.suite.signature().is_some() {
            context += PUBLIC_KEY_PAIR + if context == 0 { 2 } else { 0 };
        }
        self.fixed_header_len() + 2 + context + 2 + FINAL_FRAME_OVERHEAD + self.footer_len()
    }

    /// Exact length of a message as [`Writer::seal`] writes it, told without a key. `keys_len`: what its encrypted
    /// data keys take, the lengths of their fields included.
    pub fn sealed_len(
        &self,
        context: &EncryptionContext,
        keys_len: usize,
        plaintext_len: usize,
    ) -> usize {
        let frame_length = self.frame_length as usize;
        let full_frames = plaintext_len.saturating_sub(1) / frame_length;
        let body = full_frames * FRAME_OVERHEAD + plaintext_len;
        let message = self.overhead(context) + keys_len + body;
        self.encoding.encoded_len(message)
    }

    /// The header without context and encrypted data keys and their lengths.
    fn fixed_header_len(&self) -> usize {
        let version = self.suite.version();
        let fixed = match version {
            Version::V1 => 1 + 1 + 2 + 1 + 4 + 1 + 4 + IV_LEN,
            Version::V2 => 1 + 2 + 1 + 4 + COMMITMENT_LEN,
        };
        fixed + version.message_id_len() + TAG_LEN
    }

    fn footer_len(&self) -> usize {
        match self.suite.signature() {
            Some(_) => 2 + SIGNATURE_LEN,
            None => 0,
        }
    }
}

/// The public key's pair in the context: two lengths, the key's name, and 49 bytes in base64.
const PUBLIC_KEY_PAIR: usize = 4 + PUBLIC_KEY.len() + 68;

/// What a data key for messages is to be bound to: the user's pairs, and for a suite that signs the public
/// key of a signing key made for it.
#[derive(Debug)]
pub struct Binding {
    suite: Suite,
    context: EncryptionContext,
    signing_key: Option<SigningKey>,
}

impl Binding {
    /// For one data key, and never for a second.
    pub fn new(suite: Suite, context: &EncryptionContext) -> Result<Self, WriteError> {
        if !suite.is_written() {
            return Err(WriteError::Suite { found: suite });
        }
        check_context(context)?;
        let mut context = context.clone();
        let signing_key = suite.signature().map(|_| SigningKey::generate());
        if let Some(key) = &signing_key {
            context.insert(PUBLIC_KEY.to_owned(), key.public_key());
            check_length(&context)?;
        }
        Ok(Self {
            suite,
            context,
            signing_key,
        })
    }

    /// What the data key is to be generated with.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Length of the data key to be generated.
    pub fn key_len(&self) -> usize {
        self.suite.key_len()
    }
}

/// Why messages can not be written with these parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    #[error(transparent)]
    Context(#[from] ContextError),
    #[error(
        "suite {found} is read, not written: choose 0478, 0578 (signed), or for old readers 0178, 0378 (signed) or 0114"
    )]
    Suite { found: Suite },
    #[error("suite {suite} takes a data key of {expected} bytes, and there are {found}")]
    KeyLength {
        suite: Suite,
        expected: usize,
        found: usize,
    },
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
                MessageKeys::Committed(Box::new(Deriver::new(settings.lanes, suite, key)))
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
                let derived = deriver.derive(&message_id);
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
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::seal::message::message_in;

    fn writer(context: &EncryptionContext, settings: Settings) -> Result<Writer, WriteError> {
        let edk = EncryptedDataKey {
            provider: "aws-kms".into(),
            info: vec![b'a'; 75].into(),
            ciphertext: vec![0; 184].into(),
        };
        write_under(&[edk], context, settings)
    }

    fn write_under(
        edks: &[EncryptedDataKey],
        context: &EncryptionContext,
        settings: Settings,
    ) -> Result<Writer, WriteError> {
        let binding = Binding::new(settings.suite, context)?;
        let key = SecretKeyBytes::new(vec![7; binding.key_len()]);
        Writer::new(binding, &key, edks, settings)
    }

    fn cars() -> EncryptionContext {
        [("Kinesis", "cars"), ("stream", "orders")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    }

    fn suite(id: u16) -> Settings {
        Settings {
            suite: Suite::from_id(id).expect("a suite"),
            ..Settings::default()
        }
    }

    fn frames_of(frame_length: u32) -> Settings {
        Settings {
            frame_length,
            ..Settings::default()
        }
    }

    fn any_settings() -> impl Strategy<Value = Settings> {
        let suites: Vec<_> = Suite::written().collect();
        let encodings = vec![Encoding::Binary, Encoding::Base64];
        let backends = vec![Backend::AesGcm, Backend::AwsLc];
        (
            prop::sample::select(suites),
            1u32..10,
            prop::sample::select(encodings),
            prop::sample::select(backends),
        )
            .prop_map(|(suite, frames, encoding, backend)| Settings {
                suite,
                frame_length: frames * 128,
                encoding,
                backend,
                ..Settings::default()
            })
    }

    /// The figures of other implementations' messages: what one adds to its plaintext under a KMS key. A
    /// signature of theirs is 103 bytes, and its public key's pair 93.
    #[test]
    fn a_message_adds_what_those_of_others_add() {
        for (id, added) in [
            (0x0478, 437),
            (0x0578, 635),
            (0x0178, 407),
            (0x0378, 605),
            (0x0114, 407),
        ] {
            let writer = writer(&cars(), suite(id)).expect("valid");
            assert_eq!(writer.sealed_len(0), added, "{id:04x}");
            assert_eq!(writer.sealed_len(4096), added + 4096);
            assert_eq!(writer.sealed_len(4097), added + 32 + 4097);
        }
    }

    #[test]
    fn frame_lengths_that_others_refuse_are_refused() {
        for found in [0, 1, 127, 4097, 1 << 31] {
            let error = writer(&cars(), frames_of(found)).expect_err("refused");
            assert_eq!(error, WriteError::FrameLength { found });
        }
    }

    #[test]
    fn suites_that_are_only_read_are_refused_by_name() {
        let error = writer(&cars(), suite(0x0078)).expect_err("refused");
        assert!(error.to_string().contains("0078"), "{error}");
    }

    #[test]
    fn a_data_key_of_another_length_is_refused() {
        let binding = Binding::new(Suite::COMMITTED, &cars()).expect("valid");
        let key = SecretKeyBytes::new(vec![7; 16]);
        let error = Writer::new(binding, &key, &[], Settings::default()).expect_err("refused");
        assert!(matches!(
            error,
            WriteError::KeyLength {
                expected: 32,
                found: 16,
                ..
            }
        ));
    }

    #[test]
    fn a_message_without_a_key_is_refused() {
        let error = write_under(&[], &cars(), Settings::default()).expect_err("refused");
        assert_eq!(error, WriteError::KeyCount { found: 0 });
    }

    #[test]
    fn an_oversized_key_field_is_refused_by_name() {
        let edk = EncryptedDataKey {
            provider: "shop".into(),
            info: vec![0; 65536].into(),
            ciphertext: Bytes::new(),
        };
        let error = write_under(&[edk], &cars(), Settings::default()).expect_err("refused");
        assert!(error.to_string().contains("\"shop\""), "{error}");
        assert!(error.to_string().contains("provider info"), "{error}");
    }

    #[test]
    fn the_same_id_and_plaintext_give_the_same_bytes() {
        let writer = writer(&cars(), frames_of(128)).expect("valid");
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
            settings in any_settings(),
            before in 0usize..50,
        ) {
            let writer = writer(&cars(), settings).expect("valid");
            let mut out = vec![0xee; before];
            writer.seal(MessageId::fixed([3; 32]), &plaintext, &mut out);
            prop_assert_eq!(out.len() - before, writer.sealed_len(plaintext.len()));
            prop_assert!(out[..before].iter().all(|byte| *byte == 0xee));
        }

        /// Before there is a data key to tell.
        #[test]
        fn overhead_and_keys_are_what_an_empty_message_is(settings in any_settings(), empty in any::<bool>()) {
            let context = if empty { EncryptionContext::new() } else { cars() };
            let writer = writer(&context, settings).expect("valid");
            let keys = 6 + "aws-kms".len() + 75 + 184;
            prop_assert_eq!(settings.overhead(&context) + keys, writer.message_len(0));
        }

        #[test]
        fn a_length_told_without_a_key_is_the_writers(
            settings in any_settings(),
            base64 in any::<bool>(),
            empty in any::<bool>(),
            plaintext_len in 0usize..100_000,
        ) {
            let encoding = if base64 { Encoding::Base64 } else { Encoding::Binary };
            let settings = Settings { encoding, ..settings };
            let context = if empty { EncryptionContext::new() } else { cars() };
            let writer = writer(&context, settings).expect("valid");
            let keys = 6 + "aws-kms".len() + 75 + 184;
            let told = settings.sealed_len(&context, keys, plaintext_len);
            prop_assert_eq!(told, writer.sealed_len(plaintext_len));
        }

        #[test]
        fn either_form_is_the_same_message(
            plaintext in prop::collection::vec(any::<u8>(), 0..300),
            suite in prop::sample::select(vec![0x0114, 0x0178, 0x0478]),
        ) {
            let forms = [Encoding::Binary, Encoding::Base64].map(|encoding| {
                let settings = Settings {
                    suite: Suite::from_id(suite).expect("a suite"),
                    encoding,
                    ..Settings::default()
                };
                let mut out = Vec::new();
                let writer = writer(&cars(), settings).expect("valid");
                writer.seal(MessageId::fixed([3; 32]), &plaintext, &mut out);
                Bytes::from(out)
            });
            prop_assert!(forms[1].is_ascii());
            prop_assert_eq!(message_in(&forms[1]), Some(forms[0].clone()));
        }
    }
}
