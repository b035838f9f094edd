use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use super::*;
use crate::delivery::{MemoryBudget, SpanSettled};
use crate::metrics::Counters;

/// Which spans, and how many records at a time.
#[derive(Default)]
struct Told {
    spans: Mutex<Vec<u64>>,
    records: Mutex<Vec<u32>>,
}

impl SpanSettled for Told {
    fn settled(&self, id: u64) {
        self.spans.lock().unwrap().push(id);
    }

    fn answered(&self, records: u32) {
        self.records.lock().unwrap().push(records);
    }
}

fn chunk(told: &Arc<Told>, id: u64, records: u32) -> Ticket {
    let memory = MemoryBudget::new(10_000).try_reserve(1000).unwrap();
    Ticket::for_span(
        records,
        Instant::now(),
        memory,
        Arc::<Told>::clone(told) as _,
        id,
    )
}

#[test]
fn each_chunk_is_told_once_of_all_its_records_however_they_lay_among_others() {
    let (told, mut together) = (Arc::new(Told::default()), Together::default());
    let counters = Arc::new(Counters::default());
    let mut chunks: Vec<_> = (0..100).map(|id| chunk(&told, id, 21)).collect();
    chunks.iter().for_each(|chunk| chunk.count(21, &counters));
    for _ in 0..20 {
        for chunk in &mut chunks {
            together.take(chunk.take_one()).expect("of a source");
        }
    }
    assert!(told.records.lock().unwrap().is_empty());
    let mut seen = Vec::new();
    together.settle(|ticket| seen.push(ticket.records()));
    assert_eq!(seen, [20; 100]);
    assert_eq!(*told.records.lock().unwrap(), [20; 100]);
    assert!(told.spans.lock().unwrap().is_empty(), "one is still out");
    assert_eq!(counters.snapshot().pending, 100);

    for chunk in chunks {
        together.take(chunk).expect("of a source");
    }
    together.settle(|_| {});
    together.settle(|_| panic!("nothing is left"));
    let mut spans = told.spans.lock().unwrap().clone();
    spans.sort_unstable();
    assert_eq!(spans, Vec::from_iter(0..100));
    assert_eq!(counters.snapshot().pending, 0);
}

#[test]
fn who_waits_for_a_record_is_not_among_them() {
    let memory = MemoryBudget::new(10_000).try_reserve(1000).unwrap();
    let (ticket, receipt) = Ticket::for_caller(Instant::now(), memory);
    let mut together = Together::default();
    let back = together.take(ticket).expect_err("a caller's");
    together.settle(|_| panic!("nothing is in it"));
    drop((back, receipt));
}

#[test]
fn what_was_not_told_is_abandoned() {
    let (told, mut together) = (Arc::new(Told::default()), Together::default());
    let counters = Arc::new(Counters::default());
    let chunk = chunk(&told, 1, 7);
    chunk.count(7, &counters);
    together.take(chunk).expect("of a source");
    drop(together);
    assert!(told.spans.lock().unwrap().is_empty());
    assert_eq!(counters.snapshot().abandoned, 7);
}
