//! Requests in CBOR, as the SDKs for Java send them.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fake::cbor::from_json;

/// Sends an operation's request; its answer as it would be in JSON.
async fn ask(fake: &Fake, operation: &str, body: &[u8]) -> Value {
    let (head, answer) = exchange(fake, operation, body).await;
    assert!(
        head.contains("content-type: application/x-amz-cbor-1.1"),
        "{head}"
    );
    serde_json::from_slice(&crate::cbor::to_json(&answer).unwrap()).unwrap()
}

/// The answer's head, and its body as it came.
async fn exchange(fake: &Fake, operation: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut socket = tokio::net::TcpStream::connect(fake.kinesis_addr())
        .await
        .unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\
         content-type: application/x-amz-cbor-1.1\r\nx-amz-target: Kinesis_20131202.{operation}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    let end = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8_lossy(&answer[..end]).into_owned(), body)
}

/// Of a body that came in chunks.
fn in_one(chunks: &[u8]) -> Vec<u8> {
    let (mut rest, mut whole) = (chunks, Vec::new());
    loop {
        let line = rest.windows(2).position(|end| end == b"\r\n").unwrap();
        let length = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&rest[line + 2..][..length]);
        rest = &rest[line + 2 + length + 2..];
    }
}

#[tokio::test]
async fn what_is_put_in_cbor_is_read_in_cbor_and_in_json() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    // {_ "StreamName": "s", "PartitionKey": "k", "Data": (_ h'00ff', h'fe')}, its ends open as Jackson leaves them.
    let mut put = vec![0xbf];
    put.extend_from_slice(
        b"\x6aStreamName\x61s\x6cPartitionKey\x61k\x64Data\x5f\x42\x00\xff\x41\xfe\xff\xff",
    );
    let stored = ask(&fake, "PutRecord", &put).await;
    assert_eq!(stored["ShardId"], "shardId-000000000000");
    assert_eq!(&fake.records("s").unwrap()[0].data[..], b"\x00\xff\xfe");

    let iterator = json!({"StreamName": "s", "ShardId": "shardId-000000000000",
                          "ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1});
    let iterator = ask(
        &fake,
        "GetShardIterator",
        &from_json(iterator.to_string().as_bytes()),
    )
    .await;
    let records = ask(
        &fake,
        "GetRecords",
        &from_json(iterator.to_string().as_bytes()),
    )
    .await;
    let record = &records["Records"][0];
    assert_eq!(record["Data"], "AP/+");
    let in_json = client
        .get_records()
        .shard_iterator(iterator["ShardIterator"].as_str().unwrap());
    let in_json = in_json.send().await.unwrap().records.remove(0);
    let arrived = in_json.approximate_arrival_timestamp.unwrap();
    assert_eq!(record["ApproximateArrivalTimestamp"], arrived.as_secs_f64());
}

#[tokio::test]
async fn who_subscribes_in_cbor_has_events_in_cbor() {
    let (fake, client) = with_stream(Fake::builder(), 1).await;
    let stream = format!("arn:aws:kinesis:{DEFAULT_REGION}:{DEFAULT_ACCOUNT}:stream/s");
    let consumer = client.register_stream_consumer().stream_arn(stream);
    let consumer = consumer.consumer_name("shop").send().await.unwrap();
    put(&client, vec![entry("k", "x")]).await.unwrap();
    // At its end the subscription ends too.
    fake.split("s", "shardId-000000000000").unwrap();
    let body = json!({"ConsumerARN": consumer.consumer.unwrap().consumer_arn,
                      "ShardId": "shardId-000000000000",
                      "StartingPosition": {"Type": "TRIM_HORIZON"}});
    let body = from_json(body.to_string().as_bytes());
    let (head, body) = exchange(&fake, "SubscribeToShard", &body).await;
    assert!(
        head.contains("application/vnd.amazon.eventstream"),
        "{head}"
    );
    let mut frames = bytes::Bytes::from(in_one(&body));
    let mut events = Vec::new();
    while !frames.is_empty() {
        let frame = aws_smithy_eventstream::frame::read_message_from(&mut frames).unwrap();
        let header = |name: &str| {
            let found = frame.headers().iter().find(|h| h.name().as_str() == name);
            found
                .unwrap()
                .value()
                .as_string()
                .unwrap()
                .as_str()
                .to_owned()
        };
        assert_eq!(header(":content-type"), "application/x-amz-cbor-1.1");
        if header(":event-type") == "SubscribeToShardEvent" {
            let payload = crate::cbor::to_json(frame.payload()).unwrap();
            events.push(serde_json::from_slice::<Value>(&payload).unwrap());
        }
    }
    assert_eq!(events[0]["Records"][0]["Data"], "eA==");
    let last = events.last().unwrap();
    assert_eq!(last["ChildShards"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_refusal_in_cbor_has_its_code() {
    let fake = Fake::start().await.unwrap();
    let body = json!({"StreamName": "none", "PartitionKey": "k", "Data": "AA=="});
    let refused = ask(&fake, "PutRecord", &from_json(body.to_string().as_bytes())).await;
    assert_eq!(refused["__type"], "ResourceNotFoundException");
    for no_cbor in [&b"\xff"[..], b"\xbf", b"\x63ab", &[0x81; 100_000]] {
        let refused = ask(&fake, "PutRecords", no_cbor).await;
        assert_eq!(refused["__type"], "SerializationException");
    }
}

#[tokio::test]
async fn null_mode_reads_the_same_keys_in_cbor_as_in_json() {
    let (fake, client) = with_stream(Fake::builder().null(true), 7).await;
    let keys = (0..200).map(|n| format!("key \"{n}\" ü"));
    let explicit = (0..50_u128).map(|n| n << 121);
    let mut entries: Vec<_> = keys.clone().map(|key| entry(&key, vec![0; 40])).collect();
    entries.extend(explicit.clone().map(|hash_key| entry_at(hash_key, "x")));
    let expected = put(&client, entries).await.unwrap();
    let expected: Vec<_> = expected
        .records
        .iter()
        .map(|r| r.shard_id.clone().unwrap())
        .collect();

    let keyed = keys.map(|key| json!({"PartitionKey": key, "Data": "AAAA"}));
    let placed = explicit.map(|hash_key| {
        json!({"PartitionKey": "k", "ExplicitHashKey": hash_key.to_string(), "Data": "AAAA"})
    });
    let records: Vec<_> = keyed.chain(placed).collect();
    let body = json!({"StreamName": "s", "Records": records}).to_string();
    let answered = ask(&fake, "PutRecords", &from_json(body.as_bytes())).await;
    let answered = answered["Records"].as_array().unwrap().iter();
    let answered: Vec<_> = answered.map(|r| r["ShardId"].as_str().unwrap()).collect();
    assert_eq!(answered, expected);
}
