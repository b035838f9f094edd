use std::sync::Arc;

use serde_json::json;

use super::translate::{Answer, Opened, Translator};
use super::*;
use crate::consume::{Place, UserRecord};
use crate::shard::ShardId;

/// A record of the daemon's with what was in it: itself, or a block of so many.
fn opened(sequence: &str, sub_sequence: u64, block: Option<u32>) -> Opened {
    let record = json!({
        "data": "b3V0ZXI=", "partitionKey": "outer", "sequenceNumber": sequence,
        "subSequenceNumber": sub_sequence, "approximateArrivalTimestamp": 1_764_460_800_123_u64,
    });
    let mut opened = Opened::of(record);
    for number in 0..block.unwrap_or(1) {
        opened.holds(UserRecord {
            place: Place {
                shard: ShardId::new("s"),
                sequence: "0".into(),
                sub_sequence: 0,
                in_block: block.map(|_| number),
            },
            partition_key: Arc::from("inner"),
            data: Bytes::from(format!("{sequence}/{sub_sequence}/{number}")),
            arrived: None,
            sealed: None,
        });
    }
    opened
}

fn told(records: &[Value]) -> Vec<(String, u64, String)> {
    let each = records.iter().map(|record| {
        let data = from_base64(record["data"].as_str().unwrap()).unwrap();
        (
            record["sequenceNumber"].as_str().unwrap().to_owned(),
            record["subSequenceNumber"].as_u64().unwrap(),
            String::from_utf8(data.to_vec()).unwrap(),
        )
    });
    each.collect()
}

fn checkpoint(translator: &mut Translator, sequence: &str, sub: u64) -> (Answer, Value) {
    let message =
        json!({"action": "checkpoint", "sequenceNumber": sequence, "subSequenceNumber": sub});
    let Value::Object(mut message) = message else {
        unreachable!("it is one")
    };
    let answer = translator.checkpoint(&mut message);
    (answer, Value::Object(message))
}

fn at(sequence: &str, sub: u64) -> Value {
    json!({"action": "checkpoint", "sequenceNumber": sequence, "subSequenceNumber": sub})
}

#[test]
fn records_that_are_no_blocks_keep_their_numbers_and_their_checkpoints() {
    let mut translator = Translator::default();
    let records = translator.deliver(vec![opened("1", 0, None), opened("1", 1, None)]);
    let expected = [("1", 0, "1/0/0"), ("1", 1, "1/1/0")];
    assert_eq!(
        told(&records),
        expected.map(|(s, n, d)| (s.to_owned(), n, d.to_owned()))
    );
    assert_eq!(records[0]["partitionKey"], "outer");
    assert_eq!(
        records[0]["approximateArrivalTimestamp"],
        1_764_460_800_123_u64
    );
    assert_eq!(
        checkpoint(&mut translator, "1", 1),
        (Answer::AsItIs, at("1", 1))
    );
}

#[test]
fn a_blocks_records_have_numbers_of_their_own_in_order_and_the_same_each_time() {
    let blocks = || {
        vec![
            opened("7", 0, Some(2)),
            opened("7", 1, Some(3)),
            opened("8", 0, Some(1)),
        ]
    };
    let mut translator = Translator::default();
    let records = told(&translator.deliver(blocks()));
    let numbers: Vec<_> = records.iter().map(|(s, n, _)| (s.clone(), *n)).collect();
    assert!(numbers.is_sorted() && numbers.len() == 6, "{numbers:?}");
    // After a restart behind the first block.
    let mut restarted = Translator::default();
    let again = told(&restarted.deliver(blocks().split_off(1)));
    assert_eq!(again, records[2..]);
}

#[test]
fn a_checkpoint_within_a_block_is_one_of_what_lies_wholly_before_it() {
    let mut translator = Translator::default();
    let delivered = vec![
        opened("6", 4, None),
        opened("7", 0, Some(2)),
        opened("7", 1, Some(3)),
    ];
    let numbers: Vec<u64> = told(&translator.deliver(delivered))
        .iter()
        .map(|r| r.1)
        .collect();
    for (number, expected) in [
        (numbers[1], ("6", 4)),
        (numbers[2], ("7", 0)),
        (numbers[3], ("7", 0)),
        (numbers[4], ("7", 0)),
        (numbers[5], ("7", 1)),
    ] {
        let (answer, message) = checkpoint(&mut translator, "7", number);
        assert_eq!(
            (answer, message),
            (Answer::Translated, at(expected.0, expected.1))
        );
        // The daemon's answer is in the numbers that were asked for.
        let Value::Object(mut answered) = at(expected.0, expected.1) else {
            unreachable!("it is one")
        };
        translator.checkpointed(&mut answered);
        assert_eq!(Value::Object(answered), at("7", number));
    }
}

#[test]
fn a_checkpoint_with_nothing_wholly_before_it_is_answered_here() {
    let mut translator = Translator::default();
    let records = told(&translator.deliver(vec![opened("7", 3, Some(2))]));
    let (answer, message) = checkpoint(&mut translator, "7", records[0].1);
    assert_eq!(answer, Answer::Here);
    assert_eq!(
        (&message["error"], &message["sequenceNumber"]),
        (&Value::Null, &"7".into())
    );
    // Without a number of its own, as the first processors ask: no more than is sure.
    let Value::Object(mut vague) = json!({"action": "checkpoint", "sequenceNumber": "7"}) else {
        unreachable!("it is one")
    };
    assert_eq!(translator.checkpoint(&mut vague), Answer::Here);
    // Of all that was delivered.
    let Value::Object(mut all) = json!({"action": "checkpoint", "sequenceNumber": null}) else {
        unreachable!("it is one")
    };
    assert_eq!(translator.checkpoint(&mut all), Answer::AsItIs);
}
