//! Reading against a stream in memory, on a paused clock.

mod places;
mod pushed;
mod waited_out;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::shards::{ListedShard, Page, Position, StoredRecord};
use super::way::START_TRIES;
use super::*;
use crate::shutdown::{self, Stop};

/// A stream whose shards are lists, and whose answers can be scripted.
#[derive(Debug, Default)]
struct InMemory {
    shards: Mutex<BTreeMap<ShardId, InMemoryShard>>,
    /// Records in an answer.
    page: usize,
    /// What the next calls answer instead.
    faults: Mutex<VecDeque<CallError>>,
    /// Empty answers that say "not at the tip", as the service gives them.
    gaps: Mutex<u32>,
    /// Iterators expire as soon as the faults say so, and positions asked for are kept.
    asked: Mutex<Vec<(ShardId, Position)>>,
    calls: Mutex<Vec<Instant>>,
    /// A server that ends no closed shard's pages.
    never_ends: bool,
    tells_children: bool,
}

#[derive(Debug)]
struct InMemoryShard {
    listed: ListedShard,
    records: Vec<StoredRecord>,
}

type Fault = (&'static str, Option<u16>);

const EXPIRED: Fault = ("ExpiredIteratorException", Some(400));
const NOT_FOUND: Fault = ("ResourceNotFoundException", Some(400));

impl InMemory {
    fn new(page: usize) -> Self {
        Self {
            page,
            ..Self::default()
        }
    }

    fn shard(self, id: &str, parents: &[&str], closed: bool, records: usize) -> Self {
        self.add(id, parents, closed, records);
        self
    }

    fn add(&self, id: &str, parents: &[&str], closed: bool, records: usize) {
        let listed = ListedShard {
            id: ShardId::new(id),
            parents: parents.iter().map(|id| ShardId::new(id)).collect(),
            closed,
            begins: None,
            range: None,
        };
        let records = (0..records).map(|n| record(id, n)).collect();
        let shard = InMemoryShard { listed, records };
        let id = shard.listed.id.clone();
        self.shards.lock().unwrap().insert(id, shard);
    }

    fn begins(&self, id: &str, sequence: &str) {
        let mut shards = self.shards.lock().unwrap();
        let shard = shards.get_mut(&ShardId::new(id)).unwrap();
        shard.listed.begins = Some(sequence.into());
    }

    fn append(&self, id: &str, n: usize) {
        let mut shards = self.shards.lock().unwrap();
        let shard = shards.get_mut(&ShardId::new(id)).unwrap();
        shard.records.push(record(id, n));
    }

    fn close(&self, id: &str) {
        let mut shards = self.shards.lock().unwrap();
        shards.get_mut(&ShardId::new(id)).unwrap().listed.closed = true;
    }

    fn failing(self, faults: &[Fault]) -> Self {
        self.fail(faults);
        self
    }

    fn fail(&self, faults: &[Fault]) {
        let errors = faults.iter().map(|(code, status)| CallError {
            code: (*code).to_owned(),
            message: "scripted".to_owned(),
            status: *status,
        });
        self.faults.lock().unwrap().extend(errors);
    }

    fn fault(&self) -> Result<(), CallError> {
        let fault = self.faults.lock().unwrap().pop_front();
        fault.map_or(Ok(()), Err)
    }

    fn children_of(&self, id: &ShardId) -> Vec<ListedShard> {
        let shards = self.shards.lock().unwrap();
        let all = shards.values().map(|shard| &shard.listed);
        all.filter(|listed| listed.parents.contains(id))
            .cloned()
            .collect()
    }

    fn answer(&self, iterator: &str) -> Result<Page, CallError> {
        self.calls.lock().unwrap().push(Instant::now());
        self.fault()?;
        let (id, at) = iterator.split_once('|').unwrap();
        let (id, at) = (ShardId::new(id), at.parse::<usize>().unwrap());
        let mut gaps = self.gaps.lock().unwrap();
        if *gaps > 0 {
            *gaps -= 1;
            return Ok(Page {
                next: Some(iterator.to_owned()),
                behind: Duration::from_secs(1),
                ..Page::default()
            });
        }
        let children = self.children_of(&id);
        let shards = self.shards.lock().unwrap();
        let shard = &shards[&id];
        let end = (at + self.page).min(shard.records.len());
        let at_end = shard.listed.closed && at >= shard.records.len() && !self.never_ends;
        Ok(Page {
            records: shard.records[at..end].to_vec(),
            next: (!at_end).then(|| format!("{id}|{end}")),
            behind: Duration::ZERO,
            children: match at_end && self.tells_children {
                true => children,
                false => Vec::new(),
            },
        })
    }
}

fn record(shard: &str, n: usize) -> StoredRecord {
    StoredRecord {
        sequence: n.to_string().into(),
        partition_key: "k".to_owned(),
        data: Bytes::from(format!("{shard}-{n}")),
        arrived: None,
    }
}

impl ListStream for InMemory {
    fn shards(&self) -> BoxFuture<'_, Result<Vec<ListedShard>, CallError>> {
        async {
            self.fault()?;
            let shards = self.shards.lock().unwrap();
            Ok(shards.values().map(|shard| shard.listed.clone()).collect())
        }
        .boxed()
    }
}

impl ReadStream for InMemory {
    fn iterator<'a>(
        &'a self,
        shard: &'a ShardId,
        position: &'a Position,
    ) -> BoxFuture<'a, Result<String, CallError>> {
        async move {
            let asked = (shard.clone(), position.clone());
            self.asked.lock().unwrap().push(asked);
            let shards = self.shards.lock().unwrap();
            let Some(known) = shards.get(shard) else {
                return Err(CallError {
                    code: "ResourceNotFoundException".to_owned(),
                    message: "no such shard".to_owned(),
                    status: Some(400),
                });
            };
            let at = match position {
                Position::TrimHorizon => 0,
                Position::Latest | Position::At(_) => known.records.len(),
                Position::After(sequence) => sequence.parse::<usize>().unwrap() + 1,
            };
            Ok(format!("{shard}|{at}"))
        }
        .boxed()
    }

    fn page<'a>(&'a self, iterator: &'a str) -> BoxFuture<'a, Result<Page, CallError>> {
        async move { self.answer(iterator) }.boxed()
    }
}

fn until_empty() -> Settings {
    Settings {
        until_empty: true,
        ..Settings::default()
    }
}

fn start(stream: &Arc<InMemory>, settings: Settings) -> (Consumer, Stop) {
    let (stop, shutdown) = shutdown::channel();
    let unpacker = Unpacker::as_stored(1).unwrap();
    let stream = Arc::clone(stream) as Arc<dyn ReadStream>;
    (Consumer::start(stream, unpacker, settings, shutdown), stop)
}

fn lines(batch: &ConsumedBatch) -> Vec<String> {
    let records = batch.records.iter().map(|r| r.as_ref().unwrap());
    records
        .map(|r| String::from_utf8(r.data.to_vec()).unwrap())
        .collect()
}

/// The next batch with records.
async fn next(consumer: &mut Consumer) -> ConsumedBatch {
    loop {
        let batch = consumer.next().await.expect("more is to come");
        if !batch.records.is_empty() {
            return batch;
        }
    }
}

/// What comes, in the order it comes, and how it ends.
async fn read(stream: &Arc<InMemory>, settings: Settings) -> (Vec<String>, Result<(), String>) {
    let (mut consumer, _stop) = start(stream, settings);
    let mut seen = Vec::new();
    while let Some(batch) = consumer.next().await {
        seen.extend(lines(&batch));
    }
    let ended = consumer.finish().await;
    (seen, ended.map_err(|error| error.to_string()))
}

fn all(shard: &str, records: std::ops::Range<usize>) -> Vec<String> {
    records.map(|n| format!("{shard}-{n}")).collect()
}

#[tokio::test(start_paused = true)]
async fn until_empty_reads_a_shard_in_order_and_ends_at_its_tip() {
    let stream = Arc::new(InMemory::new(3).shard("0", &[], false, 10));
    assert_eq!(
        read(&stream, until_empty()).await,
        (all("0", 0..10), Ok(()))
    );
}

#[tokio::test(start_paused = true)]
async fn until_empty_ends_where_somebody_writes_all_the_while_behind_what_was_there_at_the_beginning()
 {
    let stream = Arc::new(InMemory::new(3).shard("0", &[], false, 12));
    let old = SystemTime::now() - Duration::from_secs(60);
    let young = SystemTime::now() + Duration::from_secs(60);
    {
        let mut shards = stream.shards.lock().unwrap();
        let records = &mut shards.values_mut().next().unwrap().records;
        for (number, record) in records.iter_mut().enumerate() {
            record.arrived = Some(if number < 5 { old } else { young });
        }
    }
    // Pages of three, of which the in-memory service says that nothing is behind any.
    let (seen, ended) = read(&stream, until_empty()).await;
    assert_eq!((seen, ended), (all("0", 0..6), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_not_the_tip_while_the_service_says_so() {
    let stream = InMemory::new(3).shard("0", &[], false, 4);
    *stream.gaps.lock().unwrap() = 5;
    let stream = Arc::new(stream);
    assert_eq!(read(&stream, until_empty()).await, (all("0", 0..4), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn children_come_after_both_parents() {
    for tells_children in [true, false] {
        let mut stream = InMemory::new(2)
            .shard("0", &[], true, 9)
            .shard("1", &[], true, 1)
            .shard("2", &["0", "1"], true, 3)
            .shard("3", &["2"], false, 2)
            .shard("4", &["2"], false, 2);
        stream.tells_children = tells_children;
        let (seen, ended) = read(&Arc::new(stream), until_empty()).await;
        assert_eq!(ended, Ok(()));
        let parents = seen.iter().take(10).all(|line| line < &"2".to_owned());
        assert!(parents, "{seen:?}");
        assert_eq!(seen[10..13], all("2", 0..3));
        assert_eq!(seen.len(), 17);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_splits_while_it_is_read_goes_on_in_its_children() {
    for tells_children in [true, false] {
        let mut stream = InMemory::new(10).shard("0", &[], false, 3);
        stream.tells_children = tells_children;
        let stream = Arc::new(stream);
        let (mut consumer, _stop) = start(&stream, Settings::default());
        assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
        stream.add("1", &["0"], false, 1);
        stream.add("2", &["0"], false, 1);
        stream.close("0");
        let mut seen = lines(&next(&mut consumer).await);
        seen.extend(lines(&next(&mut consumer).await));
        seen.sort();
        assert_eq!(seen, ["1-0", "2-0"]);
    }
}

#[tokio::test(start_paused = true)]
async fn closed_shard_whose_pages_never_end_is_read_at_its_tip() {
    let mut stream = InMemory::new(2)
        .shard("0", &[], true, 3)
        .shard("1", &["0"], false, 1);
    stream.never_ends = true;
    let (seen, _) = read(&Arc::new(stream), until_empty()).await;
    assert_eq!(seen, ["0-0", "0-1", "0-2", "1-0"]);
}

#[tokio::test(start_paused = true)]
async fn reading_waits_while_batches_are_kept() {
    let stream = Arc::new(InMemory::new(1).shard("0", &[], false, 2));
    let settings = Settings {
        memory_limit: 0,
        ..until_empty()
    };
    let (mut consumer, _stop) = start(&stream, settings);
    let kept = consumer.next().await.unwrap();
    let more = timeout(Duration::from_secs(60), consumer.next()).await;
    assert!(more.is_err(), "{more:?}");
    drop(kept);
    assert_eq!(lines(&next(&mut consumer).await), ["0-1"]);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_reading_without_an_error() {
    let stream = Arc::new(InMemory::new(1).shard("0", &[], false, 1));
    let (mut consumer, stop) = start(&stream, Settings::default());
    assert!(consumer.next().await.is_some());
    stop.stop();
    assert!(consumer.next().await.is_none());
    consumer.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_named_are_read_alone_and_must_be_there() {
    let stream = InMemory::new(2)
        .shard("0", &[], true, 1)
        .shard("1", &["0"], true, 2)
        .shard("2", &["1"], false, 3);
    let stream = Arc::new(stream);
    let only = |shard: &str| Settings {
        only: Some(BTreeSet::from([ShardId::new(shard)])),
        ..until_empty()
    };
    assert_eq!(read(&stream, only("1")).await, (all("1", 0..2), Ok(())));
    let (_, ended) = read(&stream, only("7")).await;
    assert_eq!(
        ended.unwrap_err(),
        "the stream has no shard 7; it has 0, 1, 2"
    );
}
