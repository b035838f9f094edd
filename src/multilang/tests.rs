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
        opened.holds(user(sequence, sub_sequence, number, block.is_some()));
    }
    opened
}

fn user(sequence: &str, sub_sequence: u64, number: u32, in_block: bool) -> UserRecord {
    UserRecord {
        place: Place {
            shard: ShardId::new("s"),
            sequence: "0".into(),
            sub_sequence: 0,
            in_block: in_block.then_some(number),
        },
        partition_key: Arc::from("inner"),
        data: Bytes::from(format!("{sequence}/{sub_sequence}/{number}")),
        arrived: None,
        sealed: None,
    }
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
fn records_of_which_nothing_was_packed_keep_their_numbers_and_their_checkpoints() {
    let mut translator = Translator::default();
    let records = translator.deliver(vec![opened("1", 0, None), opened("2", 0, None)]);
    let expected = [("1", 0, "1/0/0"), ("2", 0, "2/0/0")];
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
        checkpoint(&mut translator, "2", 0),
        (Answer::AsItIs, at("2", 0))
    );
}

fn object(message: Value) -> Map<String, Value> {
    match message {
        Value::Object(message) => message,
        _ => unreachable!("it is one"),
    }
}

/// Of processors from before there were sub-sequence numbers.
#[test]
fn a_checkpoint_in_the_older_form_covers_no_block() {
    let mut translator = Translator::default();
    translator.deliver(vec![
        opened("98", 0, Some(3)),
        opened("99", 0, None),
        opened("100", 0, Some(3)),
    ]);
    let old = |at: &str| object(json!({"action": "checkpoint", "checkpoint": at}));
    let mut message = old("100");
    assert_eq!(translator.checkpoint(&mut message), Answer::Translated);
    assert_eq!(message, old("99"));
    let mut answer = object(json!({"action": "checkpoint", "checkpoint": "99", "error": null}));
    translator.checkpointed(&mut answer);
    assert_eq!(answer["checkpoint"], "100", "as it was asked");

    let mut message = old("99");
    assert_eq!(translator.checkpoint(&mut message), Answer::AsItIs);
    let mut message = old("TRIM_HORIZON");
    assert_eq!(translator.checkpoint(&mut message), Answer::AsItIs);
    let mut first = Translator::default();
    first.deliver(vec![opened("98", 0, Some(3))]);
    let mut message = old("98");
    assert_eq!(first.checkpoint(&mut message), Answer::Here);
    assert_eq!(message["error"], Value::Null);
}

/// The daemon has handed over more, and would take it for all of that.
#[test]
fn once_cut_a_checkpoint_of_all_is_of_what_was_delivered_and_nothing_else_is_said() {
    let all = || object(json!({"action": "checkpoint", "sequenceNumber": null}));
    let status = |of: &str| object(json!({"action": "status", "responseFor": of}));
    let mut translator = Translator::default();
    assert_eq!(translator.checkpoint(&mut all()), Answer::AsItIs);
    let seen_to = translator.seen_to(&status("processRecords"));
    assert_eq!(seen_to, Answer::AsItIs);
    translator.cut();
    assert_eq!(
        translator.checkpoint(&mut all()),
        Answer::Here,
        "of nothing"
    );
    translator.deliver(vec![opened("98", 0, Some(3)), opened("99", 4, None)]);
    let mut message = all();
    assert_eq!(translator.checkpoint(&mut message), Answer::Translated);
    assert_eq!(Value::Object(message), at("99", 4));
    let seen_to = |of| translator.seen_to(&status(of));
    assert_eq!(seen_to("processRecords"), Answer::Kept);
    assert_eq!(seen_to("leaseLost"), Answer::AsItIs);
}

/// In an aggregate they are numbered as blocks are, which may lie beside them.
#[test]
fn records_that_are_no_blocks_have_checkpoints_of_their_own() {
    let mut translator = Translator::default();
    let delivered = vec![opened("1", 0, None), opened("1", 1, None)];
    let numbers: Vec<u64> = told(&translator.deliver(delivered))
        .iter()
        .map(|r| r.1)
        .collect();
    assert_eq!(numbers, [0, 1 << 20]);
    assert_eq!(
        checkpoint(&mut translator, "1", numbers[0]),
        (Answer::AsItIs, at("1", 0))
    );
    assert_eq!(
        checkpoint(&mut translator, "1", numbers[1]),
        (Answer::Translated, at("1", 1))
    );
}

/// Whether a record was shifted was once decided by what else came of its Kinesis record: the single one behind a block had a lower
/// number after a restart between them.
#[test]
fn a_records_number_does_not_depend_on_what_came_with_it() {
    let mixes = [None, Some(1), Some(3)];
    for (first, second, third) in triples(mixes) {
        let all = || {
            vec![
                opened("101", 0, first),
                opened("101", 1, second),
                opened("101", 2, third),
                opened("102", 0, second),
            ]
        };
        let records = told(&Translator::default().deliver(all()));
        let numbers: Vec<_> = records.iter().map(|(s, n, _)| (s.clone(), *n)).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        for restart in 1..4 {
            let again = told(&Translator::default().deliver(all().split_off(restart)));
            assert!(records.ends_with(&again), "{records:?} {again:?}");
        }
    }
}

/// Every one of three.
fn triples<T: Copy>(of: [T; 3]) -> impl Iterator<Item = (T, T, T)> {
    let pairs = move |a| of.into_iter().map(move |b| (a, b));
    let pairs = of.into_iter().flat_map(pairs);
    pairs.flat_map(move |(a, b)| of.into_iter().map(move |c| (a, b, c)))
}

#[test]
fn a_record_that_cannot_be_opened_leaves_its_place_to_no_other() {
    let mut block = opened("7", 0, Some(1));
    block.misses();
    block.holds(user("7", 0, 2, true));
    block.misses();
    let mut translator = Translator::default();
    let records = told(&translator.deliver(vec![opened("6", 0, None), block]));
    let numbers: Vec<u64> = records.iter().map(|r| r.1).collect();
    assert_eq!(numbers, [0, 0, 2]);
    // Behind the last that can be opened, all is done with.
    assert_eq!(checkpoint(&mut translator, "7", 0).1, at("6", 0));
    let mut translator = Translator::default();
    let mut block = opened("7", 0, Some(2));
    block.misses();
    translator.deliver(vec![block]);
    assert_eq!(checkpoint(&mut translator, "7", 1).1, at("7", 0));
}

/// It was once handed on with the processor's own number, as if that were the daemon's.
#[test]
fn a_checkpoint_of_what_is_not_remembered_is_of_the_record_before() {
    let mut translator = Translator::default();
    let (blocks, each) = (100_000 + 50, 10);
    let delivered = (0..blocks).map(|n| opened(&(n / each).to_string(), n % each, Some(2)));
    translator.deliver(delivered.collect());
    let within = |sub: u64, place: u64| sub << 20 | place;
    // Whether that is its last record is not known.
    for place in [0, 1] {
        assert_eq!(
            checkpoint(&mut translator, "2", within(3, place)),
            (Answer::Translated, at("2", 2))
        );
        assert_eq!(
            checkpoint(&mut translator, "2", within(0, place)).0,
            Answer::Here
        );
    }
    let last = (blocks / each - 1).to_string();
    assert_eq!(
        checkpoint(&mut translator, &last, within(3, 1)),
        (Answer::Translated, at(&last, 3))
    );
    // Nor is what lies before a checkpoint, or before a restart.
    assert_eq!(
        checkpoint(&mut translator, &last, within(2, 1)),
        (Answer::Translated, at(&last, 1))
    );
    assert_eq!(
        checkpoint(&mut Translator::default(), "2", within(3, 1)),
        (Answer::Translated, at("2", 2))
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
