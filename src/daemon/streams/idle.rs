//! Streams that nobody puts records to any more: their pipelines end, and come back with the next record.
//!
//! A client that names its streams by day, or by tenant, would else have a pipeline, a listing and a description every five
//! minutes, and a data key for each one that it ever named. What is counted of a stream stays, and goes on where it was:
//! the KPL's metrics, its account of records, and its id.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Stream, Streams};

/// How often it is looked for them.
pub(in crate::daemon) const LOOK: Duration = Duration::from_secs(60);
/// How long nothing is put to a stream, and nothing of it pending, before it is let go. A guess: to come back takes three
/// calls to the services, of which an account has 20 a second.
pub(in crate::daemon) const IDLE: Duration = Duration::from_secs(600);
/// What an end with nothing pending may take, where a disk is slow.
const ENDED: Duration = Duration::from_secs(5);

/// What was seen of a stream at the last look.
#[derive(Debug)]
pub(super) struct Rest {
    accepted: u64,
    since: Instant,
}

impl Rest {
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            accepted: 0,
            since: now,
        }
    }
}

impl Stream {
    /// Whether it has had nothing to do for long enough.
    fn is_idle(&mut self, is_awaited: bool, now: Instant) -> bool {
        let counts = self.pipeline.counters().snapshot();
        let is_at_rest = counts.accepted == self.rest.accepted && counts.pending == 0;
        if !is_at_rest || is_awaited {
            self.rest = Rest {
                accepted: counts.accepted,
                since: now,
            };
        }
        now.saturating_duration_since(self.rest.since) >= IDLE
    }
}

impl Streams {
    /// Lets those go that are idle, unless records on their way are for that place.
    pub(in crate::daemon) async fn let_go(
        &mut self,
        is_awaited: impl Fn(usize) -> bool,
        now: Instant,
    ) {
        let mut ended = Vec::new();
        for (place, slot) in self.all.iter_mut().enumerate() {
            let idle = slot.take_if(|stream| stream.is_idle(is_awaited(place), now));
            ended.extend(idle.map(|stream| (place, stream)));
        }
        if ended.is_empty() {
            return;
        }
        self.last = None;
        for (place, stream) in &ended {
            self.free.push(*place);
            let name = stream.pipeline.stream().to_string();
            if let Some(known) = self.by_name.get_mut(&name) {
                known.place = None;
            }
            self.watched.forget(&stream.desk);
            tracing::debug!(stream = name, "is let go, as nothing is put to it");
        }
        let ending = ended.into_iter().map(|(_, stream)| async move {
            let Stream { pipeline, desk, .. } = stream;
            // Waited for: its folder on disk is another's once it comes back.
            pipeline.close(ENDED).await;
            desk.statistics.say();
            desk.metrics.settle(Instant::now());
        });
        join_all(ending).await;
        self.writers.retain(|writer| !writer.is_finished());
        self.metrics.forget_seconds(now);
    }
}
