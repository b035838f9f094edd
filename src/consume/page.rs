//! The records of GetRecords' answer, read by ourselves: the SDK looks at each byte of 10 MB several times over.
//!
//! The SDK is handed the rest, without records.
//!
//! Source: <https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html>.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::DateTime;
use base64_simd::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::shards::StoredRecord;
use crate::send::reading::{Text, read_first};

/// Where the records of one call's answer are put, while the SDK reads it.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    read: Arc<Mutex<Vec<StoredRecord>>>,
    memory: Memory,
}

/// An answer's, for the next one of the stream: 10 MB that come anew each time are 3,000 page faults, which take longer than
/// what is done with them. One is kept, of the last answer's length.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut *self.0.lock().expect("no panic while held"))
    }

    fn keep(&self, mut body: Vec<u8>) {
        body.shrink_to(2 * body.len());
        body.clear();
        *self.0.lock().expect("no panic while held") = body;
    }
}

impl Records {
    pub(super) fn with(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            ..Self::default()
        }
    }

    /// None where the call failed.
    pub(super) fn take(&self) -> Vec<StoredRecord> {
        mem::take(&mut *self.read.lock().expect("no panic while held"))
    }
}

impl Intercept for Records {
    fn name(&self) -> &'static str {
        "Records"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let Self { read, memory } = self.clone();
            read_first(response, memory.take(), move |json| {
                let (records, rest) =
                    split(&json).map_err(|e| format!("an answer cannot be understood: {e}"))?;
                *read.lock().expect("no panic while held") = records;
                memory.keep(json);
                Ok(rest.into())
            });
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
    // What the SDK reads: small, and null is as good as absent.
    #[serde(default)]
    next_shard_iterator: Value,
    #[serde(default)]
    millis_behind_latest: Value,
    #[serde(default)]
    child_shards: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry<'a> {
    #[serde(borrow)]
    sequence_number: Text<'a>,
    /// Absent where the service itself spreads the records.
    #[serde(borrow)]
    partition_key: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
    /// Seconds since 1970.
    approximate_arrival_timestamp: Option<f64>,
}

/// The records of an answer, and the answer without them.
fn split(json: &[u8]) -> Result<(Vec<StoredRecord>, Vec<u8>), BoxError> {
    let answer: Answer<'_> = serde_json::from_slice(json)?;
    let rest = json!({
        "Records": [],
        "NextShardIterator": answer.next_shard_iterator,
        "MillisBehindLatest": answer.millis_behind_latest,
        "ChildShards": answer.child_shards,
    });
    let records = answer.records.into_iter().map(stored);
    Ok((records.collect::<Result<_, _>>()?, rest.to_string().into()))
}

fn stored(entry: Entry<'_>) -> Result<StoredRecord, BoxError> {
    let Entry {
        sequence_number: Text(sequence),
        partition_key: Text(partition_key),
        data: Text(data),
        approximate_arrival_timestamp: arrived,
    } = entry;
    let data = STANDARD.decode_to_vec(data.as_bytes());
    let data = data.map_err(|_| format!("the data of record {sequence} is no base64"))?;
    let arrived = arrived.map(DateTime::from_secs_f64);
    Ok(StoredRecord {
        sequence: Arc::from(&*sequence),
        partition_key: partition_key.into_owned(),
        data: Bytes::from(data),
        arrived: arrived.and_then(|time| SystemTime::try_from(time).ok()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::consume::shards::{self, KinesisStream, Page, ReadStream};
    use crate::record::StreamName;
    use crate::send::CallError;
    use crate::send::reading::tests::client_that_hears;

    /// The records as the SDK reads them, or that it does not.
    fn by_the_sdk(json: &[u8]) -> Option<Vec<StoredRecord>> {
        let (runtime, client) = client_that_hears(json);
        let answer = runtime.block_on(client.get_records().shard_iterator("i").send());
        let records = answer.ok()?.records.into_iter();
        Some(records.map(shards::stored).collect())
    }

    fn page(json: &[u8]) -> Result<Page, CallError> {
        let (runtime, client) = client_that_hears(json);
        let stream = KinesisStream::new(client, StreamName::new("s").expect("a name"));
        runtime.block_on(stream.page("i"))
    }

    fn record() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            Just(None),
            Just(Some(Value::Null)),
            any::<String>().prop_map(|text| Some(text.into())),
        ];
        let data = any::<Vec<u8>>().prop_map(|data| STANDARD.encode_to_string(data));
        let time = prop_oneof![
            Just(Value::Null),
            (0..4_000_000_000_000_u64).prop_map(|ms| json!(ms as f64 / 1e3)),
            (0..4_000_000_000_u64).prop_map(|seconds| json!(seconds)),
        ];
        (text, data, time).prop_map(|(key, data, time)| {
            let mut record = json!({
                "SequenceNumber": "49590338271490256608559692538361571095921575989136588898", "Data": data,
                "ApproximateArrivalTimestamp": time, "EncryptionType": "KMS",
            });
            if let Some(key) = key {
                record["PartitionKey"] = key;
            }
            record
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_page_has_the_records_that_the_sdk_reads_in_its_answer(
            records in prop::collection::vec(record(), 0..6), behind in any::<Option<u32>>(),
        ) {
            let answer = json!({
                "MillisBehindLatest": behind, "New": [{"a": [1.5]}], "Records": records, "NextShardIterator": "next",
                "ChildShards": [{
                    "ShardId": "shardId-000000000001", "ParentShards": ["shardId-000000000000"],
                    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
                }],
            });
            let json = answer.to_string().into_bytes();
            let page = page(&json).expect("an answer");
            prop_assert_eq!(Some(page.records), by_the_sdk(&json));
            prop_assert_eq!(page.next.as_deref(), Some("next"));
            prop_assert_eq!(page.behind.as_millis(), u128::from(behind.unwrap_or(0)));
            prop_assert_eq!(page.children.len(), 1);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = split(&bytes);
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_as_it_is_to_the_sdk() {
        // To the SDK these are the end of a shard: all that is left of it would be passed over.
        for json in ["", "{}"] {
            assert!(page(json.as_bytes()).is_err(), "{json}");
        }
        for json in [
            "[]",
            "null",
            r#"{"Records": [{"#,
            r#"{"Records": [1]}"#,
            r#"{"Records": [{"SequenceNumber": "1", "Data": "%%%%"}]}"#,
            r#"{"Records": [{"SequenceNumber": "1", "Data": "YQ"}]}"#,
            r#"{"Records": [{"SequenceNumber": 1, "Data": "YQ=="}]}"#,
        ] {
            assert!(page(json.as_bytes()).is_err(), "{json}");
            assert_eq!(by_the_sdk(json.as_bytes()), None, "{json}");
        }
        let why = page(br#"{"Records": [{"SequenceNumber": "17", "Data": "%"}]}"#).unwrap_err();
        assert!(why.message.contains("record 17"), "{why}");
    }

    #[test]
    fn data_with_escapes_is_read_as_well() {
        let json = br#"{"Records": [{"SequenceNumber": "1", "Data": "\/\/79\u002b\u002b8="}]}"#;
        assert_eq!(
            page(json).unwrap().records[0].data,
            &[255, 254, 253, 251, 239][..]
        );
        assert_eq!(Some(page(json).unwrap().records), by_the_sdk(json));
    }
}
