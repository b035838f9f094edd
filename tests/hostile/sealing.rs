//! Sealing allocates for a chunk, not for a record.

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use kinseal::delivery::{MemoryBudget, Ticket};
use kinseal::record::{PartitionKey, RecordKey};
use kinseal::seal::message::{
    Backend, Binding, Encoding, EncryptedDataKey, EncryptionContext, MessageIds, SecretKeyBytes,
    Settings, Suite, Writer,
};
use kinseal::seal::offload::{Sealing, seal_chunk};
use kinseal::source::{Accepted, Chunk};
use tokio::time::Instant;

/// AWS-LC allocates each key in C, where nobody counts: this is about what is ours.
const BACKEND: Backend = Backend::AesGcm;
/// Bytes of a record.
const RECORD: usize = 200;
/// Of the messages that share one, where a chunk comes to three of them at most.
const BUFFER: usize = 120 << 10;

#[test]
fn messages_into_a_buffer_allocate_for_the_call_and_not_for_the_message() {
    for (suite, encoding) in forms() {
        let writer = writer(suite, encoding);
        let count = |records: usize| {
            let record = [b'x'; 200];
            let mut out = Vec::with_capacity(records * writer.sealed_len(record.len()));
            let (mut ids, mut ends) = (MessageIds::new(), Vec::with_capacity(records));
            let measured = measure(|| {
                let records = std::iter::repeat_n(&record[..], records);
                writer.seal_all(&mut ids, records, &mut out, &mut ends);
            });
            assert_eq!((ends.len(), out.len()), (records, out.capacity()));
            measured.count_total
        };
        assert_eq!(count(100), count(1000), "{suite} {encoding:?}");
    }
}

#[test]
fn a_chunk_allocates_for_its_buffers_and_not_for_its_records() {
    for (suite, encoding) in forms() {
        let sealing = Sealing::Encrypted(Arc::new(writer(suite, encoding)));
        let count = |records: usize| {
            let chunk = chunk(records);
            let received = Instant::now();
            let mut sealed = None;
            let measured = measure(|| sealed = Some(seal_chunk(chunk, &sealing, received)));
            assert_eq!(sealed.map(|sealed| sealed.records.len()), Some(records));
            measured.count_total
        };
        // As many as a buffer takes, of which three are the most; one for all of more.
        let whole = BUFFER / writer(suite, encoding).sealed_len(RECORD);
        let of = |buffers: usize| count(buffers * whole);
        assert_eq!(count(whole / 2), of(1), "{suite} {encoding:?}");
        assert_eq!(of(2) - of(1), of(3) - of(2), "{suite} {encoding:?}");
        assert_eq!(of(4), of(20), "{suite} {encoding:?}");
        assert_eq!(of(4), of(1), "{suite} {encoding:?}");
        assert!(of(3) < 20, "{suite} {encoding:?}: {}", of(3));
    }
}

/// Those without a signature: one is made by AWS-LC for each message.
fn forms() -> impl Iterator<Item = (Suite, Encoding)> {
    let suites = [0x0478, 0x0178, 0x0114].map(|id| Suite::from_id(id).expect("a suite"));
    let encodings = [Encoding::Binary, Encoding::Base64];
    suites
        .into_iter()
        .flat_map(move |suite| encodings.map(|encoding| (suite, encoding)))
}

fn writer(suite: Suite, encoding: Encoding) -> Writer {
    let edk = EncryptedDataKey {
        provider: EncryptedDataKey::KMS.to_owned(),
        info: "arn:aws:kms:eu-west-1:111122223333:key/1".into(),
        ciphertext: vec![5; 184].into(),
    };
    let binding = Binding::new(suite, &EncryptionContext::new()).expect("a suite that is written");
    let key = SecretKeyBytes::new(vec![7; binding.key_len()]);
    let settings = Settings {
        suite,
        encoding,
        backend: BACKEND,
        ..Settings::default()
    };
    Writer::new(binding, &key, &[edk], settings).expect("valid")
}

fn chunk(records: usize) -> Chunk {
    let budget = MemoryBudget::new(1 << 20);
    let key = PartitionKey::new("k").expect("short");
    let accepted = || {
        let memory = budget.try_reserve(1).expect("room for it");
        let (ticket, _) = Ticket::for_caller(Instant::now(), memory);
        Accepted {
            data: vec![b'x'; RECORD].into(),
            key: RecordKey::Keyed(key.clone()),
            ticket,
        }
    };
    Chunk {
        records: std::iter::repeat_with(accepted).take(records).collect(),
        read_took: Duration::ZERO,
    }
}
