//! Signatures, TLS, HTTP, start and stop.

use aws_smithy_http_client::tls::{self, TrustStore};

use super::*;

/// A client that trusts the stand-in's certificate authority, where it has one.
pub(super) fn trusting(fake: &Fake) -> aws_sdk_kinesis::Client {
    let mut config = kinesis(fake).config().to_builder();
    if let Some(pem) = fake.ca_pem() {
        let trust = TrustStore::empty().with_pem_certificate(pem);
        let context = tls::TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .unwrap();
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(tls::Provider::Rustls(
                tls::rustls_provider::CryptoMode::AwsLc,
            ))
            .tls_context(context)
            .build_https();
        config = config.http_client(http);
    }
    aws_sdk_kinesis::Client::from_conf(config.build())
}

#[tokio::test]
async fn strict_mode_takes_the_sdks_signature() {
    for tls in [false, true] {
        for http2 in [false, true] {
            let (fake, _) =
                with_stream(Fake::builder().strict(true).tls(tls).http2(http2), 2).await;
            let client = trusting(&fake);
            put(&client, vec![entry("k", "x"); 10]).await.unwrap();
            assert_eq!(
                fake.records("s").unwrap().len(),
                10,
                "tls {tls} http2 {http2}"
            );
        }
    }
}

#[tokio::test]
async fn strict_mode_knows_its_clients() {
    let (fake, _) = with_stream(
        Fake::builder()
            .strict(true)
            .credentials("AKIDEXAMPLE", "secret"),
        1,
    )
    .await;
    let code = async |access_key: &str, secret_key: &str| {
        let client = kinesis_as(&fake, access_key, secret_key);
        put(&client, vec![entry("k", "x")])
            .await
            .err()
            .map(|error| error.code.into_owned())
    };
    assert_eq!(code("AKIDEXAMPLE", "secret").await, None);
    assert_eq!(
        code("AKIDEXAMPLE", "other").await.as_deref(),
        Some("InvalidSignatureException")
    );
    assert_eq!(
        code("test", "secret").await.as_deref(),
        Some("UnrecognizedClientException")
    );
    assert_eq!(fake.counters().refused_signatures, 2);
    let kms = super::kms(&fake).list_keys().send().await;
    assert_eq!(
        refused(&kms.unwrap_err()).code,
        "UnrecognizedClientException"
    );
}

#[tokio::test]
async fn a_changed_body_header_or_scope_is_refused() {
    let (fake, client) = with_stream(Fake::builder().strict(true), 1).await;
    let code =
        async |change: fn(&mut aws_smithy_runtime_api::client::orchestrator::HttpRequest)| {
            let call = client
                .put_records()
                .stream_name("s")
                .records(entry("k", "x"));
            let sent = call.customize().interceptor(Tamper(change)).send().await;
            refused(&sent.unwrap_err()).code.into_owned()
        };
    let body = code(|request| {
        let changed =
            b"{\"StreamName\":\"s\",\"Records\":[{\"Data\":\"eA==\",\"PartitionKey\":\"K\"}]}";
        request
            .headers_mut()
            .insert("content-length", changed.len().to_string());
        *request.body_mut() = changed.to_vec().into();
    });
    assert_eq!(body.await, "InvalidSignatureException");
    let target = code(|request| {
        request
            .headers_mut()
            .insert("x-amz-target", "Kinesis_20131202.DeleteStream");
    });
    assert_eq!(target.await, "InvalidSignatureException");
    let no_signature = code(|request| _ = request.headers_mut().remove("authorization"));
    assert_eq!(no_signature.await, "MissingAuthenticationTokenException");
    let half = code(|request| {
        request
            .headers_mut()
            .insert("authorization", "AWS4-HMAC-SHA256 Credential=test");
    });
    assert_eq!(half.await, "IncompleteSignatureException");
    let other_service = code(|request| {
        let header = request
            .headers()
            .get("authorization")
            .unwrap()
            .replace("/kinesis/", "/kms/");
        request.headers_mut().insert("authorization", header);
    });
    assert_eq!(other_service.await, "InvalidSignatureException");
    assert!(fake.records("s").unwrap().is_empty());
}

/// Changes a request after it has been signed.
#[derive(Debug)]
struct Tamper(fn(&mut aws_smithy_runtime_api::client::orchestrator::HttpRequest));

impl aws_smithy_runtime_api::client::interceptors::Intercept for Tamper {
    fn name(&self) -> &'static str {
        "Tamper"
    }

    fn modify_before_transmit(
        &self,
        context: &mut aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut<'_>,
        _: &aws_smithy_runtime_api::client::runtime_components::RuntimeComponents,
        _: &mut aws_sdk_kinesis::config::ConfigBag,
    ) -> Result<(), aws_smithy_runtime_api::box_error::BoxError> {
        (self.0)(context.request_mut());
        Ok(())
    }
}

#[tokio::test]
async fn a_signature_is_good_for_five_minutes() {
    let clock = Clock::manual();
    let (_fake, client) = with_stream(Fake::builder().strict(true).clock(clock.clone()), 1).await;
    clock.advance(Duration::from_secs(280));
    put(&client, vec![entry("k", "x")]).await.unwrap();
    clock.advance(Duration::from_secs(60));
    let error = put(&client, vec![entry("k", "x")]).await.unwrap_err();
    assert_eq!(error.code, "InvalidSignatureException");
    assert!(error.message.starts_with("Signature expired"), "{error}");
}

#[tokio::test]
async fn one_port_answers_for_both_services() {
    let fake = Fake::builder()
        .addr(([127, 0, 0, 1], 0).into())
        .start()
        .await
        .unwrap();
    assert_eq!(fake.kinesis_addr(), fake.kms_addr());
    kinesis(&fake).list_streams().send().await.unwrap();
    super::kms(&fake).list_keys().send().await.unwrap();
}

#[tokio::test]
async fn shutdown_gives_the_port_back() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    put(&client, vec![entry("k", "x")]).await.unwrap();
    let addr = fake.kinesis_addr();
    fake.shutdown().await;
    let again = Fake::builder().kinesis_addr(addr).start().await.unwrap();
    assert_eq!(again.kinesis_addr(), addr);
}

#[tokio::test]
async fn dropping_the_stand_ins_stops_them() {
    let fake = Fake::start().await.unwrap();
    let addr = fake.kinesis_addr();
    drop(fake);
    // The listener goes when its task next runs, which a new one on its port shows.
    while Fake::builder().kinesis_addr(addr).start().await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_no_call_is_told_so() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fake = Fake::start().await.unwrap();
    let ask = async |headers: &str, body: &str| {
        let mut socket = tokio::net::TcpStream::connect(fake.kinesis_addr())
            .await
            .unwrap();
        let length = body.len();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let list = "x-amz-target: Kinesis_20131202.ListStreams\r\n";
    for (headers, body, expected) in [
        ("", "{}", "UnknownOperationException"),
        (
            "x-amz-target: Kinesis_20131202.Nonsense\r\n",
            "{}",
            "UnknownOperationException",
        ),
        (list, "{", "SerializationException"),
    ] {
        let answer = ask(headers, body).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains(expected), "{answer}");
    }
    let ok = ask(list, "").await;
    assert!(ok.starts_with("HTTP/1.1 200"), "{ok}");
    assert!(ok.contains("x-amzn-requestid: "), "{ok}");
    let bad_base64 = ask(
        "x-amz-target: Kinesis_20131202.PutRecord\r\n",
        r#"{"StreamName":"s","Data":"%","PartitionKey":"k"}"#,
    );
    fake.create_stream("s", 1).unwrap();
    assert!(bad_base64.await.contains("SerializationException"));
}
