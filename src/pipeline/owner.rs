//! The one owner of a stream's records between sealing and their answer.
//!
//! `run` is a loop of two steps: [`select`](Owner::select) what happened, [`apply`](Owner::apply) it. All
//! state is here and nothing is locked; calls to the service run aside and come back as an action. The price:
//! one stream's aggregation and accounting are bound to one core.

mod absent;
mod alarm;
mod expiry;
mod forward;
mod judge;
mod observed;
mod refused;
mod remake;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::absent::Absent;
pub(super) use self::alarm::meanwhile;
use self::alarm::{Outage, Throttled};
use super::blocks::{Packer, RoutedChunk};
use super::encoding::Encoder;
use super::lanes::Lanes;
use super::routes::{Facts, Refresh};
use super::{Control, Observer, Parts};
use crate::aggregate::reducer::{Reducer, Routes};
use crate::aggregate::{self, AggregatedRecord};
use crate::batch::{Batch, Limits};
use crate::deadletter::DeadLetters;
use crate::delivery::Together;
use crate::metrics::{Counters, Histograms};
use crate::record::StreamName;
use crate::recurring::Recurring;
use crate::retry::{Backoff, History};
use crate::seal::SealedRecord;
use crate::seal::offload::{InOrder, SealedChunk};
use crate::send::window::Window;
use crate::send::{self, CallOutcome, Connections, PutRecords};
use crate::shard::ShardId;

/// What part of the linger a late entry or batch waits for company: 20 ms of 100 ms, as the KPL's collector does.
const LATE_SHARE: u32 = 5;
/// How often it is looked whether the stream has been described, or listed.
const REFRESH_LOOK: Duration = Duration::from_millis(200);
/// How long a flush goes on that nobody waits for: what was put before it has come this far by then. The KPL's goes on for
/// 80 ms.
const UNATTENDED: Duration = Duration::from_millis(200);
/// How often a flush looks whether nothing is pending.
const FLUSH_LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Owner {
    stream: StreamName,
    linger: Duration,
    limits: Limits,
    delivery: send::Settings,
    put_records: Arc<dyn PutRecords>,
    connections: Connections,
    dead_letters: Option<DeadLetters>,
    counters: Arc<Counters>,
    observer: Option<Arc<dyn Observer>>,
    histograms: Histograms,
    backoff: Backoff<StdRng>,

    /// In block scope: where plain records wait for their block.
    packer: Option<Packer>,
    sealed: InOrder,
    control: mpsc::UnboundedReceiver<Control>,
    facts: watch::Receiver<Option<Facts>>,
    refresh: Refresh,

    /// Sealed before the first shard map was there; at most one chunk.
    early: Option<SealedChunk>,
    /// `None` until the first shard map.
    reducer: Option<Reducer<SealedRecord>>,
    encoder: Encoder,
    aggregation: aggregate::Settings,
    lanes: Lanes,
    collecting: Batch,
    /// When its first entry came.
    collecting_since: Instant,
    /// Full batches, and halves of refused ones.
    ready: VecDeque<Batch>,
    in_flight: JoinSet<Answered>,
    window: Window,
    retries: BinaryHeap<Reverse<Waiting>>,
    retry_number: u64,
    /// When to look next for what is over.
    next_sweep: Instant,
    /// What is stored, until its sources are told in the same step.
    to_tell: Together,
    /// Stored where a member may not belong; judged when the next shard map is there.
    misplaced: Vec<Misplaced>,
    /// It was not found, and has not been listed since.
    absent: Option<Absent>,
    /// When it was last not there.
    not_found_at: Option<Instant>,
    /// When the first was found for which no listing has come since.
    unlisted_since: Option<Instant>,
    outage: Option<Outage>,
    history: History,
    outages: Recurring,
    /// Calls fail that may succeed when tried again: so many since one succeeded.
    troubles: Recurring,
    failed_calls: u64,
    throttled: Throttled,
    /// Since when, and who waits for it.
    flushes: Vec<(Instant, oneshot::Sender<()>)>,
    draining: bool,
}

/// What can happen.
enum Action {
    Answered(Box<Answered>),
    Control(Control),
    NewFacts,
    /// A deadline has passed, whosever it is.
    Tick,
    /// Plain records for blocks; `None`: no more of them.
    Routed(Option<RoutedChunk>),
    Encoded(Vec<AggregatedRecord>),
    Sealed(SealedChunk),
    /// Nothing more will come.
    Ended,
}

/// A call that has come back.
#[derive(Debug)]
struct Answered {
    batch: Batch,
    outcome: CallOutcome,
    sent: Instant,
    /// Calls under way when it was sent, itself included.
    beside: usize,
}

/// An entry that waits for its next attempt; the number keeps equal times in order.
#[derive(Debug)]
struct Waiting {
    until: Instant,
    number: u64,
    entry: AggregatedRecord,
}

#[derive(Debug)]
struct Misplaced {
    /// When that was heard.
    at: Instant,
    entry: AggregatedRecord,
    shard: ShardId,
    sequence: Arc<str>,
}

impl Owner {
    pub(super) fn new(
        parts: Parts,
        sealed: InOrder,
        packer: Option<Packer>,
        encoder: Encoder,
        control: mpsc::UnboundedReceiver<Control>,
        facts: watch::Receiver<Option<Facts>>,
        refresh: Refresh,
    ) -> Self {
        let ordered = parts.delivery.ordering == send::Ordering::PartitionKey;
        let rng = StdRng::from_rng(&mut rand::rng());
        // Replaced before the first record comes.
        let limits = Limits::default();
        Self {
            stream: parts.stream,
            linger: parts.aggregation.linger,
            aggregation: parts.aggregation,
            backoff: Backoff::new(parts.delivery.retry.clone(), rng),
            lanes: Lanes::new(parts.delivery.rate_limit, ordered),
            window: Window::new(parts.delivery.max_in_flight),
            delivery: parts.delivery,
            put_records: parts.put_records,
            connections: parts.connections,
            dead_letters: parts.dead_letters,
            counters: parts.counters,
            observer: parts.observer,
            histograms: Histograms::new(),
            packer,
            sealed,
            control,
            facts,
            refresh,
            early: None,
            reducer: None,
            encoder,
            collecting: Batch::new(limits.clone()),
            collecting_since: Instant::now(),
            limits,
            ready: VecDeque::new(),
            in_flight: JoinSet::new(),
            retries: BinaryHeap::new(),
            retry_number: 0,
            next_sweep: Instant::now(),
            to_tell: Together::default(),
            misplaced: Vec::new(),
            absent: None,
            not_found_at: None,
            unlisted_since: None,
            outage: None,
            history: History::default(),
            outages: Recurring::default(),
            troubles: Recurring::default(),
            failed_calls: 0,
            throttled: Throttled {
                entries: 0,
                said: Instant::now(),
            },
            flushes: Vec::new(),
            draining: false,
        }
    }

    /// Ends when nothing more comes and every record has its answer, or when it is to.
    pub(super) async fn run(mut self) -> Histograms {
        while !(self.draining && self.holds_nothing()) {
            let action = self.select().await;
            if let Action::Control(Control::Abandon) = action {
                // Only dropped, their tasks would end a moment later, when what was abandoned has been counted.
                self.in_flight.shutdown().await;
                break;
            }
            self.apply(action);
        }
        self.histograms
    }

    /// Cancel safe. Answers first, since they free memory; new records last.
    async fn select(&mut self) -> Action {
        let next_deadline = self.next_deadline();
        tokio::select! {
            biased;
            Some(answered) = self.in_flight.join_next() => {
                Action::Answered(Box::new(answered.expect("a call neither panics nor is cancelled")))
            }
            Some(control) = self.control.recv() => Action::Control(control),
            Ok(()) = self.facts.changed() => Action::NewFacts,
            () = until(next_deadline) => Action::Tick,
            entries = self.encoder.next() => Action::Encoded(entries),
            routed = next_routed(&mut self.packer) => Action::Routed(routed),
            chunk = self.sealed.next(), if !self.draining && self.early.is_none() => {
                chunk.map_or(Action::Ended, Action::Sealed)
            }
        }
    }

    fn apply(&mut self, action: Action) {
        let now = Instant::now();
        match action {
            Action::Answered(answered) => self.judge(*answered, now),
            Action::Control(Control::Flush(done)) => {
                // Those that nobody waits for are one.
                let is_unattended = |(_, done): &(Instant, oneshot::Sender<()>)| done.is_closed();
                if done.is_closed() {
                    self.flushes.retain(|flush| !is_unattended(flush));
                }
                self.flushes.push((now, done));
            }
            Action::Control(Control::Probe) => {
                if let Some(outage) = &mut self.outage {
                    outage.next_probe = now;
                }
            }
            Action::Control(Control::Abandon) => unreachable!("it has ended the loop"),
            Action::Control(Control::Snapshot(reply)) => {
                let _ = reply.send(self.histograms.clone());
            }
            Action::NewFacts => self.adopt(now),
            Action::Tick => {}
            Action::Routed(routed) => self.pack(routed, now),
            Action::Encoded(entries) => {
                for entry in entries {
                    self.lanes.push(entry);
                }
            }
            Action::Sealed(chunk) => self.take_in(chunk, now),
            Action::Ended => self.draining = true,
        }
        self.advance(now);
    }

    /// Moves everything as far as it may go at this moment.
    fn advance(&mut self, now: Instant) {
        let mut due = Vec::new();
        while self.retries.peek().is_some_and(|r| r.0.until <= now) {
            let Reverse(Waiting { entry, .. }) = self.retries.pop().expect("peeked");
            due.push(entry);
        }
        // The last one first, so that the first one is in front.
        for mut entry in due.into_iter().rev() {
            // Retries ride with what comes along, but not for long: they are late already.
            entry.deadline = now + self.linger / LATE_SHARE;
            // Tokens are paid for each attempt. In ordered mode the entry still holds its lane: it goes first,
            // and is let go then.
            let Some(entry) = self.unless_expired(entry, now) else {
                continue;
            };
            let reducer = self.reducer.as_ref().expect("entries come from it");
            if reducer.suits(&entry) {
                let lane = entry.predicted().cloned();
                self.lanes.push_front(entry);
                self.lanes.release(&lane);
            } else {
                self.remake(entry, now);
            }
        }
        self.expire_waiting(now);
        self.notice_that_it_is_listed();
        self.go_on_without_shards(now);
        self.go_on_unlisted(now);
        // What comes after this stores nothing.
        self.tell_sources(now);
        self.close_blocks(now);
        self.close_aggregates(now);
        while let Some(entry) = self.lanes.pop(now) {
            self.collect(entry, now);
        }
        self.send_what_is_due(now);
        if !self.flushes.is_empty() && self.counters.snapshot().pending == 0 {
            for (_, done) in self.flushes.drain(..) {
                let _ = done.send(());
            }
        }
        // While others go on putting records, nothing would ever linger again.
        self.flushes
            .retain(|(since, done)| !done.is_closed() || now < *since + UNATTENDED);
        debug_assert!(self.to_tell.is_empty(), "or it is abandoned at the end");
    }

    fn adopt(&mut self, now: Instant) {
        let Some(Facts { routes, limits, .. }) = self.facts.borrow_and_update().clone() else {
            return;
        };
        self.adopt_limits(limits);
        if let Some(packer) = &mut self.packer {
            packer.adopt(routes.clone(), now);
        }
        match &mut self.reducer {
            None => {
                let reducer = self.aggregation.reducer(routes.clone());
                self.reducer = Some(reducer.avoiding(self.lanes.crowded()));
            }
            // Most listings bring nothing new: what is open goes on filling.
            Some(reducer) if *reducer.routes() == routes => {}
            Some(reducer) => {
                let mut closed = Vec::new();
                reducer.flush(now, &mut closed);
                reducer.adopt(routes.clone());
                self.queue(closed);
            }
        }
        if let Some(chunk) = self.early.take() {
            self.take_in(chunk, now);
        }
        self.remake_waiting(now);
        if let Routes::Known(map) = &routes {
            self.lanes.retain(map);
        }
        self.unlisted_since = None;
        self.notice_that_it_is_listed();
        let misplaced = std::mem::take(&mut self.misplaced);
        self.settle_misplaced(misplaced, &routes, now);
    }

    /// When something is due that needs no event.
    fn next_deadline(&self) -> Option<Instant> {
        let retry = self.retries.peek().map(|r| r.0.until);
        let aggregate = self.reducer.as_ref().and_then(Reducer::next_deadline);
        let look = self.next_look(Instant::now());
        let send = match &self.outage {
            _ if look.is_some() => {
                look.filter(|_| !self.ready.is_empty() || !self.collecting.is_empty())
            }
            Some(outage) if self.in_flight.is_empty() => {
                // A probe that is due waits for something to send: else this would wake again and again.
                let waiting = !self.ready.is_empty() || !outage.suspects.is_empty();
                let due = (!waiting).then(|| self.collecting_deadline());
                due.map_or(Some(outage.next_probe), |due| {
                    due.map(|due| due.max(outage.next_probe))
                })
            }
            Some(_) => None,
            None if self.in_flight.len() < self.window.size() => self.collecting_deadline(),
            // An answer will wake us.
            None => None,
        };
        // A dead letter is answered aside, so whoever waits for zero pending has to look.
        let flush = (!self.flushes.is_empty()).then(|| Instant::now() + FLUSH_LOOK);
        let block = self.packer.as_ref().and_then(Packer::next_deadline);
        let waits = !self.lanes.is_empty()
            || !self.ready.is_empty()
            || !self.collecting.is_empty()
            || !self.misplaced.is_empty();
        let sweep = self.delivery.record_ttl.filter(|_| waits);
        let sweep = sweep.map(|_| self.next_sweep);
        let wake = self.lanes.next_wake();
        let misplaced = self.unlisted_since.filter(|_| !self.misplaced.is_empty());
        let misplaced = misplaced.map(|since| {
            let look = Instant::now() + REFRESH_LOOK;
            (since + self.wait_for_listing()).max(look)
        });
        [retry, block, aggregate, send, flush, sweep, wake, misplaced]
            .into_iter()
            .flatten()
            .min()
    }

    fn holds_nothing(&self) -> bool {
        let open = self.reducer.as_ref().and_then(Reducer::next_deadline);
        open.is_none()
            && self.early.is_none()
            && self.encoder.is_empty()
            && self.lanes.is_empty()
            && self.collecting.is_empty()
            && self.ready.is_empty()
            && self.in_flight.is_empty()
            && self.retries.is_empty()
            && self.misplaced.is_empty()
            && (self.outage.as_ref()).is_none_or(|outage| outage.suspects.is_empty())
    }
}

/// Cancel safe.
async fn next_routed(packer: &mut Option<Packer>) -> Option<RoutedChunk> {
    match packer {
        Some(packer) => packer.next().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.until, self.number) == (other.until, other.number)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.until, self.number).cmp(&(other.until, other.number))
    }
}
