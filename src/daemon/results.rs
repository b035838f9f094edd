//! What the client is told: results of records, and whatever else, coalesced into as few writes as its pipe takes.

use std::mem;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe::Sender;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::message::{Attempt, PutRecordResult, encode_stored_at_once};
use crate::delivery::{Delivery, FailReason, Tried};

/// Written at once, at most.
const BLOCK: usize = 256 << 10;
/// A client that does not read its answers is not read either, once this much waits for it.
const MOST_UNREAD: usize = 8 << 20;

/// Frames on their way to the client; shared by all who have something to say.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: Mutex<Vec<u8>>,
    filled: Notify,
    emptied: Notify,
}

impl Outbox {
    /// Appends what `encode` writes: whole frames.
    pub fn push(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = self.frames.lock().expect("no panic while held");
        let was_empty = frames.is_empty();
        encode(&mut frames);
        drop(frames);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn len(&self) -> usize {
        self.frames.lock().expect("no panic while held").len()
    }

    /// Whether too much waits for the client.
    pub fn is_full(&self) -> bool {
        self.len() > MOST_UNREAD
    }

    /// Waits while it does. Cancel safe.
    pub async fn has_room(&self) {
        while self.is_full() {
            // Looked at now and then too: who emptied it may have told somebody else.
            let emptied = self.emptied.notified();
            let _ = tokio::time::timeout(Duration::from_millis(50), emptied).await;
        }
    }

    /// Writes to the client until all who could have something to say have ended and it is empty; for as long as the
    /// client reads. What comes after the client has gone is dropped.
    pub async fn write_to(&self, mut client: Sender, mut ended: watch::Receiver<bool>) {
        let mut is_there = true;
        loop {
            let frames = self.take();
            if !frames.is_empty() {
                for block in frames.chunks(BLOCK) {
                    if is_there && let Err(error) = client.write_all(block).await {
                        tracing::debug!(%error, "the client reads its answers no more");
                        is_there = false;
                    }
                }
                self.emptied.notify_waiters();
                continue;
            }
            if *ended.borrow() {
                return;
            }
            tokio::select! {
                () = self.filled.notified() => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        }
    }

    fn take(&self) -> Vec<u8> {
        let mut frames = self.frames.lock().expect("no panic while held");
        mem::take(&mut *frames)
    }
}

/// Appends the frame with a record's result. Most are stored by the first call: for these, nothing is allocated.
pub(super) fn encode(
    id: u64,
    born: Instant,
    delivery: &Delivery,
    tried: &[Tried],
    frames: &mut Vec<u8>,
) {
    match (delivery, tried) {
        (
            Delivery::Stored {
                shard, sequence, ..
            },
            [
                Tried {
                    started,
                    ended,
                    error: None,
                },
            ],
        ) => {
            let delay = millis(started.saturating_duration_since(born));
            let duration = millis(ended.saturating_duration_since(*started));
            encode_stored_at_once(id, (delay, duration), shard, sequence, frames);
        }
        _ => result(id, born, Instant::now(), delivery, tried).encode(id, frames),
    }
}

/// The same for a record that fits in clear, and not as it is sealed.
pub(super) fn encode_grown(id: u64, born: Instant, delivery: &Delivery, frames: &mut Vec<u8>) {
    let mut result = result(id, born, Instant::now(), delivery, &[]);
    if let Some(last) = result.attempts.last_mut() {
        last.error_code = Some("TooLargeWhenSealed".to_owned());
    }
    result.encode(id, frames);
}

/// A record's result, as the KPL's daemon says it.
fn result(
    id: u64,
    born: Instant,
    now: Instant,
    delivery: &Delivery,
    tried: &[Tried],
) -> PutRecordResult {
    let mut since = born;
    let mut attempts: Vec<Attempt> = Vec::with_capacity(tried.len() + 1);
    for Tried {
        started,
        ended,
        error,
    } in tried
    {
        attempts.push(Attempt {
            delay: millis(started.saturating_duration_since(since)),
            duration: millis(ended.saturating_duration_since(*started)),
            success: error.is_none(),
            error_code: error.as_ref().map(|error| code_of(&error.code)),
            error_message: error.as_ref().map(|error| match error.code.as_str() {
                WRONG_SHARD => format!("Record {id} {}", error.message),
                _ => error.message.clone(),
            }),
        });
        since = *ended;
    }
    match delivery {
        Delivery::Stored {
            shard, sequence, ..
        } => PutRecordResult {
            attempts,
            success: true,
            shard_id: Some(shard.to_string()),
            sequence_number: Some(sequence.to_string()),
        },
        Delivery::Spooled => PutRecordResult {
            attempts,
            success: true,
            shard_id: None,
            sequence_number: None,
        },
        Delivery::Failed { reason, .. } => {
            // The last answer is the reason, where it was one.
            let is_told = matches!(reason, FailReason::Refused { .. }) && !attempts.is_empty();
            if !is_told {
                attempts.push(Attempt {
                    delay: millis(now.saturating_duration_since(since)),
                    duration: 0,
                    success: false,
                    error_code: Some(reason.code().to_owned()),
                    error_message: Some(message_of(id, reason)),
                });
            }
            PutRecordResult {
                attempts,
                success: false,
                shard_id: None,
                sequence_number: None,
            }
        }
    }
}

/// A record that does not go anywhere.
pub(super) fn refused(code: &str, mut message: String) -> PutRecordResult {
    // The client's buffer is of 8 MiB, and what does not fit is the end of it.
    const LONGEST: usize = 4 << 10;
    message.truncate(message.floor_char_boundary(LONGEST));
    PutRecordResult {
        attempts: vec![Attempt {
            delay: 0,
            duration: 0,
            success: false,
            error_code: Some(code.to_owned()),
            error_message: Some(message),
        }],
        success: false,
        shard_id: None,
        sequence_number: None,
    }
}

const WRONG_SHARD: &str = "Wrong Shard";

/// The KPL's words for our own codes; the service's are the same.
fn code_of(code: &str) -> String {
    match code {
        "RecordCountMismatch" => "Record Count Mismatch".to_owned(),
        code => code.to_owned(),
    }
}

fn message_of(id: u64, reason: &FailReason) -> String {
    match reason {
        FailReason::Expired { last } => {
            format!("Record {id} has reached expiration; last answer: {last}")
        }
        FailReason::TooLarge { bytes, limit } => format!(
            "Record {id} takes {bytes} bytes in the stream, its key included, which takes records of {limit}"
        ),
        reason => reason.to_string(),
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// The shared half of an [`Outbox`].
pub type SharedOutbox = Arc<Outbox>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::CallRefused;

    fn at(base: Instant, millis: u64) -> Instant {
        base + Duration::from_millis(millis)
    }

    /// The KPL's own arithmetic: 0 and 5 ms, then 6 and 7.
    #[test]
    fn delays_count_from_the_attempt_before_and_durations_are_the_calls() {
        let born = Instant::now();
        let error = Arc::new(CallRefused {
            code: "InternalFailure".into(),
            message: "no".into(),
        });
        let tried = vec![
            Tried {
                started: born,
                ended: at(born, 5),
                error: Some(error),
            },
            Tried {
                started: at(born, 11),
                ended: at(born, 18),
                error: None,
            },
        ];
        let stored = Delivery::Stored {
            shard: "shardId-000000000001".into(),
            sequence: "49".into(),
            attempts: 2,
        };
        let result = result(1, born, at(born, 20), &stored, &tried);
        let times: Vec<_> = result
            .attempts
            .iter()
            .map(|a| (a.delay, a.duration))
            .collect();
        assert_eq!(times, [(0, 5), (6, 7)]);
        assert_eq!(
            result.attempts[0].error_code.as_deref(),
            Some("InternalFailure")
        );
        assert!(!result.attempts[0].success && result.attempts[1].success && result.success);
        assert_eq!(result.shard_id.as_deref(), Some("shardId-000000000001"));
        assert_eq!(result.sequence_number.as_deref(), Some("49"));
    }

    #[test]
    fn what_expired_says_so_in_an_attempt_of_its_own() {
        let born = Instant::now();
        let expired = Delivery::Failed {
            reason: FailReason::Expired {
                last: "none, it was never sent".into(),
            },
            attempts: 0,
        };
        let result = result(7, born, at(born, 30_000), &expired, &[]);
        assert!(!result.success && result.shard_id.is_none());
        let [only] = &result.attempts[..] else {
            panic!("{result:?}");
        };
        assert_eq!(
            (only.delay, only.duration, only.success),
            (30_000, 0, false)
        );
        assert_eq!(only.error_code.as_deref(), Some("Expired"));
        let message = only.error_message.as_deref().unwrap();
        assert!(
            message.starts_with("Record 7 has reached expiration"),
            "{message}"
        );
    }

    #[test]
    fn a_time_that_is_negative_or_too_long_does_not_wrap() {
        let born = Instant::now() + Duration::from_secs(1);
        let tried = vec![Tried {
            started: born - Duration::from_millis(500),
            ended: born - Duration::from_millis(700),
            error: None,
        }];
        let stored = Delivery::Spooled;
        let result = result(1, born, born, &stored, &tried);
        assert_eq!(
            (result.attempts[0].delay, result.attempts[0].duration),
            (0, 0)
        );
        assert_eq!(millis(Duration::from_secs(u64::MAX)), u32::MAX);
    }
}
