//! What has changed: the system's events where it has them, a look every now and then where it has not.
//!
//! Directories are watched, each on its own, as they are met. Events only say where to look, so one that is
//! lost, on a network file system or in an overflow, delays a line and loses nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::notifier::{Listening, Notifier, Signal};

/// Events that wait to be looked at. When there are more, everything is looked at instead.
const QUEUE: usize = 4096;

/// Watches directories, or says that it cannot.
#[derive(Debug)]
pub(super) struct Watch {
    /// None: the system has no watches for us, or none left.
    notifier: Option<Listening>,
    watched: HashSet<PathBuf>,
    sender: Sender<Signal>,
    receiver: Receiver<Signal>,
    /// Came in while waiting.
    first: Option<Signal>,
    overflowed: Arc<AtomicBool>,
}

/// What has come in since the last look.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) contents: HashSet<PathBuf>,
    pub(super) names: HashSet<PathBuf>,
    /// Old and new name, in the order it happened.
    pub(super) renames: Vec<(PathBuf, PathBuf)>,
    /// Events were lost: anything may have changed.
    pub(super) overflowed: bool,
}

/// Ends a wait.
#[derive(Debug)]
pub(super) struct Waker(Sender<Signal>);

impl Watch {
    /// Hears of what `notifier` hears of, up to `pause` later.
    pub(super) fn new(notifier: &Notifier, pause: Duration) -> Self {
        let mut watch = Self::polling();
        let (to, overflowed) = (watch.sender.clone(), Arc::clone(&watch.overflowed));
        match notifier.listen(to, overflowed, pause) {
            Ok(listening) => watch.notifier = Some(listening),
            Err(error) => gave_up(Path::new("/"), &error),
        }
        watch
    }

    /// Without events.
    pub(super) fn polling() -> Self {
        let (sender, receiver) = bounded(QUEUE);
        Self {
            notifier: None,
            watched: HashSet::new(),
            sender,
            receiver,
            first: None,
            overflowed: Arc::default(),
        }
    }

    pub(super) fn waker(&self) -> Waker {
        Waker(self.sender.clone())
    }

    /// Sources that hear of events as this one does; itself, without events.
    pub(super) fn listeners(&self) -> u32 {
        self.notifier.as_ref().map_or(1, Listening::fellows)
    }

    pub(super) fn is_polling(&self) -> bool {
        self.notifier.is_none()
    }

    /// Whether events come for what is directly in `directory`.
    pub(super) fn covers(&self, directory: &Path) -> bool {
        self.watched.contains(directory)
    }

    /// Watches exactly these. True if one was not watched before: what happened in it until now is unknown.
    pub(super) fn watch(&mut self, directories: &HashSet<PathBuf>) -> bool {
        let Some(notifier) = &self.notifier else {
            return false;
        };
        self.watched.retain(|old| {
            let keep = directories.contains(old);
            if !keep {
                notifier.unwatch(old);
            }
            keep
        });
        let mut added = false;
        for directory in directories {
            if self.watched.contains(directory) {
                continue;
            }
            match notifier.watch(directory) {
                Ok(()) => added |= self.watched.insert(directory.clone()),
                // Gone between the look and now, or not ours to read: the next look says so.
                Err(error) if is_of_path(&error) => {}
                Err(error) => {
                    gave_up(directory, &error);
                    self.notifier = None;
                    self.watched.clear();
                    return false;
                }
            }
        }
        added
    }

    /// Waits for an event, at most for `timeout`.
    pub(super) fn wait(&mut self, timeout: Duration) {
        self.first = self.receiver.recv_timeout(timeout).ok();
    }

    pub(super) fn changes(&mut self) -> Changes {
        let mut changes = Changes {
            overflowed: self.overflowed.swap(false, Ordering::AcqRel),
            ..Changes::default()
        };
        for signal in self
            .first
            .take()
            .into_iter()
            .chain(self.receiver.try_iter())
        {
            match signal {
                Signal::Content(path) => {
                    changes.contents.insert(path);
                }
                Signal::Name(path) => {
                    // A directory that was deleted has lost its watch, whatever comes by its name.
                    self.watched.remove(&path);
                    changes.names.insert(path);
                }
                Signal::Renamed(from, to) => changes.renames.push((from, to)),
                Signal::Wake => {}
            }
        }
        changes
    }
}

impl Waker {
    pub(super) fn wake(&self) {
        // A full queue wakes as well.
        let _ = self.0.try_send(Signal::Wake);
    }
}

fn is_of_path(error: &notify::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(e) => {
            matches!(e.kind(), NotFound | PermissionDenied | NotADirectory)
        }
        _ => false,
    }
}

fn gave_up(directory: &Path, error: &notify::Error) {
    tracing::warn!(
        directory = %directory.display(), %error,
        "files cannot be watched; looking at them every 250 ms instead. Where watches have run out, raise \
         fs.inotify.max_user_watches or fs.inotify.max_user_instances with sysctl"
    );
}
