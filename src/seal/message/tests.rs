//! Laws of the format: what is written can be read, and nothing else can.
//!
//! Messages of other implementations are walked in `seal::open`'s tests, because it takes a wrapping key
//! to open them.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const KEY: [u8; 32] = [0x42; 32];

fn edk() -> EncryptedDataKey {
    EncryptedDataKey {
        provider: "aws-kms".into(),
        info: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
        ciphertext: vec![5; 184].into(),
    }
}

fn writer(context: &EncryptionContext, frame_length: u32) -> Writer {
    let settings = Settings {
        frame_length,
        ..Settings::default()
    };
    writer_with(context, &[edk()], settings)
}

fn writer_with(
    context: &EncryptionContext,
    edks: &[EncryptedDataKey],
    settings: Settings,
) -> Writer {
    let binding = Binding::new(settings.suite, context).expect("valid");
    let key = SecretKeyBytes::new(KEY[..binding.key_len()].to_owned());
    Writer::new(binding, &key, edks, settings).expect("valid")
}

fn seal(plaintext: &[u8], context: &EncryptionContext, frame_length: u32) -> Vec<u8> {
    let mut message = Vec::new();
    writer(context, frame_length).seal(MessageIds::new().draw(), plaintext, &mut message);
    message
}

fn open_with(message: &[u8], required: &EncryptionContext) -> Result<Vec<u8>, ReadError> {
    Message::parse(message, &ReadLimits::default())?.open(&KEY, required)
}

fn open(message: &[u8]) -> Result<Vec<u8>, ReadError> {
    open_with(message, &EncryptionContext::new())
}

fn pair(key: &str, value: &str) -> EncryptionContext {
    EncryptionContext::from([(key.to_owned(), value.to_owned())])
}

fn any_context() -> impl Strategy<Value = EncryptionContext> {
    let key = ".{0,12}".prop_filter("reserved", |key| !key.starts_with("aws-crypto-"));
    prop::collection::btree_map(key, ".{0,12}", 0..5)
}

fn any_plaintext() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..1500)
}

proptest! {
    #[test]
    fn what_is_sealed_opens(
        plaintext in any_plaintext(),
        context in any_context(),
        frames in 1u32..5,
        suite in prop::sample::select(Suite::written().collect::<Vec<_>>()),
    ) {
        let settings = Settings { suite, frame_length: frames * 128, ..Settings::default() };
        let mut sealed = Vec::new();
        writer_with(&context, &[edk()], settings).seal(MessageIds::new().draw(), &plaintext, &mut sealed);
        let message = Message::parse(&sealed, &ReadLimits::default()).expect("well-formed");
        prop_assert_eq!(message.suite(), suite);
        prop_assert_eq!(message.content(), Content::Framed { frame_length: frames * 128 });
        let mut stored = message.context();
        let signed = stored.remove("aws-crypto-public-key");
        prop_assert_eq!(signed.is_some(), suite.signature().is_some());
        prop_assert_eq!(&stored, &context);
        prop_assert_eq!(message.plaintext_len(), plaintext.len());
        let edks: Vec<_> = message.encrypted_data_keys().map(EncryptedDataKeyRef::to_owned).collect();
        prop_assert_eq!(edks, vec![edk()]);
        prop_assert_eq!(message.open(&KEY[..suite.key_len()], &context), Ok(plaintext));
        prop_assert!(looks_sealed(&sealed));
    }

    /// In lanes or one by one, with either backend.
    #[test]
    fn what_is_sealed_together_opens_one_by_one(
        plaintexts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
        suite in prop::sample::select(Suite::written().collect::<Vec<_>>()),
        backend in prop::sample::select(vec![Backend::Auto, Backend::AesGcm, Backend::AwsLc]),
        lanes in prop::sample::select(vec![Lanes::Auto, Lanes::Avx512, Lanes::Avx2, Lanes::Scalar]),
    ) {
        let writer = writer_with(
            &pair("a", "b"),
            &[edk()],
            Settings { suite, backend, frame_length: 128, lanes, ..Settings::default() },
        );
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let slices = plaintexts.iter().map(|plaintext| &plaintext[..]);
        writer.seal_all(&mut MessageIds::new(), slices, &mut out, &mut ends);
        prop_assert_eq!(ends.len(), plaintexts.len());
        let mut start = 0;
        for (plaintext, end) in plaintexts.iter().zip(ends) {
            let message = &out[start..end];
            prop_assert_eq!(message.len(), writer.sealed_len(plaintext.len()));
            let opened = Message::parse(message, &ReadLimits::default())
                .and_then(|message| message.open(&KEY[..suite.key_len()], &EncryptionContext::new()));
            prop_assert_eq!(&opened.expect("well sealed"), plaintext);
            start = end;
        }
        prop_assert_eq!(start, out.len());

        let slices = plaintexts.iter().map(|plaintext| &plaintext[..]);
        let apart = writer.seal_apart(&mut MessageIds::new(), slices);
        prop_assert_eq!(apart.len(), plaintexts.len());
        for (plaintext, message) in plaintexts.iter().zip(apart) {
            let opened = Message::parse(&message, &ReadLimits::default())
                .and_then(|message| message.open(&KEY[..suite.key_len()], &EncryptionContext::new()));
            prop_assert_eq!(&opened.expect("well sealed"), plaintext);
        }
    }

    /// Whatever is wrong with some of them.
    #[test]
    fn opened_together_each_is_what_it_is_alone(
        plaintexts in prop::collection::vec(any_plaintext(), 0..20),
        suites in prop::collection::vec(prop::sample::select(vec![0x0478, 0x0178]), 20),
        is_mixed: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
        required in prop::sample::select(vec![EncryptionContext::new(), pair("app", "shop"), pair("app", "other")]),
    ) {
        let mut sealed: Vec<Vec<u8>> = plaintexts.iter().zip(&suites).map(|(plaintext, suite)| {
            let suite = Suite::from_id(if is_mixed { *suite } else { 0x0478 }).expect("a suite");
            let context = pair("app", "shop");
            let settings = Settings { suite, ..Settings::default() };
            let writer = writer_with(&context, &[edk()], settings);
            let mut out = Vec::new();
            writer.seal(MessageIds::new().draw(), plaintext, &mut out);
            out
        }).collect();
        for (which, at, byte) in damage {
            if !sealed.is_empty() {
                let message = which.get_mut(&mut sealed);
                let at = at.index(message.len());
                message[at] = byte;
            }
        }
        let limits = ReadLimits::default();
        let messages: Vec<_> = sealed.iter().filter_map(|bytes| Message::parse(bytes, &limits).ok()).collect();
        let together = Message::open_all(&messages, &KEY, &required);
        let open = |message: &Message<'_>| message.open(&KEY, &required).map(Bytes::from);
        let alone: Vec<_> = messages.iter().map(open).collect();
        prop_assert_eq!(together, alone);
    }

    #[test]
    fn what_begins_like_a_message_is_under_its_key_and_of_its_suite(
        contexts in prop::collection::vec("[a-b]{1,2}", 2),
        suites in prop::collection::vec(prop::sample::select(Suite::written().collect::<Vec<_>>()), 2),
        damage in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut sealed: Vec<_> = contexts.iter().zip(&suites).map(|(value, suite)| {
            let settings = Settings { suite: *suite, ..Settings::default() };
            let writer = writer_with(&pair("a", value), &[edk()], settings);
            let mut out = Vec::new();
            writer.seal(MessageIds::new().draw(), b"x", &mut out);
            out
        }).collect();
        if let Some((at, byte)) = damage {
            let at = at.index(sealed[1].len());
            sealed[1][at] = byte;
        }
        let limits = ReadLimits::default();
        let first = Message::parse(&sealed[0], &limits).expect("sound");
        // Signing suites have a key of their own in each context.
        let is_alike = contexts[0] == contexts[1] && suites[0] == suites[1] && suites[0].signature().is_none();
        let is_key = first.is_key_of(&sealed[1]);
        prop_assert!(damage.is_some() || is_key == is_alike);
        match Message::parse(&sealed[1], &limits) {
            Ok(second) => {
                let is_equal = (first.suite(), first.key_section()) == (second.suite(), second.key_section());
                prop_assert_eq!(is_key, is_equal);
            }
            Err(_) => prop_assert!(damage.is_some()),
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = open(&bytes);
    }

    /// Past the first fields, where arbitrary bytes alone do not come.
    #[test]
    fn damaged_messages_never_panic(
        plaintext in any_plaintext(),
        cut in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let sealed = seal(&plaintext, &pair("a", "b"), 128);
        let mut bytes = sealed.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if bytes != sealed {
            prop_assert!(open(&bytes).is_err());
        }
        prop_assert!(open(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

#[test]
fn any_flipped_bit_is_refused() {
    let sealed = seal(&[7; 300], &pair("app", "shop"), 128);
    for bit in 0..sealed.len() * 8 {
        let mut bytes = sealed.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn any_cut_and_any_tail_is_refused() {
    let mut sealed = seal(&[7; 300], &pair("app", "shop"), 128);
    for len in 0..sealed.len() {
        assert!(open(&sealed[..len]).is_err(), "{len} bytes");
    }
    sealed.push(0);
    assert_eq!(open(&sealed), Err(ReadError::TrailingBytes { count: 1 }));
}

#[test]
fn another_data_key_is_refused_by_commitment() {
    let sealed = seal(b"secret", &pair("app", "shop"), 128);
    let message = Message::parse(&sealed, &ReadLimits::default()).expect("well-formed");
    let none = EncryptionContext::new();
    assert_eq!(message.open(&[0; 32], &none), Err(ReadError::WrongKey));
    assert!(matches!(
        message.open(&KEY[..16], &none),
        Err(ReadError::KeyLength {
            expected: 32,
            found: 16,
            ..
        })
    ));
}

#[test]
fn a_required_pair_must_be_equal() {
    let sealed = seal(b"secret", &pair("app", "shop"), 128);
    assert_eq!(
        open_with(&sealed, &pair("app", "shop")),
        Ok(b"secret".to_vec())
    );
    assert!(matches!(
        open_with(&sealed, &pair("app", "bank")),
        Err(ReadError::WrongContext { .. })
    ));
}

/// A required pair that the message does not store is part of the header tag, so a wrong one, or one that
/// the writer never gave, is refused.
#[test]
fn a_required_pair_that_was_never_given_is_refused() {
    let sealed = seal(b"secret", &pair("app", "shop"), 128);
    assert_eq!(
        open_with(&sealed, &pair("tenant", "7")),
        Err(ReadError::HeaderTampered)
    );
}

#[test]
fn frames_in_another_order_are_refused() {
    let mut sealed = seal(&[7; 384], &EncryptionContext::new(), 128);
    let frame = 4 + 12 + 128 + 16;
    let body = sealed.len() - 2 * frame - (frame + 8);
    let (first, second) = sealed[body..body + 2 * frame].split_at_mut(frame);
    first.swap_with_slice(second);
    assert_eq!(
        open(&sealed),
        Err(ReadError::Sequence {
            expected: 1,
            found: 2
        })
    );
}

#[test]
fn more_keys_than_the_limit_are_refused() {
    let writer = writer_with(
        &EncryptionContext::new(),
        &vec![edk(); 6],
        Settings::default(),
    );
    let mut sealed = Vec::new();
    writer.seal(MessageIds::new().draw(), b"", &mut sealed);
    assert_eq!(
        open(&sealed),
        Err(ReadError::TooManyKeys { found: 6, limit: 5 })
    );
    let limits = ReadLimits {
        max_encrypted_data_keys: 6,
        ..ReadLimits::default()
    };
    assert!(Message::parse(&sealed, &limits).is_ok());
}

/// A 64-bit length must not become an allocation.
#[test]
fn a_huge_unframed_length_is_a_short_message() {
    let sealed = seal(b"", &EncryptionContext::new(), 128);
    let header = sealed.len() - 40;
    let mut bytes = sealed[..header].to_vec();
    let content = header - 16 - 32 - 5;
    bytes[content..content + 5].copy_from_slice(&[1, 0, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    assert_eq!(open(&bytes), Err(ReadError::Truncated { part: "body" }));
}

#[test]
fn plain_records_do_not_look_sealed() {
    for data in [
        &b""[..],
        b"\x01",
        b"\x02",
        b"\x02\x04",
        b"{\"a\":1}",
        b"AgR4",
        b"\x01\x80\x04\x78",
        b"\x02\x01\x78",
    ] {
        assert!(!looks_sealed(data), "{data:?}");
        assert!(open(data).is_err(), "{data:?}");
    }
    assert!(looks_sealed(b"\x02\x05\x78"));
    assert!(looks_sealed(b"\x01\x80\x03\x78"));
}
