//! The pipeline against a model of the service, in memory and on a paused clock.

mod blocks;
mod dead_shard;
mod kpl;
mod model;
mod quota;
mod refusals;
mod routes;
mod unlisted;
mod way;

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::*;
use crate::aggregate::format::deaggregate;
use crate::batch::Batch;
use crate::deadletter;
use crate::delivery::{Delivery, FailReason, Receipt, SpanSettled, Ticket};
use crate::record::{HashKey, PartitionKey, RecordKey};
use crate::retry::LONE_REFUSALS;
use crate::seal::block::Packing;
use crate::seal::key::GenerateDataKey;
use crate::seal::open::Opener;
use crate::seal::rawkey::WrappingKey;
use crate::seal::{CacheSettings, Settings, message};
use crate::send::{CallError, CallOutcome, EntryOutcome};
use crate::shard::map::tests::even;
use crate::shard::{Description, Distribution, ListShardsError, Shard, ShardId, ShardMap};
use crate::source::{Accepted, Chunk};

const GRACE: Duration = Duration::from_secs(3600);

/// What the service does with one call.
enum Plan {
    /// Refuse the entries for which it returns a code, store the rest.
    Entries(Box<dyn FnMut(usize) -> Option<&'static str> + Send>),
    Refuse(&'static str, u16),
    /// Store everything, and lose the answer.
    Lose,
    /// Store everything, and never answer.
    StoreAndStall,
    /// Never answer, store nothing.
    Stall,
}

/// What the pipeline hears of an entry that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    AsPredicted,
    /// On another shard, or there was no prediction.
    Elsewhere,
    Nothing,
}

type Script = Box<dyn FnMut(&Batch) -> Plan + Send>;

struct Service {
    map: Mutex<ShardMap>,
    distribution: Mutex<Distribution>,
    max_record_bytes: Mutex<usize>,
    script: Mutex<Script>,
    /// In the order in which they were stored, per shard.
    stored: Mutex<Vec<(String, Bytes)>>,
    /// What the pipeline heard of each of these.
    heard: Mutex<Vec<Heard>>,
    calls: Mutex<Vec<usize>>,
    listing: Mutex<Result<(), &'static str>>,
    listings: Mutex<usize>,
    is_undescribed: Mutex<bool>,
    /// The stream is not there: so many calls have heard so.
    absent: Mutex<Option<usize>>,
}

const NOT_FOUND: &str = "ResourceNotFoundException";

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Service")
    }
}

impl Service {
    fn new(shards: u128, script: impl FnMut(&Batch) -> Plan + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            map: Mutex::new(even(shards)),
            distribution: Mutex::new(Distribution::ByKey),
            max_record_bytes: Mutex::new(1 << 20),
            script: Mutex::new(Box::new(script)),
            stored: Mutex::default(),
            heard: Mutex::default(),
            calls: Mutex::default(),
            listing: Mutex::new(Ok(())),
            listings: Mutex::default(),
            is_undescribed: Mutex::default(),
            absent: Mutex::default(),
        })
    }

    fn well_behaved(shards: u128) -> Arc<Self> {
        Self::new(shards, |_| Plan::Entries(Box::new(|_| None)))
    }

    fn store(&self, entry: &crate::aggregate::AggregatedRecord, is_heard: bool) -> EntryOutcome {
        let map = self.map.lock().unwrap();
        let mut stored = self.stored.lock().unwrap();
        let shard = match *self.distribution.lock().unwrap() {
            Distribution::ByKey => map.predict(entry.hash_key()).id.clone(),
            Distribution::Auto => map.shards()[stored.len() % map.shards().len()].id.clone(),
        };
        stored.push((shard.to_string(), entry.data().clone()));
        let heard = match is_heard {
            true if entry.predicted() == Some(&shard) => Heard::AsPredicted,
            true => Heard::Elsewhere,
            false => Heard::Nothing,
        };
        self.heard.lock().unwrap().push(heard);
        EntryOutcome::Stored {
            shard: shard.to_shared(),
            sequence: stored.len().to_string().into(),
        }
    }

    /// User records as a plain reader finds them, with how often.
    fn user_records(&self) -> HashMap<Bytes, usize> {
        let mut seen = HashMap::new();
        for (_, data) in &*self.stored.lock().unwrap() {
            let records = deaggregate(data).map(|r| r.into_iter().map(|r| r.data).collect());
            for record in records.unwrap_or_else(|| vec![data.clone()]) {
                *seen.entry(record).or_insert(0) += 1;
            }
        }
        seen
    }
}

impl PutRecords for Service {
    fn put_records<'a>(
        &'a self,
        _: &'a StreamName,
        batch: &'a Batch,
    ) -> BoxFuture<'a, CallOutcome> {
        async move {
            self.calls.lock().unwrap().push(batch.len());
            let plan = (self.script.lock().unwrap())(batch);
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(heard) = &mut *self.absent.lock().unwrap() {
                *heard += 1;
                return CallOutcome::Failed(CallError {
                    code: NOT_FOUND.to_owned(),
                    message: String::new(),
                    status: Some(400),
                });
            }
            match plan {
                Plan::Entries(mut refuse) => CallOutcome::Answered(
                    (batch.entries().iter().enumerate())
                        .map(|(n, entry)| match refuse(n) {
                            Some(code) => EntryOutcome::Refused {
                                code: code.to_owned(),
                                message: String::new(),
                            },
                            None => self.store(entry, true),
                        })
                        .collect(),
                ),
                Plan::Refuse(code, status) => CallOutcome::Failed(CallError {
                    code: code.to_owned(),
                    message: "as scripted".to_owned(),
                    status: Some(status),
                }),
                Plan::Lose => {
                    for entry in batch.entries() {
                        self.store(entry, false);
                    }
                    CallOutcome::Failed(CallError {
                        code: "ConnectionLost".to_owned(),
                        message: String::new(),
                        status: None,
                    })
                }
                Plan::StoreAndStall => {
                    for entry in batch.entries() {
                        self.store(entry, false);
                    }
                    std::future::pending().await
                }
                Plan::Stall => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl ListShards for Service {
    fn list_shards<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Shard>, ListShardsError>> {
        *self.listings.lock().unwrap() += 1;
        let shards = self.map.lock().unwrap().shards().to_vec();
        let listing = match *self.absent.lock().unwrap() {
            Some(_) => Err(NOT_FOUND),
            None => *self.listing.lock().unwrap(),
        };
        let listed = listing.map(|()| shards);
        let listed = listed.map_err(|code| ListShardsError {
            code: code.to_owned(),
            message: "as scripted".to_owned(),
        });
        async move { listed }.boxed()
    }

    fn describe<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Description, ListShardsError>> {
        let description = Description {
            distribution: *self.distribution.lock().unwrap(),
            max_record_bytes: Some(*self.max_record_bytes.lock().unwrap()),
        };
        let described = match *self.is_undescribed.lock().unwrap() {
            false => Ok(description),
            true => Err(ListShardsError {
                code: "InternalFailure".to_owned(),
                message: "as scripted".to_owned(),
            }),
        };
        async move { described }.boxed()
    }
}

fn start(service: &Arc<Service>, change: impl FnOnce(&mut Parts)) -> Pipeline {
    let off = Settings::off();
    let mut parts = Parts {
        stream: StreamName::new("s").unwrap(),
        aggregation: Default::default(),
        batch: Default::default(),
        delivery: Default::default(),
        sealer: Sealer::Plain(off.plaintext_allowed().unwrap()),
        pool: SealPool::immediate(),
        budget: MemoryBudget::new(64 << 20),
        put_records: Arc::<Service>::clone(service),
        connections: Default::default(),
        shards: Arc::<Service>::clone(service),
        dead_letters: None,
        spool: None,
        counters: Arc::default(),
        waiting: Pipeline::CHUNKS,
        observer: None,
    };
    // The quota has its own tests; here it would only slow the clock.
    parts.delivery.rate_limit = 10_000;
    change(&mut parts);
    Pipeline::start(parts)
}

async fn put(pipeline: &Pipeline, data: impl Into<Bytes>, key: RecordKey) -> Receipt {
    let data = data.into();
    let intake = pipeline.intake();
    let memory = intake.reserve(1, data.len()).await;
    let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
    let chunk = Chunk {
        records: vec![Accepted { data, key, ticket }],
        read_took: Duration::ZERO,
    };
    intake.send(chunk).await.unwrap();
    receipt
}

fn any() -> RecordKey {
    RecordKey::Any
}

fn key(key: impl AsRef<str>) -> RecordKey {
    RecordKey::Keyed(PartitionKey::new(key).unwrap())
}

async fn put_many(pipeline: &Pipeline, n: usize) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    for i in 0..n {
        let key = if i % 3 == 0 {
            any()
        } else {
            key(format!("k{}", i % 17))
        };
        receipts.push(put(pipeline, format!("record {i}"), key).await);
    }
    receipts
}

#[tokio::test(start_paused = true)]
async fn calls_of_all_streams_wait_for_each_other_where_connections_are_few_and_their_time_runs_from_then()
 {
    let connections = send::Connections::at_most(1);
    let mut is_first = true;
    let stalls_once = move |_: &Batch| match std::mem::take(&mut is_first) {
        true => Plan::Stall,
        false => Plan::Entries(Box::new(|_| None)),
    };
    let stalled = Service::new(1, stalls_once);
    let well = Service::well_behaved(1);
    let start = |service: &Arc<Service>| {
        start(service, |parts| {
            parts.connections = connections.clone();
            parts.aggregation.enabled = false;
            parts.delivery.request_timeout = Duration::from_secs(6);
        })
    };
    let began = Instant::now();
    let held = start(&stalled);
    let waits_for_time_out = put(&held, "stalled", any()).await;
    // Its call is under way before the others come.
    while stalled.calls.lock().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let behind = [start(&well), start(&well)];
    let mut receipts = Vec::new();
    for pipeline in &behind {
        receipts.push(put(pipeline, "behind it", any()).await);
    }
    for receipt in receipts {
        assert!(matches!(receipt.await, Delivery::Stored { .. }));
    }
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(6), "{waited:?}");
    assert!(matches!(waits_for_time_out.await, Delivery::Stored { .. }));
    // Neither timed out for the other's sake: each made one call.
    assert_eq!(well.calls.lock().unwrap().len(), 2);
    for pipeline in behind {
        let latency = pipeline.histograms().await;
        let request = latency.request.quantile(1.0);
        assert!(request < Duration::from_secs(1), "{request:?}");
    }
}
