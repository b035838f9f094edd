//! Newline-framed records over a Unix stream socket.
//!
//! Each client has a task. A client that sends faster than the stream takes is not read, and sees its own
//! writes wait; others go on as far as the shared memory does. With [`WhenFull::DropNewest`] it is read on, and
//! what has no room is dropped. What follows the last newline when a client hangs up is a record too.
//!
//! What was read cannot be read again: after a crash it is lost if it was not yet stored, until the spool
//! exists. No answer is given to clients.

use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::drops::{self, Drops};
use super::feed::Feed;
use super::keying::Keying;
use super::lines::Read;
use super::{Closed, Intake, WhenFull};
use crate::shutdown::Shutdown;

/// Read at once from one client.
const BLOCK: usize = 64 * 1024;
/// After a stop, so much is still read of what a client had sent. More than a socket holds by default on
/// Linux (`net.core.wmem_default`, 208 KiB), so that a client that has finished loses nothing.
const LAST_READ: usize = 1024 * 1024;
/// Accepting failed, most likely for want of descriptors: clients wait in the backlog meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A `[[source]]` table of `type = "unix"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub path: PathBuf,
    pub when_full: WhenFull,
}

/// A bound socket. Its file is removed on drop.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    file: SocketFile,
    when_full: WhenFull,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    #[error(
        "socket {0} is in use: another process answers on it; stop that one, or choose another path"
    )]
    InUse(PathBuf),
    #[error("{0} is there and is no socket; move it away, or choose another path")]
    NotASocket(PathBuf),
    #[error(
        "cannot listen on {path}: {source}; its directory must exist and this user may write to it"
    )]
    Io { path: PathBuf, source: io::Error },
}

/// Listens and reads until told to stop.
///
/// Not cancel safe: use `shutdown`.
pub async fn run(
    settings: &Settings,
    intake: Intake,
    keying: &Keying,
    shutdown: Shutdown,
) -> io::Result<()> {
    let listener = Listener::bind(settings).map_err(io::Error::other)?;
    listener.run(intake, keying, shutdown).await;
    Ok(())
}

impl Listener {
    /// Takes the path. A socket file that nobody answers on is left over from a crash, and replaced.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let path = &settings.path;
        let failed = |source| BindError::Io {
            path: path.clone(),
            source,
        };
        remove_stale(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile::new(path).map_err(failed)?;
        Ok(Self {
            listener,
            file,
            when_full: settings.when_full,
        })
    }

    /// Reads all clients until told to stop, and then what they had sent. The socket file is gone when this
    /// returns. Not cancel safe: use `shutdown`.
    pub async fn run(self, intake: Intake, keying: &Keying, shutdown: Shutdown) {
        let drops = Drops::of(self.when_full);
        let name = self.file.path.display().to_string();
        let serving = self.serve_all(intake, keying, drops.clone(), shutdown);
        drops::told_during(drops.as_deref(), &name, serving).await;
    }

    async fn serve_all(
        self,
        intake: Intake,
        keying: &Keying,
        drops: Option<Arc<Drops>>,
        shutdown: Shutdown,
    ) {
        let keyer = keying.of(&self.file.path);
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.stopped() => break,
                Some(_) = clients.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let feed = Feed::new(intake.clone(), keyer.clone(), drops.as_ref());
                        clients.spawn(serve(stream, feed, shutdown.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(
                            path = %self.file.path.display(), %error,
                            "cannot take a client; raise the limit of open files if it says so"
                        );
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // No new ones; those that are here are finished.
        drop(self);
        while clients.join_next().await.is_some() {}
    }
}

/// One client, to its end.
async fn serve(stream: UnixStream, mut feed: Feed, shutdown: Shutdown) {
    let ended = loop {
        // Before room is reserved: a client that is silent holds none.
        tokio::select! {
            biased;
            () = shutdown.stopped() => break drain(stream, &mut feed).await,
            readable = stream.readable() => if let Err(e) = readable { break Err(e.into()) },
        }
        match read(&stream, &mut feed).await {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(ended) => break Err(ended),
        }
    };
    match ended {
        Err(Ended::PipelineClosed) => return,
        // A client that has gone in mid-line; what it did send counts.
        Err(Ended::Socket(error)) => tracing::info!(%error, "a client's connection broke"),
        Ok(()) => {}
    }
    // A pipeline that is gone has said so elsewhere.
    let _ = feed.finish().await;
}

/// Why a client is not read on.
enum Ended {
    Socket(io::Error),
    PipelineClosed,
}

/// Takes what the client had sent by now.
async fn drain(stream: UnixStream, feed: &mut Feed) -> Result<(), Ended> {
    // Asked directly: the runtime does not yet know what has come since it last looked.
    let stream = stream.into_std()?;
    let mut left = LAST_READ;
    while left > 0 {
        let permit = feed.reserve(BLOCK).await;
        let (before, framer) = (feed.framer.read_offset(), &mut feed.framer);
        // An error, of which "would block" is one, comes after what could be read.
        let (outcome, took) =
            Read::of(|| framer.fill(BLOCK, |held| (&stream).take(BLOCK as u64).read_to_end(held)));
        feed.send_lines(permit, took).await?;
        let read = (feed.framer.read_offset() - before) as usize;
        match outcome {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            outcome => outcome?,
        };
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}

/// One block, if there is one, and its lines. False at the end of the stream.
async fn read(stream: &UnixStream, feed: &mut Feed) -> Result<bool, Ended> {
    let permit = feed.reserve(BLOCK).await;
    let framer = &mut feed.framer;
    let (outcome, took) =
        Read::of(|| framer.fill(BLOCK, |held| stream.try_read_buf(&mut held.limit(BLOCK))));
    match outcome {
        Ok(0) => Ok(false),
        Ok(_) => {
            feed.send_lines(permit, took).await?;
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e.into()),
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Self {
        Self::PipelineClosed
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match BlockingStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(e) => Err(failed(e)),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

/// The socket's file, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let meta = path.symlink_metadata()?;
        Ok(Self {
            path: path.to_owned(),
            id: (meta.dev(), meta.ino()),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |meta: std::fs::Metadata| (meta.dev(), meta.ino()) == self.id;
        if self.path.symlink_metadata().is_ok_and(is_ours) {
            // Left behind, it is found stale at the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::MemoryBudget;
    use crate::metrics::Counters;
    use crate::shutdown::{self, Stop};
    use crate::source::{Chunk, Costs};
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;

    struct Rig {
        dir: tempfile::TempDir,
        chunks: mpsc::Receiver<Chunk>,
        budget: MemoryBudget,
        counters: Arc<Counters>,
        stop: Stop,
        run: JoinHandle<()>,
    }

    fn settings(dir: &Path) -> Settings {
        Settings {
            path: dir.join("in.sock"),
            when_full: WhenFull::Block,
        }
    }

    fn start(memory: usize) -> Rig {
        start_with(memory, WhenFull::Block)
    }

    fn start_with(memory: usize, when_full: WhenFull) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            when_full,
            ..settings(dir.path())
        };
        let listener = Listener::bind(&settings).unwrap();
        let (to, chunks) = mpsc::channel(1000);
        let budget = MemoryBudget::new(memory);
        let counters: Arc<Counters> = Arc::default();
        let intake = Intake::new(to, budget.clone(), Costs::new(0, true));
        let intake = intake.counting(Arc::clone(&counters));
        let (stop, shutdown) = shutdown::channel();
        let run =
            tokio::spawn(async move { listener.run(intake, &Keying::RANDOM, shutdown).await });
        Rig {
            dir,
            chunks,
            budget,
            counters,
            stop,
            run,
        }
    }

    impl Rig {
        async fn client(&self) -> UnixStream {
            let path = settings(self.dir.path()).path;
            UnixStream::connect(path).await.unwrap()
        }

        async fn lines(&mut self, count: usize) -> Vec<String> {
            let mut lines = Vec::new();
            while lines.len() < count {
                let Some(chunk) = self.chunks.recv().await else {
                    break;
                };
                for record in chunk.records {
                    lines.push(String::from_utf8(record.data.to_vec()).unwrap());
                }
            }
            lines
        }
    }

    #[tokio::test]
    async fn lines_of_many_clients_come_whole_and_a_last_one_without_newline_too() {
        let mut rig = start(1 << 26);
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(rig.client().await);
        }
        for part in ["on", "e\ntw"] {
            for client in &mut clients {
                client.write_all(part.as_bytes()).await.unwrap();
            }
        }
        assert_eq!(rig.lines(20).await, vec!["one"; 20]);
        drop(clients);
        assert_eq!(rig.lines(20).await, vec!["tw"; 20]);
        assert_eq!(rig.budget.in_use(), 0, "silent clients hold nothing");
    }

    #[tokio::test]
    async fn what_clients_had_sent_is_read_after_the_stop_and_the_file_is_removed() {
        let mut rig = start(1 << 26);
        let mut client = rig.client().await;
        client.write_all(b"zero\n").await.unwrap();
        assert_eq!(rig.lines(1).await, ["zero"]);
        let many = "0123456789\n".repeat(10_000);
        client.write_all(many.as_bytes()).await.unwrap();
        client.write_all(b"half").await.unwrap();
        rig.stop.stop();
        assert_eq!(rig.lines(usize::MAX).await.len(), 10_001);
        rig.run.await.unwrap();
        assert!(!settings(rig.dir.path()).path.exists());
    }

    #[tokio::test]
    async fn client_waits_while_there_is_no_room() {
        let mut rig = start(8192);
        let mut client = rig.client().await;
        let written = tokio::spawn(async move {
            let line = "x".repeat(999) + "\n";
            for _ in 0..2000 {
                client.write_all(line.as_bytes()).await.unwrap();
            }
        });
        // While its ticket lives, so does its memory: nothing else is read.
        let first = rig.chunks.recv().await.unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!written.is_finished());
        let held = first.records.len();
        drop(first);
        assert_eq!(rig.lines(2000 - held).await.len(), 2000 - held);
        written.await.unwrap();
    }

    #[tokio::test]
    async fn client_is_not_held_up_where_lines_without_room_are_dropped() {
        let mut rig = start_with(8192, WhenFull::DropNewest);
        let mut client = rig.client().await;
        let line = |n: u32| format!("{n:0999}");
        client.write_all(b"first\n").await.unwrap();
        let first = rig.chunks.recv().await.unwrap();
        for n in 0..2000 {
            let line = line(n) + "\n";
            client.write_all(line.as_bytes()).await.unwrap();
        }
        drop(client);
        rig.stop.stop();
        rig.run.await.unwrap();
        // `first` has held its memory all along, so at most what fits beside it was kept.
        let mut kept = Vec::new();
        while let Some(chunk) = rig.chunks.recv().await {
            kept.extend(chunk.records.into_iter().map(|record| record.data));
        }
        assert!(kept.len() < 8, "{}", kept.len());
        let mut lines = (0..2000).map(line);
        for data in &kept {
            assert!(lines.any(|line| line == *data), "whole, and in order");
        }
        let (counts, kept) = (rig.counters.snapshot(), kept.len() as u64);
        assert_eq!((counts.accepted, counts.dropped), (2001, 2000 - kept));
        assert_eq!(counts.pending(), 1 + kept);
        drop(first);
    }

    #[tokio::test]
    async fn stale_socket_is_replaced_and_a_live_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let stale = std::os::unix::net::UnixListener::bind(&settings.path).unwrap();
        drop(stale);
        let listener = Listener::bind(&settings).unwrap();
        let error = Listener::bind(&settings).unwrap_err();
        assert!(matches!(&error, BindError::InUse(path) if *path == settings.path));
        drop(listener);
        assert!(!settings.path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        std::fs::write(&settings.path, "precious").unwrap();
        let error = Listener::bind(&settings).unwrap_err();
        assert!(matches!(error, BindError::NotASocket(_)));
        assert_eq!(std::fs::read(&settings.path).unwrap(), b"precious");
        let nowhere = Settings {
            path: dir.path().join("no/such/dir.sock"),
            when_full: WhenFull::Block,
        };
        let error = Listener::bind(&nowhere).unwrap_err().to_string();
        assert!(error.contains("no/such/dir.sock"), "{error}");
    }
}
