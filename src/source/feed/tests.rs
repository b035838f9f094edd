//! Tests: what is dropped for want of room, and what is not.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::delivery::MemoryBudget;
use crate::metrics::Counters;
use crate::record::{PartitionKey, RecordKey};
use crate::source::Costs;
use crate::source::join::{LinePattern, Multiline, Rule};
use crate::source::keying::{Field, Form, JsonPointer, Keying, Keys, PartitionKeyRule};
use crate::source::making::Making;
use crate::source::shape::{Envelope, Shape};

#[tokio::test(start_paused = true)]
async fn time_spent_waiting_for_room_is_not_time_spent_reading() {
    let (to, mut chunks) = mpsc::channel(1);
    let costs = Costs::new(0, true);
    let budget = MemoryBudget::new(200 * MAX_LINES);
    let intake = Intake::new(to, budget, costs);
    let mut feed = Feed::new(
        intake,
        Making::from(Keying::RANDOM).of("stdin".as_ref()),
        None,
    );
    let feeder = tokio::spawn(async move {
        let permit = feed.reserve(0).await;
        let bytes = vec![b'\n'; 3 * MAX_LINES];
        let framer = &mut feed.framer;
        let ((), read) = Read::of(|| framer.fill(bytes.len(), |held| held.extend(bytes)));
        feed.send_lines(permit, read).await
    });
    for _ in 0..3 {
        let chunk = chunks.recv().await.unwrap();
        assert_eq!(chunk.records.len(), MAX_LINES);
        assert_eq!(chunk.read_took, Duration::ZERO);
        // Meanwhile the feeder waits for this chunk's memory.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    feeder.await.unwrap().unwrap();
}

/// Of `len` bytes.
fn key_takes(len: usize) -> usize {
    const LONGEST: usize = 4 * PartitionKey::MAX_CHARS;
    Keys::MOST_OF_ONE - LONGEST + len
}

#[tokio::test]
async fn keys_are_paid_for_with_what_was_reserved_and_missing_ones_are_counted() {
    let (to, mut chunks) = mpsc::channel(1);
    let costs = Costs::new(0, true);
    let budget = MemoryBudget::new(1 << 20);
    let counters: Arc<Counters> = Arc::default();
    let intake = Intake::new(to, budget.clone(), costs).counting(Arc::clone(&counters));
    let pointer = JsonPointer::new("/id").unwrap();
    let rule = PartitionKeyRule::Field(Field::JsonPointer(pointer), Form::Value);
    let keying = Keying::new(&rule).unwrap();
    let mut feed = Feed::new(
        intake.clone(),
        Making::from(keying).of("stdin".as_ref()),
        None,
    );

    let id = "x".repeat(200);
    let text = format!("{{\"id\":\"{id}\"}}\nnone\n").into_bytes();
    let permit = feed.reserve(text.len()).await;
    let reserved = budget.in_use();
    let framer = &mut feed.framer;
    let ((), read) = Read::of(|| framer.fill(text.len(), |held| held.extend(&text)));
    feed.send_lines(permit, read).await.unwrap();
    let chunk = chunks.recv().await.unwrap();
    let (kept, lines) = (budget.in_use(), text.len() - 2);
    assert!(kept < reserved);
    let for_lines_and_key = intake.reserve(2, lines + key_takes(id.len())).await;
    assert_eq!(budget.in_use(), 2 * kept);

    let keys: Vec<_> = chunk.records.iter().map(|r| r.key.clone()).collect();
    let key = RecordKey::Keyed(PartitionKey::new(&id).unwrap());
    assert_eq!(keys, [key, RecordKey::Any]);
    assert_eq!(counters.snapshot().unkeyed, 1);
    drop((chunk, for_lines_and_key));
    assert_eq!(budget.in_use(), 0);
}

#[tokio::test]
async fn keys_are_of_the_line_as_it_was_read_and_its_record_has_the_room_it_takes() {
    let (to, mut chunks) = mpsc::channel(1);
    let budget = MemoryBudget::new(1 << 20);
    let intake = Intake::new(to, budget.clone(), Costs::new(0, true));
    let pointer = JsonPointer::new("/id").unwrap();
    let rule = PartitionKeyRule::Field(Field::JsonPointer(pointer), Form::Value);
    let envelope = Envelope {
        fields: vec![],
        labels: vec![("id".into(), "another".into())],
        message_key: "log".into(),
        nest_json: true,
    };
    let shape = Shape {
        transforms: vec![],
        envelope: Some(envelope),
    };
    let making = Making::new(&rule, &shape).unwrap();
    let mut feed = Feed::new(intake.clone(), making.of("stdin".as_ref()), None);

    let text = b"{\"id\":\"7\"}\n\"\"\"\"\"\"\n";
    let permit = feed.reserve(text.len()).await;
    let reserved = budget.in_use();
    let framer = &mut feed.framer;
    let ((), read) = Read::of(|| framer.fill(text.len(), |held| held.extend(text)));
    feed.send_lines(permit, read).await.unwrap();
    let chunk = chunks.recv().await.unwrap();
    let keys: Vec<_> = chunk.records.iter().map(|r| r.key.clone()).collect();
    let key = RecordKey::Keyed(PartitionKey::new("7").unwrap());
    assert_eq!(keys, [key, RecordKey::Any]);
    let records = text_of(&chunk);
    let labels = r#"{"labels":{"id":"another"},"log":"#;
    let expected = [
        format!(r#"{labels}{{"id":"7"}}}}"#),
        format!(r#"{labels}"\"\"\"\"\"\""}}"#),
    ];
    assert_eq!(records, expected);
    let kept = budget.in_use();
    assert!(kept < reserved, "{kept} {reserved}");
    let bytes: usize = records.iter().map(String::len).sum();
    let for_what_they_are = intake.reserve(2, bytes + key_takes("7".len())).await;
    assert_eq!(for_what_they_are.bytes(), kept);
}

#[tokio::test(start_paused = true)]
async fn open_record_that_there_is_no_room_for_is_sent_in_parts_and_no_line_is_lost() {
    let (to, mut chunks) = mpsc::channel(100);
    let budget = MemoryBudget::new(1 << 20);
    let intake = Intake::new(to, budget.clone(), Costs::new(0, true));
    let multiline = Arc::new(Multiline {
        rule: Rule::Start(LinePattern::new("^S").unwrap()),
        timeout: Multiline::TIMEOUT,
        max_lines: None,
        max_bytes: Multiline::MAX_BYTES,
    });
    // Of both together.
    let joining = Joining::new(&multiline, 8, "s");
    let feed = || {
        let maker = Making::from(Keying::RANDOM).of("s".as_ref());
        Feed::new(intake.clone(), maker, None).joining(Some(&joining))
    };
    let (mut one, mut other) = (feed(), feed());
    for (feed, text) in [(&mut one, "S1\n a\n"), (&mut other, "S2\n b\n")] {
        let permit = feed.reserve(text.len()).await;
        let framer = &mut feed.framer;
        let fill = |held: &mut Vec<u8>| held.extend(text.as_bytes());
        let ((), read) = Read::of(|| framer.fill(text.len(), fill));
        feed.send_lines(permit, read).await.unwrap();
    }
    assert_eq!(text_of(&chunks.recv().await.unwrap()), ["S2\n b"]);
    let quiet = tokio::time::timeout(Multiline::TIMEOUT / 2, other.open_is_due()).await;
    assert!(quiet.is_err(), "nothing of it is open");
    one.open_is_due().await;
    one.send_open().await.unwrap();
    assert_eq!(text_of(&chunks.recv().await.unwrap()), ["S1\n a"]);
    one.finish().await.unwrap();
    other.finish().await.unwrap();
    assert!(chunks.try_recv().is_err(), "and that was all");
    assert_eq!(budget.in_use(), 0);
}

/// A feed that drops, and what it leads to.
struct Rig {
    feed: Feed,
    drops: Arc<Drops>,
    chunks: mpsc::Receiver<Chunk>,
    budget: MemoryBudget,
    counters: Arc<Counters>,
}

/// Into a pipeline that takes one chunk and then no more until it is asked to.
fn dropping(memory: usize) -> Rig {
    let (to, chunks) = mpsc::channel(1);
    let (budget, drops) = (MemoryBudget::new(memory), Arc::default());
    let counters: Arc<Counters> = Arc::default();
    let intake = Intake::new(to, budget.clone(), Costs::new(0, true));
    let intake = intake.counting(Arc::clone(&counters));
    let feed = Feed::new(
        intake,
        Making::from(Keying::RANDOM).of("stdin".as_ref()),
        Some(&drops),
    );
    Rig {
        feed,
        drops,
        chunks,
        budget,
        counters,
    }
}

impl Rig {
    /// One block.
    async fn read(&mut self, text: &[u8]) {
        let permit = self.feed.reserve(text.len()).await;
        let framer = &mut self.feed.framer;
        let ((), read) = Read::of(|| framer.fill(text.len(), |held| held.extend(text)));
        self.feed.send_lines(permit, read).await.unwrap();
    }

    /// Ends the feed; what comes out after that.
    async fn finish(self) -> Vec<String> {
        let Self {
            feed, mut chunks, ..
        } = self;
        let finishing = tokio::spawn(feed.finish());
        let mut lines = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            lines.extend(text_of(&chunk));
        }
        finishing.await.unwrap().unwrap();
        lines
    }
}

fn text_of(chunk: &Chunk) -> Vec<String> {
    let text = |data: &Bytes| String::from_utf8(data.to_vec()).unwrap();
    chunk.records.iter().map(|r| text(&r.data)).collect()
}

#[tokio::test]
async fn nothing_is_dropped_for_a_pipeline_that_is_slow_while_there_is_room() {
    let mut rig = dropping(1 << 20);
    for n in 0..500 {
        rig.read(format!("{n}\n").as_bytes()).await;
    }
    let counts = rig.counters.snapshot();
    assert_eq!((counts.accepted, counts.dropped), (500, 0));
    let want = (0..500).map(|n| n.to_string());
    assert!(rig.finish().await.into_iter().eq(want));
}

#[tokio::test]
async fn a_line_without_room_is_dropped_and_the_next_that_has_some_is_sent() {
    let (costs, long) = (Costs::new(0, true), "x".repeat(400));
    // Room for the two short ones, and for all three once what is held is given back.
    let two = costs.of(2, "onetwo".len());
    let all = two + costs.of(1, long.len());
    let mut rig = dropping(all);
    let held = rig.budget.try_reserve(all - two).unwrap();
    rig.read(format!("one\n{long}\ntwo\n").as_bytes()).await;
    let counts = rig.counters.snapshot();
    assert_eq!((counts.accepted, counts.dropped, counts.pending), (3, 1, 2));
    drop(held);
    rig.read(format!("{long}\n").as_bytes()).await;
    assert_eq!(rig.counters.snapshot().dropped, 1);
    assert_eq!(rig.finish().await, ["one", "two", &long]);
}

#[tokio::test]
async fn a_line_of_many_blocks_is_dropped_or_sent_whole_by_the_room_there_is_at_its_end() {
    let mut rig = dropping(10_000);
    let part = "x".repeat(100);
    let held = rig.budget.try_reserve(9_900).unwrap();
    for _ in 0..10 {
        rig.read(part.as_bytes()).await;
    }
    rig.read(b"\n").await;
    assert_eq!(rig.counters.snapshot().dropped, 1);
    for _ in 0..9 {
        rig.read(part.as_bytes()).await;
    }
    drop(held);
    rig.read(format!("{part}\nend").as_bytes()).await;
    let (budget, counters) = (rig.budget.clone(), Arc::clone(&rig.counters));
    let held = budget.reserve(usize::MAX);
    let sent = rig.chunks.recv().await.unwrap();
    assert_eq!(text_of(&sent), [part.repeat(10)]);
    drop(sent);
    // The last line, without its newline, is no different.
    let held = held.await;
    assert!(rig.finish().await.is_empty());
    drop(held);
    let counts = counters.snapshot();
    assert_eq!((counts.accepted, counts.dropped), (3, 2));
}

#[tokio::test]
async fn lines_that_are_kept_let_go_of_the_memory_of_those_that_are_dropped() {
    // In one chunk; and where a chunk follows of which nothing is dropped.
    for before in [0, MAX_LINES - 1] {
        // Room for all but the long one.
        let mut rig = dropping(Costs::new(0, true).of(before + 2, 6) + 100);
        let before = "\n".repeat(before);
        let _held = rig.budget.try_reserve(1).unwrap();
        let long = "x".repeat(1000);
        rig.read(format!("{before}{long}\none\ntwo\n").as_bytes())
            .await;
        assert_eq!(rig.drops.lines(), 1);
        let mut kept = Vec::new();
        while kept.len() < before.len() + 2 {
            kept.extend(rig.chunks.recv().await.unwrap().records);
        }
        let [one, two] = [2, 1].map(|n| &kept[kept.len() - n].data);
        assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
        // No newline lies between them any more.
        assert_eq!(one.as_ptr().wrapping_add(3), two.as_ptr());
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A line of so many bytes, its newline in this block or the next.
    Line(usize, bool),
    /// The pipeline takes a chunk.
    Take,
    /// And is done with its oldest.
    Settle,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..600, any::<bool>()).prop_map(|(bytes, ends)| Step::Line(bytes, ends)),
        1 => Just(Step::Take),
        1 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against the account, step by step, and against what was written, at the end.
    #[test]
    fn at_every_moment_the_account_adds_up_and_only_room_decides(
        steps in prop::collection::vec(any_step(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut rig = dropping(3000);
            let (mut written, mut unread) = (Vec::new(), String::new());
            let (mut taken, mut came, mut settled) = (VecDeque::new(), Vec::new(), 0);
            for step in steps {
                let before = rig.counters.snapshot();
                match step {
                    Step::Line(bytes, ends) => {
                        let line = format!("{:x<bytes$}", written.len());
                        unread += &format!("{line}\n");
                        written.push(line);
                        let block = unread.split_off(unread.len() - usize::from(!ends));
                        let block = std::mem::replace(&mut unread, block);
                        rig.read(block.as_bytes()).await;
                    }
                    Step::Take => if let Ok(chunk) = rig.chunks.try_recv() {
                        came.extend(text_of(&chunk));
                        taken.push_back(chunk);
                    },
                    Step::Settle => if let Some(chunk) = taken.pop_front() {
                        settled += chunk.records.len() as u64;
                    },
                }
                let counts = rig.counters.snapshot();
                // What is not settled holds its room, wherever it is.
                let unsettled = counts.accepted - counts.dropped - settled;
                prop_assert_eq!(rig.budget.in_use() > 0, unsettled > 0);
                prop_assert!(rig.budget.in_use() <= 3000);
                prop_assert_eq!(counts.dropped, rig.drops.lines());
                prop_assert!(counts.accepted >= before.accepted && counts.dropped >= before.dropped);
                prop_assert_eq!(counts.accepted, written.len() as u64 - u64::from(!unread.is_empty()));
                if counts.dropped > before.dropped {
                    // A step ends one line or two. What nothing else stands beside has room in any case.
                    let ended = written.iter().rev().take(2).map(String::len);
                    let most = Costs::new(0, true).of(1, ended.max().unwrap());
                    prop_assert!(rig.budget.in_use() + most > 3000);
                }
                tokio::task::yield_now().await;
            }
            drop(taken);
            rig.read(unread.as_bytes()).await;
            let counters = Arc::clone(&rig.counters);
            came.extend(rig.finish().await);
            let counts = counters.snapshot();
            prop_assert_eq!(counts.accepted, written.len() as u64);
            prop_assert_eq!(counts.accepted, came.len() as u64 + counts.dropped);
            let mut written = written.iter();
            for line in &came {
                prop_assert!(written.any(|written| written == line), "whole, once, and in order");
            }
            Ok(())
        })?;
    }
}
