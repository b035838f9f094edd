//! Where a record that can never be stored goes, with its reason.
//!
//! One append-only file per stream, JSON Lines: time, stream, keys, attempts, reason, and the payload in
//! base64 *as it would have been sent*: ciphertext where encryption is on. A record is settled only once its
//! line is on disk (fsync); where the disk refuses, the record stays owed, the writer tries again, and the
//! log says so.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::delivery::{Delivery, FailReason};
use crate::record::StreamName;
use crate::seal::{Route, SealedRecord};

/// A record on its way to the file.
#[derive(Debug)]
pub struct DeadRecord {
    pub record: SealedRecord,
    pub reason: FailReason,
    pub attempts: u32,
}

/// The way to a stream's dead letter file. Never blocks: what waits here still holds its memory permit.
#[derive(Debug, Clone)]
pub struct DeadLetters(mpsc::UnboundedSender<DeadRecord>);

impl DeadLetters {
    /// Starts the writer. It ends, with everything on disk, when the last handle is gone.
    pub fn open(
        state_dir: &Path,
        stream: &StreamName,
        written: Arc<AtomicU64>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (tx, rx) = mpsc::unbounded_channel();
        let writer = Writer {
            path: path_of(state_dir, stream),
            stream: stream.to_string(),
            written,
        };
        (Self(tx), tokio::spawn(writer.run(rx)))
    }

    pub fn bury(&self, dead: DeadRecord) {
        // The writer only ends after the last sender; should it have panicked, the ticket drops here as
        // abandoned, and its checkpoint stays where it is.
        let _ = self.0.send(dead);
    }
}

/// `STATE_DIR/dead_letter/STREAM.jsonl`; for a stream named by its ARN, the ARN with `_` for `:` and `/`, since
/// two accounts may have streams of one name.
pub fn path_of(state_dir: &Path, stream: &StreamName) -> PathBuf {
    let name = stream.to_string().replace([':', '/'], "_");
    state_dir.join("dead_letter").join(format!("{name}.jsonl"))
}

struct Writer {
    path: PathBuf,
    stream: String,
    written: Arc<AtomicU64>,
}

/// Says what was buried: at once, and then in sums, so that a source of nothing else does not fill the log.
#[derive(Debug, Default)]
struct Alarm {
    last: Option<Instant>,
    since: u64,
}

impl Alarm {
    const EVERY: Duration = Duration::from_secs(60);

    fn raise(&mut self, path: &Path, dead: &[DeadRecord]) {
        self.since += dead
            .iter()
            .map(|d| d.record.tickets().records())
            .sum::<u64>();
        let Some(newest) = dead.last() else { return };
        if self.last.is_some_and(|last| last.elapsed() < Self::EVERY) {
            return;
        }
        tracing::error!(
            records = self.since, path = %path.display(), reason = %newest.reason,
            "records were not stored and are in the dead letter file, each with its reason; the last:"
        );
        self.last = Some(Instant::now());
        self.since = 0;
    }
}

/// A line of the file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// Milliseconds since 1970, UTC.
    time_ms: u64,
    stream: &'a str,
    reason: String,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    partition_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explicit_hash_key: Option<String>,
    data_base64: String,
}

impl Writer {
    /// Between tries while the disk refuses.
    const PAUSE: Duration = Duration::from_secs(1);

    async fn run(self, mut rx: mpsc::UnboundedReceiver<DeadRecord>) {
        let mut dead = Vec::new();
        let mut alarm = Alarm::default();
        while rx.recv_many(&mut dead, 64).await > 0 {
            let text: String = dead.iter().map(|d| self.line(d)).collect();
            self.write_until_it_holds(text.into()).await;
            alarm.raise(&self.path, &dead);
            for DeadRecord {
                record,
                reason,
                attempts,
            } in dead.drain(..)
            {
                let tickets = record.into_tickets();
                self.written.fetch_add(tickets.records(), Ordering::Relaxed);
                tickets.settle(&Delivery::Failed { reason, attempts });
            }
        }
    }

    async fn write_until_it_holds(&self, text: Arc<str>) {
        let mut failures = 0u64;
        loop {
            let (path, bytes) = (self.path.clone(), Arc::clone(&text));
            let wrote = tokio::task::spawn_blocking(move || append(&path, bytes.as_bytes())).await;
            match wrote {
                Ok(Ok(())) => {
                    if failures > 0 {
                        tracing::warn!(path = %self.path.display(), "dead letter file takes records again");
                    }
                    return;
                }
                Ok(Err(error)) if failures.is_multiple_of(60) => tracing::error!(
                    path = %self.path.display(), %error,
                    "cannot write the dead letter file; its records wait in memory: free space or fix permissions"
                ),
                _ => {}
            }
            failures += 1;
            tokio::time::sleep(Self::PAUSE).await;
        }
    }

    fn line(&self, dead: &DeadRecord) -> String {
        let (partition_key, explicit_hash_key) = match dead.record.route() {
            Route::Any => (None, None),
            Route::Hashed {
                partition_key,
                explicit,
                ..
            } => (
                Some(partition_key.as_str()),
                explicit.map(|k| k.to_string()),
            ),
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = Line {
            time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            stream: &self.stream,
            reason: dead.reason.to_string(),
            attempts: dead.attempts,
            partition_key,
            explicit_hash_key,
            data_base64: base64_simd::STANDARD.encode_to_string(dead.record.data()),
        };
        let mut text = serde_json::to_string(&line).expect("strings and numbers only");
        text.push('\n');
        text
    }
}

/// Appends whole or not at all: a write that stopped half-way is cut off again, so that a retry leaves no
/// torn line between two good ones.
fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().expect("a file in a folder");
    // Payloads, in plain where encryption is off: for this user alone.
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let created = !path.exists();
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    let before = file.metadata()?.len();
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_data()) {
        let _ = file.set_len(before);
        return Err(error);
    }
    if created {
        // The name must survive a crash as well as the bytes.
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::aggregate::reducer::tests::sealed;
    use crate::delivery::{MemoryBudget, Ticket};
    use crate::record::RecordKey;

    #[tokio::test]
    async fn a_dead_record_is_settled_once_its_line_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let stream = StreamName::new("shop").unwrap();
        let written = Arc::default();
        let (letters, writer) = DeadLetters::open(dir.path(), &stream, Arc::clone(&written));
        let memory = MemoryBudget::new(1000).try_reserve(1).unwrap();
        let (ticket, receipt) = Ticket::for_caller(tokio::time::Instant::now(), memory);
        let record =
            SealedRecord::for_test(bytes::Bytes::from_static(b"sealed"), Route::Any, ticket);
        let reason = FailReason::TooLarge { bytes: 7, limit: 5 };
        letters.bury(DeadRecord {
            record,
            reason: reason.clone(),
            attempts: 0,
        });
        assert_eq!(
            receipt.await,
            Delivery::Failed {
                reason,
                attempts: 0
            }
        );
        assert_eq!(written.load(Ordering::Relaxed), 1);

        drop(letters);
        writer.await.unwrap();
        let path = path_of(dir.path(), &stream);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let text = std::fs::read_to_string(path).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["data_base64"], "c2VhbGVk");
        assert!(
            line["reason"]
                .as_str()
                .unwrap()
                .contains("over the limit of 5")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_refuses_is_waited_out_and_the_record_stays_owed() {
        let dir = tempfile::tempdir().unwrap();
        let stream = StreamName::new("shop").unwrap();
        // A file where the folder should be.
        let blocker = dir.path().join("dead_letter");
        std::fs::write(&blocker, "").unwrap();
        let written: Arc<AtomicU64> = Arc::default();
        let (letters, writer) = DeadLetters::open(dir.path(), &stream, Arc::clone(&written));
        letters.bury(DeadRecord {
            record: sealed("x", RecordKey::Any),
            reason: FailReason::Abandoned,
            attempts: 1,
        });
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(written.load(Ordering::Relaxed), 0);
        std::fs::remove_file(&blocker).unwrap();
        drop(letters);
        writer.await.unwrap();
        assert_eq!(written.load(Ordering::Relaxed), 1);
    }
}
