//! Against a server on loopback that answers what the test says, through the real client.

use std::sync::{Arc, Mutex};

use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};

use super::*;
use crate::seal::key::{GenerateDataKey, KeyError, UnwrapDataKey};
use crate::seal::message::{EncryptedDataKey, EncryptionContext};

const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// One answer for every call, and what was asked.
struct Scripted {
    answer: (u16, Value),
    asked: Mutex<Vec<(String, Value)>>,
}

async fn answer(
    State(script): State<Arc<Scripted>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, [(&'static str, &'static str); 1], String) {
    let target = headers["x-amz-target"].to_str().expect("ASCII").to_owned();
    let body = serde_json::from_str(&body).expect("JSON");
    script.asked.lock().expect("no panics").push((target, body));
    let (status, answer) = &script.answer;
    let status = StatusCode::from_u16(*status).expect("a status");
    let content_type = [("content-type", "application/x-amz-json-1.1")];
    (status, content_type, answer.to_string())
}

async fn kms(status: u16, body: Value) -> (Client, Arc<Scripted>) {
    let script = Arc::new(Scripted {
        answer: (status, body),
        asked: Mutex::default(),
    });
    let app = Router::new()
        .route("/", post(answer))
        .with_state(Arc::clone(&script));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (client(&endpoint), script)
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

fn single(client: Client, key: &str) -> KmsKeys {
    KmsKeys::new(client, [key]).expect("one key")
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn context() -> EncryptionContext {
    EncryptionContext::from([("app".to_owned(), "shop".to_owned())])
}

fn edk() -> EncryptedDataKey {
    EncryptedDataKey {
        provider: EncryptedDataKey::KMS.to_owned(),
        info: ARN.into(),
        ciphertext: vec![9; 184].into(),
    }
}

#[tokio::test]
async fn a_generated_key_carries_the_arn_and_not_the_alias() {
    let body =
        json!({"KeyId": ARN, "Plaintext": base64(&[7; 32]), "CiphertextBlob": base64(&[9; 184])});
    let (client, script) = kms(200, body).await;
    let fresh = single(client, "alias/shop")
        .generate(&context(), 32)
        .await
        .expect("generated");
    assert_eq!(fresh.plaintext.as_bytes(), &[7; 32]);
    assert_eq!(fresh.encrypted, [edk()]);
    let asked = script.asked.lock().expect("no panics");
    let (target, body) = &asked[0];
    assert_eq!(target, "TrentService.GenerateDataKey");
    assert_eq!(
        *body,
        json!({"KeyId": "alias/shop", "NumberOfBytes": 32, "EncryptionContext": {"app": "shop"}})
    );
}

#[tokio::test]
async fn an_answer_that_is_no_data_key_is_refused() {
    for body in [
        json!({"KeyId": ARN, "Plaintext": base64(&[7; 16]), "CiphertextBlob": base64(&[9; 184])}),
        json!({"KeyId": ARN, "CiphertextBlob": base64(&[9; 184])}),
        json!({"Plaintext": base64(&[7; 32]), "CiphertextBlob": base64(&[9; 184])}),
        json!({"KeyId": ARN, "Plaintext": base64(&[7; 32])}),
    ] {
        let (client, _) = kms(200, body).await;
        let error = single(client, "alias/shop").generate(&context(), 32).await;
        assert!(
            matches!(error, Err(KeyError::Malformed { .. })),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_data_key_unwraps_under_each_name_of_its_key() {
    let id = "1234abcd-12ab-34cd-56ef-1234567890ab";
    for (name, asked_for) in [(ARN, ARN), (id, ARN), ("alias/shop", "alias/shop")] {
        let (client, script) = kms(200, json!({"KeyId": ARN, "Plaintext": base64(&[7; 32])})).await;
        let keys = KmsUnwrap::new(client, [name]);
        let secret = keys
            .unwrap(&edk(), &context(), 32)
            .await
            .expect("unwrapped");
        assert_eq!(secret.expect("mine").as_bytes(), [7; 32]);
        let asked = script.asked.lock().expect("no panics");
        let (target, body) = &asked[0];
        assert_eq!(target, "TrentService.Decrypt");
        assert_eq!(body["KeyId"], asked_for);
        assert_eq!(body["EncryptionContext"], json!({"app": "shop"}));
    }
}

#[tokio::test]
async fn a_key_that_was_not_named_costs_no_call() {
    let (client, script) = kms(200, json!({"KeyId": ARN, "Plaintext": base64(&[7; 32])})).await;
    let other = ARN.replace("1234abcd", "0000abcd");
    let keys = KmsUnwrap::new(client, [other.as_str(), "0000abcd"]);
    let mut raw = edk();
    raw.provider = "shop".to_owned();
    for edk in [edk(), raw] {
        let unwrapped = keys.unwrap(&edk, &context(), 32).await;
        assert!(matches!(unwrapped, Ok(None)), "{unwrapped:?}");
    }
    assert!(script.asked.lock().expect("no panics").is_empty());
}

#[tokio::test]
async fn an_answer_from_another_key_or_of_another_length_is_refused() {
    let other = ARN.replace("1234abcd", "0000abcd");
    let (client, _) = kms(200, json!({"KeyId": other, "Plaintext": base64(&[7; 32])})).await;
    let error = KmsUnwrap::new(client, ["alias/shop"])
        .unwrap(&edk(), &context(), 32)
        .await;
    assert!(matches!(error, Err(KeyError::WrongKey { .. })), "{error:?}");

    let (client, _) = kms(200, json!({"KeyId": ARN, "Plaintext": base64(&[7; 16])})).await;
    let error = KmsUnwrap::new(client, [ARN])
        .unwrap(&edk(), &context(), 32)
        .await;
    assert!(
        matches!(error, Err(KeyError::Malformed { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn each_code_says_whose_turn_it_is() {
    // code, status, configuration, outage, words of the way out
    for (code, status, configuration, outage, way_out) in [
        (
            "AccessDeniedException",
            400,
            true,
            false,
            "kms:GenerateDataKey",
        ),
        ("NotFoundException", 400, true, false, "check its ARN"),
        ("DisabledException", 400, true, false, "enable it"),
        (
            "KMSInvalidStateException",
            400,
            true,
            false,
            "pending deletion",
        ),
        (
            "InvalidKeyUsageException",
            400,
            true,
            false,
            "SYMMETRIC_DEFAULT",
        ),
        ("ExpiredTokenException", 400, true, false, "renew"),
        ("SomethingNew", 400, true, false, "SomethingNew"),
        ("ThrottlingException", 400, false, true, "max_age"),
        (
            "KMSInternalException",
            500,
            false,
            true,
            "can not be reached",
        ),
        ("SomethingNew", 503, false, true, "can not be reached"),
    ] {
        let body = json!({"__type": code, "message": "as scripted"});
        let (client, _) = kms(status, body).await;
        let error = single(client, "alias/shop")
            .generate(&context(), 32)
            .await
            .expect_err("refused");
        assert_eq!(error.refuses_the_key(), configuration, "{code}: {error}");
        assert_eq!(error.is_outage(), outage, "{code}: {error}");
        let words = error.to_string();
        for word in ["alias/shop", "as scripted", way_out] {
            assert!(words.contains(word), "{code}: {words}");
        }
    }
}

/// What answers may be no KMS at all: a proxy, a portal.
#[tokio::test]
async fn without_a_code_only_a_refusal_is_a_mistake() {
    for (status, outage) in [
        (200, true),
        (302, true),
        (404, false),
        (429, true),
        (502, true),
    ] {
        let (client, _) = kms(status, json!("no object")).await;
        let error = single(client, "alias/shop")
            .generate(&context(), 32)
            .await
            .expect_err("no answer");
        assert_eq!(error.is_outage(), outage, "{status}: {error}");
        assert_eq!(error.refuses_the_key(), !outage, "{status}: {error}");
        let words = error.to_string();
        let once = words.matches(&format!("HTTP status {status}")).count();
        assert!(once == 1 && !words.contains(": ,"), "{words}");
    }
}

#[tokio::test]
async fn wrong_context_and_wrong_key_are_told_apart() {
    for (code, wrong) in [
        ("InvalidCiphertextException", "wrong encryption context"),
        ("IncorrectKeyException", "wrong key"),
    ] {
        let (client, _) = kms(400, json!({"__type": code})).await;
        let keys = KmsUnwrap::new(client, ["alias/shop"]);
        let error = keys
            .unwrap(&edk(), &context(), 32)
            .await
            .expect_err("refused");
        assert!(error.to_string().contains(wrong), "{error}");
        assert!(!error.is_outage() && !error.refuses_the_key());
    }
}

/// What KMS finds wrong with a data key or a context is the message's, whoever wrote that: no reader may be stopped by it.
#[tokio::test]
async fn what_a_message_makes_invalid_is_nothing_of_the_configuration() {
    let (client, script) = kms(400, json!({"__type": "ValidationException"})).await;
    let keys = KmsUnwrap::new(client, ["alias/shop"]);
    for len in [0, 1, 6144, 6145] {
        let edk = EncryptedDataKey {
            ciphertext: vec![7; len].into(),
            ..edk()
        };
        let error = keys.unwrap(&edk, &context(), 32).await;
        let error = error.expect_err("refused");
        assert!(!error.is_outage() && !error.refuses_the_key(), "{error}");
    }
    assert_eq!(script.asked.lock().expect("no panics").len(), 2);
}

#[tokio::test]
async fn a_closed_port_is_an_outage() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let error = single(client(&endpoint), ARN)
        .generate(&context(), 32)
        .await
        .expect_err("nobody there");
    assert!(error.is_outage(), "{error}");
    let words = error.to_string();
    assert!(words.contains(ARN) && words.contains("refused"), "{words}");
}

#[cfg(feature = "fake")]
mod stand_in;
