//! All shards of a stream, each by a task of its own: which begin, in which order, and how each one's end is taken.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};

use super::lineage::Lineage;
use super::reader::Patience;
use super::reading::Reading;
use super::shards::{ListedShard, Position};
use super::unpack::{Unpacker, Unreadable, UserRecord};
use super::{ConsumeError, ConsumedBatch, Progress, Settings, StartAt};
use crate::retry::{self, Class, History, Verdict};
use crate::send::CallError;
use crate::shard::ShardId;
use crate::shutdown::Shutdown;

/// What all tasks of one reading share.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) reading: Reading,
    pub(super) unpacker: Unpacker,
    pub(super) settings: Settings,
    pub(super) shutdown: Shutdown,
    pub(super) memory: Arc<Semaphore>,
    pub(super) out: mpsc::Sender<ConsumedBatch>,
}

/// How one shard's reading ended.
#[derive(Debug)]
enum Ended {
    /// Nothing more will come in it.
    Read { children: Vec<ListedShard> },
    /// At its tip, as asked.
    AtTip,
    /// By shutdown, or because nobody takes what is read.
    Stopped,
}

impl Way {
    pub(super) async fn drive(self: Arc<Self>) -> Result<(), ConsumeError> {
        tokio::select! {
            biased;
            () = self.shutdown.stopped() => Ok(()),
            () = self.out.closed() => Ok(()),
            ended = self.read_all() => ended,
        }
    }

    async fn read_all(self: &Arc<Self>) -> Result<(), ConsumeError> {
        let mut lineage = Lineage::default();
        let listed = self.list(START_TRIES).await?;
        self.are_there(&listed)?;
        self.are_of_this_stream(&listed)?;
        lineage.learn(self.wanted(listed));
        for (shard, progress) in &self.settings.places {
            if *progress == Progress::Ended {
                lineage.has_read(shard);
            }
        }
        let mut first = self.later();
        if self.settings.from == StartAt::Latest && self.settings.places.is_empty() {
            for skipped in lineage.skip_closed() {
                self.tell(skipped, Progress::Ended).await;
            }
            first = Position::Latest;
        }
        let mut tasks = JoinSet::new();
        for shard in lineage.begin_ready() {
            let from = self.place(&shard.id).unwrap_or_else(|| first.clone());
            tasks.spawn(Arc::clone(self).read_shard(shard, from));
        }
        while let Some(ended) = tasks.join_next().await {
            let (shard, ended) = unwound(ended)?;
            match ended {
                Ended::Stopped => {}
                Ended::AtTip => lineage.has_left(&shard),
                Ended::Read { children } => {
                    lineage.has_read(&shard);
                    let children = match children {
                        children if children.is_empty() => self.list(u32::MAX).await?,
                        children => children,
                    };
                    lineage.learn(self.wanted(children));
                }
            }
            for shard in lineage.begin_ready() {
                let from = self.place(&shard.id).unwrap_or_else(|| self.later());
                tasks.spawn(Arc::clone(self).read_shard(shard, from));
            }
        }
        Ok(())
    }

    /// Where an earlier reading left off in it.
    fn place(&self, shard: &ShardId) -> Option<Position> {
        match self.settings.places.get(shard)? {
            Progress::Since(time) => Some(Position::At(*time)),
            Progress::UpTo(sequence) => Some(Position::After(Arc::clone(sequence))),
            Progress::Ended => None,
        }
    }

    /// Where shards begin that were not there at the start. Before a moment nothing is read of any.
    fn later(&self) -> Position {
        match self.settings.from {
            StartAt::At(time) => Position::At(time),
            StartAt::TrimHorizon | StartAt::Latest => Position::TrimHorizon,
        }
    }

    fn are_there(&self, listed: &[ListedShard]) -> Result<(), ConsumeError> {
        let Some(only) = &self.settings.only else {
            return Ok(());
        };
        let is_there = |shard: &&ShardId| listed.iter().any(|l| l.id == **shard);
        match only.iter().find(|shard| !is_there(shard)) {
            None => Ok(()),
            Some(shard) => Err(ConsumeError::NoSuchShard {
                shard: shard.clone(),
                there: named(listed),
            }),
        }
    }

    /// Shards of a stream that was deleted and made anew have the same names as before: nothing of it would be read.
    fn are_of_this_stream(&self, listed: &[ListedShard]) -> Result<(), ConsumeError> {
        let has_children = |shard: &ShardId| listed.iter().any(|l| l.parents.contains(shard));
        // Decimal, without leading zeros.
        let order = |number: &Arc<str>| (number.len(), Arc::clone(number));
        for shard in listed {
            let contradicts = match (self.settings.places.get(&shard.id), &shard.begins) {
                (Some(Progress::Ended), _) => !shard.closed && !has_children(&shard.id),
                (Some(Progress::UpTo(sequence)), Some(begins)) => order(sequence) < order(begins),
                _ => false,
            };
            if contradicts {
                let shard = shard.id.clone();
                return Err(ConsumeError::OfAnEarlierStream { shard });
            }
        }
        Ok(())
    }

    /// Of a shard that is asked for alone, its parents are none of this reading's.
    fn wanted(&self, mut listed: Vec<ListedShard>) -> Vec<ListedShard> {
        if let Some(only) = &self.settings.only {
            listed.retain(|shard| only.contains(&shard.id));
        }
        listed
    }

    /// How far a shard is read, where no record says so.
    async fn tell(&self, shard: ShardId, progress: Progress) {
        let batch = ConsumedBatch {
            shard,
            records: Vec::new(),
            behind: Duration::ZERO,
            progress,
            _memory: None,
        };
        // Nobody listens where reading was stopped.
        let _ = self.out.send(batch).await;
    }

    /// Waits out what waiting may mend, at most so many times; for the others who call too, as long as it takes.
    async fn list(&self, tries: u32) -> Result<Vec<ListedShard>, ConsumeError> {
        let patience = Patience::new("list of shards".to_owned());
        let at_start = tries == START_TRIES;
        let mut patience = if at_start {
            patience.silent()
        } else {
            patience
        };
        loop {
            let error = match self.reading.stream().shards().await {
                Ok(shards) => {
                    patience.worked();
                    return Ok(shards);
                }
                Err(error) => error,
            };
            match patience.failed(&error) {
                // At the start a refusal is a mistake in policy or credentials; later it was right once.
                _ if at_start && denied(&error) => {
                    return Err(ConsumeError::Denied(error));
                }
                Some(delay) if patience.failures() < tries || throttled(&error) => {
                    tokio::time::sleep(delay).await;
                }
                _ if not_found(&error) => return Err(ConsumeError::NoSuchStream(error)),
                _ => return Err(ConsumeError::of_listing(error)),
            }
        }
    }

    async fn read_shard(
        self: Arc<Self>,
        shard: ListedShard,
        from: Position,
    ) -> Result<(ShardId, Ended), ConsumeError> {
        let error = match self.pages(&shard, from).await {
            Ok(ended) => return Ok((shard.id, ended)),
            Err(error) => error,
        };
        if let (Reading::Pushed(stream, _), true) = (&self.reading, denied(&error)) {
            let consumer = stream.consumer().to_owned();
            return Err(ConsumeError::NotSubscribed { consumer, error });
        }
        if !not_found(&error) {
            let shard = shard.id;
            return Err(ConsumeError::Read { shard, error });
        }
        // Either the stream is gone, then listing says so; or the shard alone, with its last record; or who subscribes.
        let listed = self.list(u32::MAX).await?;
        if listed.iter().any(|known| known.id == shard.id) {
            return Err(match &self.reading {
                Reading::Polled(_) => ConsumeError::NoSuchStream(error),
                Reading::Pushed(stream, _) => ConsumeError::NoSuchConsumer {
                    consumer: stream.consumer().to_owned(),
                    error,
                },
            });
        }
        tracing::warn!(shard = %shard.id, "expired before it was read to its end");
        let children = Vec::new();
        Ok((shard.id, Ended::Read { children }))
    }

    /// From page to page, one hop a line.
    async fn pages(&self, shard: &ListedShard, from: Position) -> Result<Ended, CallError> {
        if from == Position::Latest {
            self.tell(shard.id.clone(), Progress::Since(SystemTime::now()))
                .await;
        }
        let mut reader = self.reading.from(shard.id.clone(), from);
        let began = SystemTime::now();
        let ended = loop {
            let (page, mut memory) = reader.page(&self.memory).await?;
            let at_tip = page.records.is_empty() && page.behind.is_zero();
            // Where somebody writes all the while, no page is empty: what was there at the beginning is read once the service says
            // that nothing is behind, and what is read is younger. (Not by its word alone: some say so whatever is behind.)
            let youngest = page.records.last().and_then(|last| last.arrived);
            let is_past = page.behind.is_zero() && youngest.is_some_and(|arrived| arrived > began);
            if let Some(last) = page.records.last() {
                let progress = Progress::UpTo(Arc::clone(&last.sequence));
                let records = self.unpacker.unpack(shard, page.records).await;
                shrink(&mut memory, &records);
                let batch = ConsumedBatch {
                    shard: shard.id.clone(),
                    records,
                    behind: page.behind,
                    progress,
                    _memory: Some(memory),
                };
                if self.out.send(batch).await.is_err() {
                    return Ok(Ended::Stopped);
                }
            }
            match page.next {
                None => break page.children,
                // Some servers never end a closed shard's pages; nothing can come any more.
                Some(_) if at_tip && shard.closed => break Vec::new(),
                Some(_) if (at_tip || is_past) && self.settings.until_empty => {
                    return Ok(Ended::AtTip);
                }
                Some(_) if at_tip => reader.rest(self.settings.idle).await,
                Some(_) => {}
            }
        };
        self.tell(shard.id.clone(), Progress::Ended).await;
        Ok(Ended::Read { children: ended })
    }
}

/// A few of them by name.
fn named(listed: &[ListedShard]) -> String {
    const MOST: usize = 5;
    let names: Vec<_> = (listed.iter().take(MOST))
        .map(|l| l.id.to_string())
        .collect();
    match listed.len().saturating_sub(MOST) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Tries to list shards before a start fails: a few seconds.
pub(super) const START_TRIES: u32 = 6;

/// Gives back what a batch does not keep: sealed and opened bytes, and the record around them.
fn shrink(memory: &mut OwnedSemaphorePermit, records: &[Result<UserRecord, Unreadable>]) {
    let kept = |record: &Result<UserRecord, Unreadable>| {
        let bytes = match record {
            Ok(user) => user.data.len() + user.sealed.as_ref().map_or(0, |s| s.message.len()),
            Err(unreadable) => unreadable.data.len(),
        };
        bytes + size_of_val(record)
    };
    let kept: usize = records.iter().map(kept).sum();
    drop(memory.split(memory.num_permits().saturating_sub(kept)));
}

pub(super) fn not_found(error: &CallError) -> bool {
    error.code == "ResourceNotFoundException"
}

pub(super) fn denied(error: &CallError) -> bool {
    matches!(
        error.code.as_str(),
        "AccessDeniedException" | "AccessDenied"
    )
}

/// Many who read begin at once, and the account's rate of calls is shared: it is not this one's mistake.
fn throttled(error: &CallError) -> bool {
    let verdict = retry::judge(&error.code, error.status, &History::default());
    verdict == Verdict::Retry(Class::Throttled)
}

/// A panic in a task is one here.
pub(super) fn unwound<T>(ended: Result<T, JoinError>) -> T {
    match ended {
        Ok(value) => value,
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => unreachable!("tasks are aborted only with their set"),
    }
}
