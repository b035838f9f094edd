//! The task that puts a stream's dead records on disk, and settles them once they are there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::folder::{Appended, Dropped, Folder};
use super::line::Line;
use super::{DeadRecord, Settings};
use crate::delivery::Delivery;
use crate::metrics::{Counters, Trouble};
use crate::record::StreamName;
use crate::recurring::{Recurring, Unsaid};

pub(super) struct Writer {
    folder: Folder,
    stream: String,
    settings: Settings,
    counters: Arc<Counters>,
    /// The file whose name is on disk for good.
    known: Option<PathBuf>,
    buried: Alarm,
    dropped: Alarm,
    blocked: Recurring,
}

/// Records that share an fsync.
#[derive(Default)]
struct Group {
    text: String,
    records: Vec<DeadRecord>,
}

/// Says what was buried, or dropped: at once, and then in sums, so that a source of nothing else does not fill the log.
#[derive(Debug, Default)]
struct Alarm {
    last: Option<Instant>,
    since: u64,
}

/// The log hears of it this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

impl Writer {
    /// Between tries while there is no room, or the disk refuses.
    const PAUSE: Duration = Duration::from_secs(2);
    /// Records taken at once, and the text that is made of them before it is written, if it is not one line:
    /// it is beside the memory that the records themselves hold.
    const RECORDS: usize = 256;
    const TEXT: u64 = 1 << 20;

    pub(super) fn new(
        folder: Folder,
        stream: &StreamName,
        settings: Settings,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            folder,
            stream: stream.to_string(),
            settings,
            counters,
            known: None,
            buried: Alarm::default(),
            dropped: Alarm::default(),
            blocked: Recurring::default(),
        }
    }

    pub(super) async fn run(mut self, mut rx: mpsc::UnboundedReceiver<DeadRecord>) {
        let most = Self::TEXT.min(self.settings.max_file_size) as usize;
        let mut dead = Vec::new();
        while rx.recv_many(&mut dead, Self::RECORDS).await > 0 {
            let mut group = Group::default();
            for record in dead.drain(..) {
                let line = Line::of(&record, &self.stream).to_text();
                if !group.records.is_empty() && group.text.len() + line.len() > most {
                    self.bury(std::mem::take(&mut group)).await;
                }
                if group.records.is_empty() {
                    group.text = line;
                } else {
                    group.text.push_str(&line);
                }
                group.records.push(record);
            }
            self.bury(group).await;
        }
    }

    /// On disk first, then settled.
    async fn bury(&mut self, group: Group) {
        self.write_until_it_holds(Arc::new(group.text)).await;
        self.buried.raise(&self.folder, &group.records);
        for dead in group.records {
            let DeadRecord {
                record,
                reason,
                attempts,
            } = dead;
            let tickets = record.into_tickets();
            Counters::add(&self.counters.dead_lettered, tickets.records());
            tickets.settle(&Delivery::Failed { reason, attempts });
        }
    }

    async fn write_until_it_holds(&mut self, text: Arc<String>) {
        loop {
            let why = match self.append(Arc::clone(&text)).await {
                Ok(Appended::Written) => {
                    self.counters.troubles.end(Trouble::DeadLettersBlocked);
                    if let Some(down_for) = self.blocked.end(Instant::now()) {
                        tracing::warn!(
                            path = %self.folder.path().display(), ?down_for, "dead letters can be written again"
                        );
                    }
                    return;
                }
                Ok(Appended::Full { bytes }) => format!(
                    "{bytes} bytes lie there, and dead_letter.max_total_size is {}: see `kinseal deadletter \
                     list`; move files away, or stop the agent and `kinseal deadletter resend`; or raise \
                     max_total_size",
                    self.settings.max_total_size
                ),
                Err(error) => format!("{error}: free space or fix permissions"),
            };
            self.counters.troubles.begin(Trouble::DeadLettersBlocked);
            if let Some(Unsaid(others)) = self.blocked.goes_on(Instant::now()) {
                tracing::error!(
                    path = %self.folder.path().display(), others_unsaid = others,
                    "no dead letter can be written; records wait in memory, and sources once it is used up: {why}"
                );
            }
            tokio::time::sleep(Self::PAUSE).await;
        }
    }

    async fn append(&mut self, text: Arc<String>) -> std::io::Result<Appended> {
        let (folder, settings) = (self.folder.clone(), self.settings.clone());
        let (mut known, mut dropped) = (self.known.take(), Vec::new());
        let appending = tokio::task::spawn_blocking(move || {
            let appended = folder.append(text.as_bytes(), &settings, &mut known, &mut dropped);
            (appended, known, dropped)
        });
        let (appended, known, dropped) = appending.await.map_err(std::io::Error::other)?;
        self.known = known;
        self.tell_dropped(&dropped);
        appended
    }

    fn tell_dropped(&mut self, dropped: &[Dropped]) {
        let records = dropped.iter().map(|d| d.records).sum();
        Counters::add(&self.counters.dead_letters_dropped, records);
        let Some(newest) = dropped.last() else { return };
        if let Some(records) = self.dropped.add(records) {
            tracing::error!(
                records, path = %newest.path.display(),
                "dropped the oldest dead letter files to make room, as dead_letter.when_full says: their records \
                 are gone; the last:"
            );
        }
    }
}

impl Alarm {
    fn raise(&mut self, folder: &Folder, dead: &[DeadRecord]) {
        let records = dead.iter().map(|d| d.record.tickets().records()).sum();
        let Some(newest) = dead.last() else { return };
        if let Some(records) = self.add(records) {
            tracing::error!(
                records, path = %folder.path().display(), reason = %newest.reason,
                "records were not stored and are in the dead letter files, each with its reason; the last:"
            );
        }
    }

    /// How many there were since it was last said, where that is due again.
    fn add(&mut self, records: u64) -> Option<u64> {
        self.since += records;
        if self.last.is_some_and(|last| last.elapsed() < REMIND_EVERY) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.since))
    }
}
