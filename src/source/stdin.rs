//! Newline-framed records from standard input, to its end.
//!
//! What follows the last newline is a record too. What was read cannot be read again: after a crash it is
//! lost if it was neither stored nor in a spool. One block is read ahead of the memory budget.

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use super::drops::{self, Drops};
use super::feed::{Feed, Joining};
use super::join::Multiline;
use super::lines::Read;
use super::making::Making;
use super::tail::UNFINISHED_KEPT;
use super::{Intake, WhenFull};
use crate::shutdown::Shutdown;

/// As much as a pipe holds (Linux: 64 KiB).
const BLOCK: usize = 64 * 1024;
/// What a partition key calls it, where a file has its path.
const NAME: &str = "stdin";

/// A `[[source]]` table of `type = "stdin"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `None`: each line is a record.
    pub multiline: Option<Arc<Multiline>>,
    pub when_full: WhenFull,
}

/// Reads standard input to its end, or until told to stop. A pipeline that has gone ends it too.
///
/// Not cancel safe: use `shutdown`.
pub async fn run(
    settings: &Settings,
    intake: Intake,
    making: &Making,
    shutdown: Shutdown,
) -> io::Result<()> {
    let (to, blocks) = mpsc::channel(1);
    // Not one of the runtime's threads: a read that waits for a person cannot be ended, and the runtime
    // would wait for it when the process is to exit.
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_blocks(io::stdin(), &to))?;
    let multiline = settings.multiline.as_ref();
    let joining = multiline.map(|multiline| Joining::new(multiline, UNFINISHED_KEPT, NAME));
    let drops = Drops::of(settings.when_full);
    let lines =
        Feed::new(intake, making.of(NAME.as_ref()), drops.as_ref()).joining(joining.as_ref());
    drops::told_during(drops.as_deref(), NAME, feed(blocks, lines, shutdown)).await
}

fn read_blocks(mut input: impl io::Read, to: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buf = vec![0; BLOCK];
    loop {
        let block = match input.read(&mut buf) {
            Ok(0) => return,
            Ok(n) => Ok(buf[..n].to_vec()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => Err(e),
        };
        let failed = block.is_err();
        if to.blocking_send(block).is_err() || failed {
            return;
        }
    }
}

async fn feed(
    mut blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
    mut feed: Feed,
    shutdown: Shutdown,
) -> io::Result<()> {
    let outcome = loop {
        let block = tokio::select! {
            biased;
            () = shutdown.stopped() => break Ok(()),
            block = blocks.recv() => block,
            () = feed.open_is_due() => {
                if feed.send_open().await.is_err() {
                    return Ok(());
                }
                continue;
            }
        };
        let block = match block {
            None => break Ok(()),
            Some(Ok(block)) => block,
            // What came before it is still sent.
            Some(Err(e)) => break Err(e),
        };
        let permit = feed.reserve(block.len()).await;
        let framer = &mut feed.framer;
        let ((), took) =
            Read::of(|| framer.fill(block.len(), |held| held.extend_from_slice(&block)));
        if feed.send_lines(permit, took).await.is_err() {
            return Ok(());
        }
    };
    // A pipeline that is gone has said so elsewhere.
    let _ = feed.finish().await;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::MemoryBudget;
    use crate::metrics::Counters;
    use crate::shutdown;
    use crate::source::keying::Keying;
    use crate::source::{Chunk, Costs};

    fn intake(limit: usize) -> (Intake, mpsc::Receiver<Chunk>) {
        let (to, chunks) = mpsc::channel(100);
        let costs = Costs::new(0, true);
        (Intake::new(to, MemoryBudget::new(limit), costs), chunks)
    }

    fn waiting(intake: Intake) -> Feed {
        Feed::new(intake, Making::from(Keying::RANDOM).of(NAME.as_ref()), None)
    }

    async fn lines(mut chunks: mpsc::Receiver<Chunk>) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            let text = |data: bytes::Bytes| String::from_utf8(data.to_vec()).unwrap();
            lines.extend(chunk.records.into_iter().map(|record| text(record.data)));
        }
        lines
    }

    #[tokio::test]
    async fn last_line_without_a_newline_is_a_record() {
        let (intake, chunks) = intake(1 << 20);
        let (to, blocks) = mpsc::channel(1);
        let (_stop, shutdown) = shutdown::channel();
        let reader = thread::spawn(move || read_blocks(&b"one\n\ntwo\nthr"[..], &to));
        feed(blocks, waiting(intake), shutdown).await.unwrap();
        reader.join().unwrap();
        assert_eq!(lines(chunks).await, ["one", "", "two", "thr"]);
    }

    #[tokio::test]
    async fn input_longer_than_the_memory_waits_and_all_of_it_comes() {
        let (intake, chunks) = intake(10_000);
        let (to, blocks) = mpsc::channel(1);
        let (_stop, shutdown) = shutdown::channel();
        let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
        let reader = thread::spawn(move || read_blocks(input.as_bytes(), &to));
        let (fed, lines) = tokio::join!(feed(blocks, waiting(intake), shutdown), lines(chunks));
        fed.unwrap();
        reader.join().unwrap();
        let want = (0..50_000).map(|n| n.to_string());
        assert!(lines.into_iter().eq(want));
    }

    #[tokio::test]
    async fn input_that_has_no_room_is_read_to_its_end_and_dropped_by_the_line() {
        let (intake, mut chunks) = intake(1);
        let counters: Arc<Counters> = Arc::default();
        let intake = intake.counting(Arc::clone(&counters));
        let drops = Drops::of(WhenFull::DropNewest);
        let dropping = Feed::new(
            intake,
            Making::from(Keying::RANDOM).of(NAME.as_ref()),
            drops.as_ref(),
        );
        let (to, blocks) = mpsc::channel(1);
        let (_stop, shutdown) = shutdown::channel();
        let input: String = (0..50_000).map(|n| format!("{n}\n")).collect();
        let reader = thread::spawn(move || read_blocks(format!("{input}end").as_bytes(), &to));
        feed(blocks, dropping, shutdown).await.unwrap();
        reader.join().unwrap();

        // All that is held: it alone had room, since nothing else was there.
        let held = chunks.recv().await.unwrap();
        let first = held.records.len() as u64;
        assert!(chunks.recv().await.is_none());
        let counts = counters.snapshot();
        assert_eq!(
            (counts.accepted, counts.dropped, counts.pending),
            (50_001, 50_001 - first, first)
        );
        drop(held);
        let counts = counters.snapshot();
        assert_eq!((counts.abandoned, counts.pending), (first, 0));
        assert!(counts.balance(), "{counts:?}");
    }

    #[tokio::test]
    async fn stop_ends_it_while_nothing_comes_and_what_came_is_sent() {
        let (intake, chunks) = intake(1 << 20);
        let (to, blocks) = mpsc::channel(1);
        let (stop, shutdown) = shutdown::channel();
        let fed = tokio::spawn(feed(blocks, waiting(intake), shutdown));
        to.send(Ok(b"one\ntw".to_vec())).await.unwrap();
        let permit = to.reserve().await.unwrap();
        stop.stop();
        fed.await.unwrap().unwrap();
        drop(permit);
        let lines = lines(chunks).await;
        assert!(lines == ["one", "tw"] || lines.is_empty(), "{lines:?}");
    }

    #[tokio::test]
    async fn error_is_told_after_what_came_before_it() {
        let (intake, chunks) = intake(1 << 20);
        let (to, blocks) = mpsc::channel(2);
        let (_stop, shutdown) = shutdown::channel();
        to.send(Ok(b"one".to_vec())).await.unwrap();
        to.send(Err(io::ErrorKind::BrokenPipe.into()))
            .await
            .unwrap();
        let error = feed(blocks, waiting(intake), shutdown).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(lines(chunks).await, ["one"]);
    }
}
