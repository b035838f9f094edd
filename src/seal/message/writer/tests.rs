use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::seal::message::{Backend, EncryptionContext, Suite, message_in};

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
