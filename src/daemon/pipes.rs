//! The two pipes that the client has made, and how they are opened without waiting for each other for ever.
//!
//! The client opens the one that it reads from first, and waits until somebody writes there; the other one only then. So
//! the pipe to the client is opened first here. Neither opening blocks a thread: a client that dies meanwhile is noticed.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, getppid};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};

/// Between two looks whether the client has opened its end.
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks whether whoever started this program lives.
const PARENT_LOOK: Duration = Duration::from_secs(1);
/// How long the client may take to open its ends: it does so as soon as it has started this program. One that died in the
/// first moment, before anybody could see whose child this is, leaves no other trace.
pub const CONNECTED: Duration = Duration::from_secs(60);
/// What a pipe holds, where the system lets us choose: less waking for the same records.
const CAPACITY: usize = 1 << 20;

/// Open at both ends.
#[derive(Debug)]
pub struct Pipes {
    pub from_client: Receiver,
    pub to_client: Sender,
}

/// Whoever started this program. A client that dies before it has opened the pipe to here leaves one that never ends.
#[derive(Debug, Clone, Copy)]
pub struct Parent(Option<Pid>);

impl Parent {
    pub fn new() -> Self {
        Self(getppid())
    }

    fn is_gone(self) -> bool {
        getppid() != self.0
    }

    /// Resolves when it has died. Cancel safe.
    pub async fn gone(self) {
        while !self.is_gone() {
            tokio::time::sleep(PARENT_LOOK).await;
        }
    }
}

impl Default for Parent {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    #[error("cannot open pipe {path}: {source}", path = path.display())]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not a pipe: make one with mkfifo", path = path.display())]
    NoPipe { path: PathBuf },
    #[error("whoever started this program has gone, or has not opened the pipes within a minute")]
    Orphaned,
}

/// Both must be there, and be pipes.
pub fn check(path: &Path) -> Result<(), PipeError> {
    let open_error = |source| PipeError::Open {
        path: path.to_owned(),
        source,
    };
    let meta = std::fs::metadata(path).map_err(open_error)?;
    match meta.file_type().is_fifo() {
        true => Ok(()),
        false => Err(PipeError::NoPipe {
            path: path.to_owned(),
        }),
    }
}

impl Pipes {
    /// Waits for as long as the client takes. Cancel safe.
    pub async fn open(
        from_client: &Path,
        to_client: &Path,
        parent: Parent,
    ) -> Result<Self, PipeError> {
        check(from_client)?;
        check(to_client)?;
        let to_client = sender(to_client, parent).await?;
        let from_client = OpenOptions::new()
            .open_receiver(from_client)
            .map_err(|source| PipeError::Open {
                path: from_client.to_owned(),
                source,
            })?;
        // Refused where the user has too many large ones: then they stay as they are.
        let _ = rustix::pipe::fcntl_setpipe_size(&from_client, CAPACITY);
        let _ = rustix::pipe::fcntl_setpipe_size(&to_client, CAPACITY);
        Ok(Self {
            from_client,
            to_client,
        })
    }
}

/// Without a reader it cannot be opened, which is how to wait for one.
async fn sender(path: &Path, parent: Parent) -> Result<Sender, PipeError> {
    let by = tokio::time::Instant::now() + CONNECTED;
    loop {
        match OpenOptions::new().open_sender(path) {
            Ok(sender) => return Ok(sender),
            Err(error) if error.raw_os_error() == Some(NO_READER) => {}
            Err(source) => {
                let path = path.to_owned();
                return Err(PipeError::Open { path, source });
            }
        }
        if parent.is_gone() || tokio::time::Instant::now() >= by {
            return Err(PipeError::Orphaned);
        }
        tokio::time::sleep(LOOK).await;
    }
}

const NO_READER: i32 = rustix::io::Errno::NXIO.raw_os_error();

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use rustix::fs::Mode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn fifo(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            Mode::from(0o600),
            0,
        )
        .expect("a pipe");
        path
    }

    /// In the order in which the Java client opens them, each opening waiting for the other side.
    #[tokio::test]
    async fn a_client_that_opens_its_reading_end_first_is_met() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (fifo(folder.path(), "out"), fifo(folder.path(), "in"));
        let client = std::thread::spawn({
            let (from, to) = (from.clone(), to.clone());
            move || {
                let mut reading = File::open(to).unwrap();
                let mut writing = File::options().write(true).open(from).unwrap();
                writing.write_all(b"asked").unwrap();
                let mut answer = [0; 8];
                reading.read_exact(&mut answer).unwrap();
                answer
            }
        });
        let mut pipes = Pipes::open(&from, &to, Parent::new()).await.unwrap();
        let mut asked = [0; 5];
        pipes.from_client.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"asked");
        pipes.to_client.write_all(b"answered").await.unwrap();
        assert_eq!(&client.join().unwrap(), b"answered");
        // It has gone.
        assert_eq!(pipes.from_client.read(&mut asked).await.unwrap(), 0);
    }

    /// Reading a pipe that nobody has opened yet is not its end.
    #[tokio::test]
    async fn a_pipe_that_the_client_has_not_opened_yet_has_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (fifo(folder.path(), "out"), fifo(folder.path(), "in"));
        let reading = std::thread::spawn({
            let to = to.clone();
            move || File::open(to).unwrap()
        });
        let mut pipes = Pipes::open(&from, &to, Parent::new()).await.unwrap();
        let reading = reading.join().unwrap();
        let writing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let mut writing = File::options().write(true).open(from).unwrap();
            writing.write_all(b"x").unwrap();
        });
        let mut asked = [0; 1];
        assert_eq!(pipes.from_client.read(&mut asked).await.unwrap(), 1);
        writing.join().unwrap();
        drop(reading);
    }

    #[tokio::test]
    async fn what_is_no_pipe_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = fifo(folder.path(), "pipe");
        let file = folder.path().join("file");
        File::create(&file).unwrap();
        let missing = folder.path().join("missing");
        for (from, to) in [(&file, &pipe), (&pipe, &file), (&missing, &pipe)] {
            let error = Pipes::open(from, to, Parent::new())
                .await
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("file") || error.contains("missing"),
                "{error}"
            );
        }
    }
}
