//! KMS: blobs, contexts, key states, aliases.

use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyState};

use super::*;

#[tokio::test]
async fn a_data_key_comes_back_under_its_context_only() {
    let fake = Fake::start().await.unwrap();
    let arn = fake.create_key();
    assert_eq!(arn.len(), 75);
    let client = super::kms(&fake);
    let made = client
        .generate_data_key()
        .key_id(&arn)
        .key_spec(DataKeySpec::Aes256)
        .encryption_context("app", "shop")
        .encryption_context("host", "h1")
        .send()
        .await
        .unwrap();
    let blob = made.ciphertext_blob.unwrap();
    assert_eq!(blob.as_ref().len(), 184);
    assert_eq!(made.key_id.as_deref(), Some(arn.as_str()));
    assert_eq!(made.key_material_id.as_ref().map(String::len), Some(64));

    let decrypt = |context: &[(&str, &str)], blob: Blob| {
        let pairs = context
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        client
            .decrypt()
            .ciphertext_blob(blob)
            .set_encryption_context(Some(pairs.collect()))
            .send()
    };
    let opened = decrypt(&[("host", "h1"), ("app", "shop")], blob.clone())
        .await
        .unwrap();
    assert_eq!(opened.plaintext, made.plaintext);
    assert_eq!(opened.key_id.as_deref(), Some(arn.as_str()));
    for wrong in [
        &[][..],
        &[("app", "shop")],
        &[("app", "shop"), ("host", "h2")],
    ] {
        let error = refused(&decrypt(wrong, blob.clone()).await.unwrap_err());
        assert_eq!(error.code, "InvalidCiphertextException", "{wrong:?}");
    }
    let mut tampered = blob.clone().into_inner();
    tampered[150] ^= 1;
    let context = [("host", "h1"), ("app", "shop")];
    for bytes in [tampered, vec![0; 184], vec![1, 2]] {
        let error = refused(&decrypt(&context, Blob::new(bytes)).await.unwrap_err());
        assert_eq!(error.code, "InvalidCiphertextException");
    }
    assert_eq!(fake.counters().kms_calls("GenerateDataKey"), 1);
    assert_eq!(fake.counters().kms_calls("Decrypt"), 7);
}

#[tokio::test]
async fn data_keys_have_the_length_asked_for() {
    let fake = Fake::start().await.unwrap();
    let arn = fake.create_key();
    let client = super::kms(&fake);
    let ask = || client.generate_data_key().key_id(&arn);
    let short = ask().key_spec(DataKeySpec::Aes128).send().await.unwrap();
    assert_eq!(short.plaintext.unwrap().as_ref().len(), 16);
    assert_eq!(short.ciphertext_blob.unwrap().as_ref().len(), 168);
    let other = ask().number_of_bytes(64).send().await.unwrap();
    assert_eq!(other.plaintext.unwrap().as_ref().len(), 64);
    for refused_ask in [
        ask(),
        ask().number_of_bytes(1025),
        ask().number_of_bytes(1).key_spec(DataKeySpec::Aes256),
    ] {
        assert_eq!(
            refused(&refused_ask.send().await.unwrap_err()).code,
            "ValidationException"
        );
    }
    let dry = ask().number_of_bytes(32).dry_run(true).send().await;
    assert_eq!(refused(&dry.unwrap_err()).code, "DryRunOperationException");
}

#[tokio::test]
async fn encrypt_and_decrypt_are_inverse_and_bound_to_their_key() {
    let fake = Fake::start().await.unwrap();
    let (ours, other) = (fake.create_key(), fake.create_key());
    let client = super::kms(&fake);
    let sealed = client
        .encrypt()
        .key_id(&ours)
        .plaintext(Blob::new("secret"))
        .send()
        .await
        .unwrap();
    let blob = sealed.ciphertext_blob.unwrap();
    let decrypt = |key: &str| {
        client
            .decrypt()
            .key_id(key)
            .ciphertext_blob(blob.clone())
            .send()
    };
    assert_eq!(
        decrypt(&ours).await.unwrap().plaintext.unwrap().as_ref(),
        b"secret"
    );
    let error = refused(&decrypt(&other).await.unwrap_err());
    assert_eq!(error.code, "IncorrectKeyException");
    let error = refused(&decrypt("alias/none").await.unwrap_err());
    assert_eq!(error.code, "NotFoundException");
    assert_eq!(
        error.message,
        "Alias arn:aws:kms:eu-west-1:000000000000:alias/none is not found."
    );
}

#[tokio::test]
async fn a_key_is_found_by_id_arn_alias_and_alias_arn() {
    let fake = Fake::start().await.unwrap();
    let client = super::kms(&fake);
    let made = client
        .create_key()
        .description("shop")
        .send()
        .await
        .unwrap()
        .key_metadata
        .unwrap();
    let arn = made.arn.unwrap();
    client
        .create_alias()
        .alias_name("alias/shop")
        .target_key_id(&made.key_id)
        .send()
        .await
        .unwrap();
    let again = client
        .create_alias()
        .alias_name("alias/shop")
        .target_key_id(&made.key_id)
        .send()
        .await;
    assert_eq!(refused(&again.unwrap_err()).code, "AlreadyExistsException");
    let alias_arn = "arn:aws:kms:eu-west-1:000000000000:alias/shop";
    for name in [made.key_id.as_str(), &arn, "alias/shop", alias_arn] {
        let found = client
            .describe_key()
            .key_id(name)
            .send()
            .await
            .unwrap()
            .key_metadata
            .unwrap();
        assert_eq!(found.arn.as_deref(), Some(arn.as_str()), "{name}");
        assert_eq!(found.key_state, Some(KeyState::Enabled));
        let made = client
            .generate_data_key()
            .key_id(name)
            .number_of_bytes(32)
            .send()
            .await
            .unwrap();
        assert_eq!(
            made.key_id.as_deref(),
            Some(arn.as_str()),
            "an alias is answered with its key's ARN"
        );
    }
    for absent in [
        "11111111-2222-3333-4444-555555555555",
        "arn:aws:kms:eu-west-1:111122223333:key/x",
    ] {
        let error = client
            .describe_key()
            .key_id(absent)
            .send()
            .await
            .unwrap_err();
        assert_eq!(refused(&error).code, "NotFoundException", "{absent}");
    }
    assert!(fake.create_alias("alias/aws/kinesis", &arn).is_err());
}

#[tokio::test]
async fn a_key_that_is_disabled_or_about_to_go_does_nothing() {
    let fake = Fake::start().await.unwrap();
    let arn = fake.create_key();
    let client = super::kms(&fake);
    let blob = client
        .encrypt()
        .key_id(&arn)
        .plaintext(Blob::new("x"))
        .send()
        .await
        .unwrap();
    let blob = blob.ciphertext_blob.unwrap();
    let codes = async || {
        let made = client
            .generate_data_key()
            .key_id(&arn)
            .number_of_bytes(32)
            .send()
            .await;
        let opened = client.decrypt().ciphertext_blob(blob.clone()).send().await;
        [
            made.err().map(|e| refused(&e).code),
            opened.err().map(|e| refused(&e).code),
        ]
    };
    assert_eq!(codes().await, [None, None]);
    client.disable_key().key_id(&arn).send().await.unwrap();
    assert_eq!(
        codes().await,
        [
            Some("DisabledException".into()),
            Some("DisabledException".into())
        ]
    );
    client.enable_key().key_id(&arn).send().await.unwrap();
    assert_eq!(codes().await, [None, None]);
    client
        .schedule_key_deletion()
        .key_id(&arn)
        .pending_window_in_days(7)
        .send()
        .await
        .unwrap();
    let pending = Some("KMSInvalidStateException".into());
    assert_eq!(codes().await, [pending.clone(), pending.clone()]);
    let enabled = client.enable_key().key_id(&arn).send().await;
    assert_eq!(
        refused(&enabled.unwrap_err()).code,
        "KMSInvalidStateException"
    );
    client
        .cancel_key_deletion()
        .key_id(&arn)
        .send()
        .await
        .unwrap();
    assert_eq!(codes().await[0], Some("DisabledException".into()));
}
