//! What the KPL's own daemon says of each stream in its log every fifteen seconds, in its words: why aggregates and calls
//! were made just when they were, and how long calls took.
//!
//! Who reads these lines in the parent's log finds them as they were, with three differences: a stream at rest says
//! nothing, no average is taken of no calls, and `matches` is always 0, since no shard's share of a call is bounded here.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::aggregate::Trigger;

/// As often as the KPL's own.
const EVERY: Duration = Duration::from_secs(15);
/// Calls that take so many times as long as records may be buffered are warned of, as by the KPL's own.
const SLOW: u32 = 5;

/// Of one stream, since they were last said.
#[derive(Debug)]
pub(super) struct Statistics {
    stream: Arc<str>,
    slow: Duration,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// Of user records into Kinesis records, and of these into calls.
    gathered: Stage,
    collected: Stage,
    calls: u32,
    took: Duration,
}

#[derive(Debug, Default)]
struct Stage {
    asked: u64,
    count: u64,
    size: u64,
    time: u64,
    inputs: u64,
    outputs: u64,
}

impl Stage {
    fn add(&mut self, trigger: Trigger, inputs: usize) {
        *match trigger {
            Trigger::Asked => &mut self.asked,
            Trigger::Count => &mut self.count,
            Trigger::Size => &mut self.size,
            Trigger::Time => &mut self.time,
        } += 1;
        self.inputs += inputs as u64;
        self.outputs += 1;
    }
}

impl Statistics {
    /// `buffered`: how long a record may wait for others.
    pub(super) fn new(stream: &str, buffered: Duration) -> Self {
        Self {
            stream: stream.into(),
            slow: buffered.saturating_mul(SLOW),
            window: Mutex::default(),
        }
    }

    pub(super) fn gathered(&self, trigger: Trigger, records: usize) {
        self.window().gathered.add(trigger, records);
    }

    pub(super) fn collected(&self, trigger: Trigger, entries: usize) {
        self.window().collected.add(trigger, entries);
    }

    pub(super) fn answered(&self, took: Duration) {
        let mut window = self.window();
        window.calls = window.calls.saturating_add(1);
        window.took += took;
    }

    /// Says what there was since the last time. Its texts are the KPL's, for whoever looks for them: hence no fields.
    pub(super) fn say(&self) {
        let window = std::mem::take(&mut *self.window());
        let Window {
            gathered,
            collected,
            calls,
            took,
        } = window;
        let stream = &*self.stream;
        if gathered.outputs + collected.outputs > 0 {
            let (of, into) = (&gathered, ("UserRecords", "KinesisRecords"));
            tracing::info!("Stage 1 Triggers: {}", Said { stream, of, into });
            let (of, into) = (&collected, ("KinesisRecords", "PutRecords"));
            tracing::info!("Stage 2 Triggers: {}", Said { stream, of, into });
        }
        if let Some(average) = took.checked_div(calls) {
            if average > self.slow {
                let slow = self.slow.as_millis();
                tracing::warn!(
                    "({stream}) calls of PutRecords take over {slow} ms, five times recordMaxBufferedTime: look at the network, \
                     and at maxConnections"
                );
            }
            let millis = average.as_secs_f64() * 1000.0;
            tracing::info!("({stream}) Average Processing Time: {millis:.4} ms");
        }
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().expect("no panic while held")
    }
}

struct Said<'a> {
    stream: &'a str,
    of: &'a Stage,
    into: (&'a str, &'a str),
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, stage, (inputs, outputs)) = (self.stream, self.of, self.into);
        write!(
            f,
            "{{ stream: '{stream}', manual: {}, count: {}, size: {}, matches: 0, timed: {}, {inputs}: {}, {outputs}: {} }}",
            stage.asked, stage.count, stage.size, stage.time, stage.inputs, stage.outputs
        )
    }
}

/// Says them for ever, of all streams that there are then. The log never waits for its reader, and so neither do they.
pub(super) async fn tell(all: impl Fn() -> Vec<Arc<Statistics>>) {
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for statistics in all() {
            statistics.say();
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::daemon::log::KplLog;

    /// The texts as the client has them, each behind its level.
    fn heard(log: &mut impl FnMut() -> Vec<String>) -> Vec<(String, String)> {
        let blocks = log().into_iter().map(|block| {
            let lines: Vec<&str> = block.lines().collect();
            let ["++++", line, "----"] = lines[..] else {
                panic!("no block of one line: {block}");
            };
            // `[time] [pid][tid] [level] [file:line] text`
            let rest = line.splitn(3, "] [").nth(2).expect("a level");
            let (level, rest) = rest.split_once("] [").expect("a place");
            let (_, text) = rest.split_once("] ").expect("a text");
            (level.to_owned(), text.to_owned())
        });
        blocks.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_fifteen_seconds_a_stream_says_what_the_kpls_own_says_and_one_at_rest_nothing() {
        let (log, mut blocks) = KplLog::held();
        let subscriber = tracing_subscriber::registry().with(log);
        let _guard = tracing::subscriber::set_default(subscriber);
        let buffered = Duration::from_millis(100);
        let busy = Arc::new(Statistics::new("shop", buffered));
        let idle = Arc::new(Statistics::new("idle", buffered));
        let all = vec![Arc::clone(&busy), idle];
        let telling = tokio::spawn(tell(move || all.clone()));
        tokio::time::sleep(EVERY / 2).await;
        for (trigger, records) in [
            (Trigger::Size, 300),
            (Trigger::Size, 301),
            (Trigger::Time, 7),
            (Trigger::Count, 10),
            (Trigger::Asked, 1),
        ] {
            busy.gathered(trigger, records);
        }
        busy.collected(Trigger::Time, 4);
        busy.collected(Trigger::Count, 500);
        for millis in [41, 44] {
            busy.answered(Duration::from_millis(millis));
        }
        assert!(heard(&mut blocks).is_empty(), "not yet");
        tokio::time::sleep(EVERY / 2 + Duration::from_millis(1)).await;
        let info = |text: &str| ("info".to_owned(), text.to_owned());
        assert_eq!(
            heard(&mut blocks),
            [
                info(
                    "Stage 1 Triggers: { stream: 'shop', manual: 1, count: 1, size: 2, matches: 0, timed: 1, UserRecords: 619, KinesisRecords: 5 }"
                ),
                info(
                    "Stage 2 Triggers: { stream: 'shop', manual: 0, count: 1, size: 0, matches: 0, timed: 1, KinesisRecords: 504, PutRecords: 2 }"
                ),
                info("(shop) Average Processing Time: 42.5000 ms"),
            ]
        );
        // Each is said once.
        tokio::time::sleep(EVERY * 4).await;
        assert!(heard(&mut blocks).is_empty());
        busy.answered(Duration::from_millis(501));
        tokio::time::sleep(EVERY).await;
        let slow = heard(&mut blocks);
        assert_eq!(slow.len(), 2, "{slow:?}");
        assert_eq!(slow[0].0, "warning");
        assert!(
            slow[0]
                .1
                .starts_with("(shop) calls of PutRecords take over 500 ms")
        );
        telling.abort();
    }
}
