use super::*;
use crate::delivery::MemoryBudget;

#[tokio::test]
async fn memory_is_given_back_as_answers_come_and_never_that_of_a_record_without_one() {
    let budget = MemoryBudget::new(1_000_000);
    let memory = budget.reserve(200_000).await;
    let told = Arc::new(Told::default());
    let mut rest = Ticket::for_span(1000, Instant::now(), memory, told, 0).taking_each(300);
    let failed = Delivery::Failed {
        reason: FailReason::Abandoned,
        attempts: 0,
    };
    for open in (1..1000).rev() {
        rest.take_one().settle(&failed);
        let needed = (open * 300).min(200_000);
        let held = budget.in_use();
        assert!(
            held >= needed && held <= (needed + 16 * 300).min(200_000),
            "{open}: {held}"
        );
    }
    rest.settle(&failed);
    assert_eq!(budget.in_use(), 0);
}

#[derive(Default)]
struct Told(Mutex<Vec<u64>>);

impl SpanSettled for Told {
    fn settled(&self, id: u64) {
        self.0.lock().unwrap().push(id);
    }
}

fn stored() -> Delivery {
    Delivery::Stored {
        shard: "shardId-000000000000".into(),
        sequence: "1".into(),
        attempts: 1,
    }
}

fn span(budget: &MemoryBudget, records: u32, told: &Arc<Told>) -> Ticket {
    let memory = budget.try_reserve(1000).unwrap();
    let source: Arc<dyn SpanSettled> = Arc::<Told>::clone(told);
    Ticket::for_span(records, Instant::now(), memory, source, 7)
}

#[tokio::test]
async fn span_is_told_once_and_only_after_its_last_record() {
    let (budget, told) = (MemoryBudget::new(10_000), Arc::new(Told::default()));
    let mut rest = span(&budget, 3, &told);
    let (a, b) = (rest.take_one(), rest.take_one());
    a.settle(&stored());
    rest.settle(&stored());
    assert!(told.0.lock().unwrap().is_empty());
    assert!(budget.in_use() > 0);
    b.settle(&stored());
    assert_eq!(*told.0.lock().unwrap(), [7]);
    assert_eq!(budget.in_use(), 0);
}

#[tokio::test]
async fn span_with_an_abandoned_record_is_never_told() {
    let (budget, told) = (MemoryBudget::new(10_000), Arc::new(Told::default()));
    let mut rest = span(&budget, 2, &told);
    drop(rest.take_one());
    rest.settle(&stored());
    assert!(told.0.lock().unwrap().is_empty());
    assert_eq!(budget.in_use(), 0, "memory is free all the same");
}

#[tokio::test]
async fn caller_of_a_dropped_ticket_hears_that_it_was_abandoned() {
    let budget = MemoryBudget::new(10_000);
    let (ticket, receipt) = Ticket::for_caller(Instant::now(), budget.reserve(10).await);
    drop(ticket);
    assert!(matches!(
        receipt.await,
        Delivery::Failed {
            reason: FailReason::Abandoned,
            ..
        }
    ));
}
