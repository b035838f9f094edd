//! A stand-in for a daemon's stream, and what is expected of answers.

use kinseal::aggregate::format::deaggregate;
use kinseal::daemon::message::PutRecordResult;
use kinseal::fake::{Fake, StoredRecord};

use super::{Client, Generation};
use crate::support::agent::STREAM;
use crate::support::lines::{Arrived, line};
use crate::support::servers::StandIn;

pub(crate) const USUAL: Generation = Generation::CredentialsAsArguments;

pub(crate) fn site(shards: i32) -> StandIn {
    let site = StandIn::built(Fake::builder().strict(true));
    site.endpoints.create_stream(STREAM, shards);
    site
}

pub(crate) fn put_lines(client: &mut Client, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        client.put(
            number,
            STREAM,
            &format!("key-{}", number % 1000),
            line(number),
        );
    }
}

/// The user records that lie in the stream.
pub(crate) fn stored(site: &StandIn) -> Arrived {
    let records = site.fake.records(STREAM).expect("it is there");
    Arrived::of(records.iter().flat_map(user_records))
}

fn user_records(record: &StoredRecord) -> Vec<Vec<u8>> {
    match deaggregate(&record.data) {
        Some(members) => members.into_iter().map(|m| m.data.to_vec()).collect(),
        None => vec![record.data.to_vec()],
    }
}

pub(crate) fn expect_stored(results: impl IntoIterator<Item = PutRecordResult>) {
    for result in results {
        assert!(result.success, "{result:?}");
        assert!(result.shard_id.is_some() && result.sequence_number.is_some());
        assert!(result.attempts.last().is_some_and(|last| last.success));
    }
}

pub(crate) fn code(result: &PutRecordResult) -> &str {
    let last = result.attempts.last().expect("one at least");
    last.error_code.as_deref().unwrap_or("")
}
