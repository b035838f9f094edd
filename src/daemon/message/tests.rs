use proptest::prelude::*;

use super::*;

fn request(record: &PutRecord, id: u64) -> Bytes {
    let message = Message {
        id,
        put_record: Some(record.clone()),
        ..Message::default()
    };
    message.encode_to_vec().into()
}

proptest! {
    #[test]
    fn a_record_comes_through_as_it_was_said(
        id: u64, stream_name: String, partition_key: Option<String>,
        explicit_hash_key: Option<String>, data: Vec<u8>,
    ) {
        let data = data.into();
        let record = PutRecord { stream_name, partition_key, explicit_hash_key, data };
        let request = Request::decode(request(&record, id));
        prop_assert_eq!(request, Ok(Request::PutRecord { id, record }));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = Request::decode(bytes.into());
    }
}

/// By hand, from the field numbers.
#[test]
fn messages_are_what_they_are_on_the_wire() {
    let bytes = b"\x08\x07\x1a\x0d\x0a\x01s\x12\x01k\x1a\x01\x35\x22\x02hi";
    let expected = PutRecord {
        stream_name: "s".into(),
        partition_key: Some("k".into()),
        explicit_hash_key: Some("5".into()),
        data: "hi".into(),
    };
    let request = Request::decode(Bytes::from_static(bytes)).unwrap();
    assert_eq!(
        request,
        Request::PutRecord {
            id: 7,
            record: expected
        }
    );
    let flush = Request::decode(Bytes::from_static(b"\x08\x01\x22\x00"));
    assert_eq!(flush, Ok(Request::Flush { stream: None }));
    let request = MetricsRequest::default();
    let metrics = Request::decode(Bytes::from_static(b"\x08\x02\x3a\x00"));
    assert_eq!(metrics, Ok(Request::Metrics { id: 2, request }));
    // What is not invented yet.
    let other = Request::decode(Bytes::from_static(b"\x08\x09\xa2\x06\x02hi"));
    assert_eq!(other, Ok(Request::Other));
    let mut frame = Vec::new();
    let result = PutRecordResult {
        attempts: vec![Attempt {
            delay: 0,
            duration: 3,
            success: true,
            error_code: None,
            error_message: None,
        }],
        success: true,
        shard_id: Some("s".into()),
        sequence_number: Some("9".into()),
    };
    result.encode(7, &mut frame);
    assert_eq!(
        frame,
        b"\x00\x00\x00\x16\x08\x07\x10\x07\x2a\x10\x0a\x06\x08\x00\x10\x03\x18\x01\x10\x01\x1a\x01s\x22\x019"
    );
    frame.clear();
    MetricsResponse::default().encode(2, &mut frame);
    assert_eq!(frame, b"\x00\x00\x00\x06\x08\x02\x10\x02\x42\x00");
}

fn frame_of(hex: &str) -> Bytes {
    let bytes = (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16));
    let frame: Vec<u8> = bytes.collect::<Result<_, _>>().expect("hex");
    let (length, body) = frame.split_at(4);
    assert_eq!(
        length,
        u32::try_from(body.len()).unwrap().to_be_bytes(),
        "{hex}"
    );
    Bytes::copy_from_slice(body)
}

/// As KPL 1.0.7's own client was seen to send them.
#[test]
fn frames_of_the_kpls_own_client_say_what_it_asked() {
    let record = |stream: &str, explicit: Option<&str>, data: &str| PutRecord {
        stream_name: stream.into(),
        partition_key: Some("0".into()),
        explicit_hash_key: explicit.map(Into::into),
        data: data.to_owned().into(),
    };
    let credentials = SetCredentials {
        for_metrics: Some(false),
        credentials: Credentials {
            akid: "AKIDEXAMPLE".into(),
            secret_key: "stub-secret".into(),
            token: None,
        },
    };
    let stream = StreamMetadata {
        stream_name: "alpha".into(),
        stream_id: Some("id-123".into()),
        record_distribution_strategy: None,
    };
    let ping = MetricsRequest {
        name: Some("UserRecordsPut".into()),
        seconds: Some(1),
    };
    let all = MetricsRequest::default();
    for (hex, id, expected) in [
        (
            "0000003708011a330a047465737412013022287265632d303030303030303030307c78787878787878787878787878787878787878787878787878",
            1,
            Request::PutRecord {
                id: 1,
                record: record("test", None, &format!("rec-0000000000|{}", "x".repeat(25))),
            },
        ),
        ("0000000408062200", 6, Request::Flush { stream: None }),
        (
            "0000000408073a00",
            7,
            Request::Metrics {
                id: 7,
                request: all,
            },
        ),
        (
            "0000001608023a120a0e557365725265636f7264735075741001",
            2,
            Request::Metrics {
                id: 2,
                request: ping,
            },
        ),
        (
            "000000130801520f0a05616c706861120669642d313233",
            1,
            Request::Stream(stream),
        ),
        (
            "0000002a08ffffffffffffffff7f4a1e0800121a0a0b414b49444558414d504c45120b737475622d736563726574",
            i64::MAX as u64,
            Request::Credentials(credentials),
        ),
    ] {
        let body = frame_of(hex);
        assert_eq!(Request::decode(body.clone()), Ok(expected.clone()), "{hex}");
        let mut frame = Vec::new();
        expected.encode(id, &mut frame);
        assert_eq!(&frame[4..], &body[..], "{hex}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let credentials = Credentials {
        akid: "AKIDEXAMPLE".into(),
        secret_key: "sec".into(),
        token: Some("tok".into()),
    };
    let set = SetCredentials {
        for_metrics: None,
        credentials,
    };
    let printed = format!("{:?}", Request::Credentials(set));
    assert!(printed.contains("AKIDEXAMPLE"), "{printed}");
    assert!(
        !printed.contains("sec\"") && !printed.contains("tok\""),
        "{printed}"
    );
}

#[test]
fn a_record_that_cannot_be_decoded_still_has_its_id() {
    let bad = b"\x08\x07\x1a\x08\x0a\x01s\x12\x01\xff\x22\x00";
    assert!(Request::decode(Bytes::from_static(bad)).is_err());
    assert_eq!(Request::id_of_undecodable_record(bad), Some(7));
    assert_eq!(Request::id_of_undecodable_record(b"\x08\x07\x22\x00"), None);
}
