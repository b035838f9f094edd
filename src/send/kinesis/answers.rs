//! What PutRecords answers, read by ourselves: the SDK would make four strings of each entry, of five hundred in a call.
//!
//! The SDK is handed the rest, without entries, and goes on saying what an error means. It reads JSON only: errors in CBOR
//! are made the same in JSON.

use std::sync::{Arc, Mutex};

use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use bytes::Bytes;

use super::{CONTENT_TYPE, as_one_line};
use crate::cbor::{is_cbor, to_json};
use crate::send::EntryOutcome;
use crate::send::reading::{Text, read_first};

/// An answer without entries, as JSON.
const NONE: &[u8] = br#"{"Records":[]}"#;

/// Where the entries of one call's answer are put.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Option<Vec<EntryOutcome>>>>);

impl Answers {
    /// Those that came; none where the call failed.
    pub(super) fn take(&self) -> Vec<EntryOutcome> {
        let mut answers = self.0.lock().expect("no panic while held");
        answers.take().unwrap_or_default()
    }

    /// Sees to it that the entries are put here while the SDK reads the answer.
    pub(super) fn take_out_of(&self, response: &mut HttpResponse) {
        let is_cbor = response.headers().get(CONTENT_TYPE).is_some_and(is_cbor);
        let is_stored = response.status().is_success();
        if !is_stored && !is_cbor {
            return;
        }
        let entries = is_stored.then(|| self.clone());
        read_first(response, Vec::new(), move |read| {
            let json = match is_cbor {
                true => {
                    to_json(&read).map_err(|e| format!("an answer in CBOR cannot be read: {e}"))?
                }
                false => read,
            };
            match &entries {
                None => Ok(json.into()),
                Some(entries) => entries.keep(&json),
            }
        });
    }

    /// What the SDK is handed.
    fn keep(&self, json: &[u8]) -> Result<Bytes, BoxError> {
        let answered =
            outcomes(json).map_err(|e| format!("an answer cannot be understood: {e}"))?;
        *self.0.lock().expect("no panic while held") = Some(answered);
        Ok(Bytes::from_static(NONE))
    }
}

/// PutRecords' answer in JSON, as far as it tells what became of the entries.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer<'a> {
    #[serde(borrow)]
    records: Vec<Entry<'a>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Entry<'a> {
    #[serde(borrow)]
    sequence_number: Text<'a>,
    #[serde(borrow)]
    shard_id: Text<'a>,
    #[serde(borrow)]
    error_code: Text<'a>,
    #[serde(borrow)]
    error_message: Text<'a>,
}

fn outcomes(json: &[u8]) -> serde_json::Result<Vec<EntryOutcome>> {
    let answer: Answer<'_> = serde_json::from_slice(json)?;
    // Neighbours are often of one shard.
    let mut last: Arc<str> = Arc::from("");
    let outcomes = answer.records.into_iter().map(|entry| {
        let Entry {
            sequence_number: Text(sequence),
            shard_id: Text(shard),
            error_code: Text(code),
            error_message: Text(message),
        } = entry;
        // Stored if there is a sequence number, as with the KPL. An answer that says both is none the service gives: that
        // may double, the other might lose.
        if sequence.is_empty() || shard.is_empty() || !code.is_empty() {
            return EntryOutcome::Refused {
                code: code.into_owned(),
                message: as_one_line(&message),
            };
        }
        if *last != *shard {
            last = Arc::from(&*shard);
        }
        EntryOutcome::Stored {
            shard: Arc::clone(&last),
            sequence: Arc::from(&*sequence),
        }
    });
    Ok(outcomes.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::send::reading::tests::client_that_hears;

    /// The entries as the SDK reads them, or that it does not.
    fn by_the_sdk(json: &[u8]) -> Option<Vec<[String; 4]>> {
        let (runtime, client) = client_that_hears(json);
        let answer = runtime.block_on(client.put_records().stream_name("s").send());
        let entries = answer.ok()?.records.into_iter().map(|entry| {
            [
                entry.sequence_number,
                entry.shard_id,
                entry.error_code,
                entry.error_message,
            ]
            .map(Option::unwrap_or_default)
        });
        Some(entries.collect())
    }

    fn by_us(json: &[u8]) -> Option<Vec<[String; 4]>> {
        let answer: Answer<'_> = serde_json::from_slice(json).ok()?;
        let entries = answer.records.into_iter().map(|entry| {
            [
                entry.sequence_number,
                entry.shard_id,
                entry.error_code,
                entry.error_message,
            ]
            .map(|Text(text)| text.into_owned())
        });
        Some(entries.collect())
    }

    fn entries() -> impl Strategy<Value = Vec<serde_json::Value>> {
        let text = prop_oneof![
            Just(serde_json::Value::Null),
            "[0-9]{1,56}".prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        let name = prop::sample::select(vec![
            "SequenceNumber",
            "ShardId",
            "ErrorCode",
            "ErrorMessage",
            "EncryptionType",
        ]);
        let entry = prop::collection::btree_map(name, text, 0..5);
        prop::collection::vec(entry.prop_map(|entry| serde_json::json!(entry)), 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_answer_says_what_the_sdk_reads_in_it(entries in entries(), failed in any::<Option<u8>>()) {
            let answer = serde_json::json!({
                "FailedRecordCount": failed, "EncryptionType": "NONE", "Records": entries, "New": [{"a": [1.5]}],
            });
            let json = answer.to_string().into_bytes();
            let theirs = by_the_sdk(&json);
            prop_assert!(theirs.is_some());
            prop_assert_eq!(by_us(&json), theirs);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = outcomes(&bytes);
        }
    }

    #[test]
    fn an_entry_is_stored_that_has_a_sequence_number_and_no_error() {
        let json = br#"{"Records": [
            {"SequenceNumber": "1", "ShardId": "shardId-000000000000"},
            {"SequenceNumber": "2", "ShardId": "shardId-000000000000", "ErrorCode": null, "ErrorMessage": null},
            {"SequenceNumber": "3", "ShardId": "shardId-000000000000", "ErrorCode": "InternalFailure"},
            {"SequenceNumber": "", "ShardId": "shardId-000000000000"},
            {"SequenceNumber": "4"},
            {"ErrorCode": "InternalFailure", "ErrorMessage": "a\nb"}
        ]}"#;
        let outcomes = outcomes(json).expect("it is one");
        let is_stored = |outcome: &EntryOutcome| matches!(outcome, EntryOutcome::Stored { .. });
        let stored: Vec<bool> = outcomes.iter().map(is_stored).collect();
        assert_eq!(stored, [true, true, false, false, false, false]);
        let refused = EntryOutcome::Refused {
            code: "InternalFailure".to_owned(),
            message: "a b".to_owned(),
        };
        assert_eq!(outcomes[5], refused);
    }

    #[test]
    fn an_answer_without_records_or_cut_short_is_none() {
        for json in [
            "{}",
            "",
            "[]",
            "null",
            r#"{"Records": [{"#,
            r#"{"Records": [1]}"#,
        ] {
            assert!(outcomes(json.as_bytes()).is_err(), "{json}");
        }
    }
}
