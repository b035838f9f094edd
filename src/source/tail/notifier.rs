//! The system's events, of one inotify instance for all sources.
//!
//! A user may have 128 of them, by default and all processes together, and an agent more sources than that. Where several
//! sources watch a directory, each event in it comes once, and is told to each of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// What has happened, for one who listens.
#[derive(Debug, Clone)]
pub(super) enum Signal {
    /// There is more, or less, in this file.
    Content(PathBuf),
    /// A name has appeared, gone or changed.
    Name(PathBuf),
    Renamed(PathBuf, PathBuf),
    Wake,
}

/// Shared by the sources of an agent. It asks the system for nothing before one of them listens.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Made for the first who listens. Not held while events are told: the watcher's thread does both.
    watcher: Mutex<Option<RecommendedWatcher>>,
    ears: Arc<Mutex<Ears>>,
}

#[derive(Debug, Default)]
struct Ears {
    next: u64,
    all: HashMap<u64, Ear>,
    /// Who watches which.
    directories: HashMap<PathBuf, Vec<u64>>,
}

#[derive(Debug)]
struct Ear {
    to: Sender<Signal>,
    /// Something was not told: anything may have happened.
    overflowed: Arc<AtomicBool>,
    /// Events may be taken together for so long.
    pause: Duration,
}

/// One who listens, until dropped.
#[derive(Debug)]
pub(super) struct Listening {
    notifier: Notifier,
    id: u64,
}

impl Notifier {
    /// Of lines that are written one by one, events are taken together for `pause`, or the shortest of all who listen: the
    /// system makes one of those that follow each other in a file.
    pub(super) fn listen(
        &self,
        to: Sender<Signal>,
        overflowed: Arc<AtomicBool>,
        pause: Duration,
    ) -> notify::Result<Listening> {
        let mut watcher = self.watcher();
        if watcher.is_none() {
            let (ears, mut pace) = (Arc::clone(&self.0.ears), Pace::new());
            *watcher = Some(notify::recommended_watcher(move |event| {
                // Not while they are held: whoever is told may answer.
                let pause = held(&ears).pass_on(event);
                pace.keep(pause);
            })?);
        }
        drop(watcher);
        let mut ears = held(&self.0.ears);
        let id = ears.next;
        ears.next += 1;
        let ear = Ear {
            to,
            overflowed,
            pause,
        };
        ears.all.insert(id, ear);
        Ok(Listening {
            notifier: self.clone(),
            id,
        })
    }

    fn watcher(&self) -> MutexGuard<'_, Option<RecommendedWatcher>> {
        self.0.watcher.lock().expect("no panic while held")
    }
}

fn held(ears: &Mutex<Ears>) -> MutexGuard<'_, Ears> {
    ears.lock().expect("no panic while held")
}

impl Listening {
    /// From now on, of what is directly in it. Also where it was watched before: one that was deleted and made anew is
    /// another.
    pub(super) fn watch(&self, directory: &Path) -> notify::Result<()> {
        let mut watcher = self.notifier.watcher();
        let Some(watcher) = &mut *watcher else {
            return Ok(());
        };
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        let mut ears = held(&self.notifier.0.ears);
        let watching = ears.directories.entry(directory.to_owned()).or_default();
        if !watching.contains(&self.id) {
            watching.push(self.id);
        }
        Ok(())
    }

    /// How many listen, itself included.
    pub(super) fn fellows(&self) -> u32 {
        let listening = held(&self.notifier.0.ears).all.len();
        u32::try_from(listening).unwrap_or(u32::MAX)
    }

    pub(super) fn unwatch(&self, directory: &Path) {
        let mut watcher = self.notifier.watcher();
        let mut ears = held(&self.notifier.0.ears);
        let is_left = ears.leave(directory, self.id);
        drop(ears);
        if let (true, Some(watcher)) = (is_left, &mut *watcher) {
            // It may be gone already, and its watch with it.
            let _ = watcher.unwatch(directory);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut watcher = self.notifier.watcher();
        let mut ears = held(&self.notifier.0.ears);
        ears.all.remove(&self.id);
        let directories: Vec<_> = ears.directories.keys().cloned().collect();
        let left: Vec<_> = (directories.into_iter())
            .filter(|directory| ears.leave(directory, self.id))
            .collect();
        let is_last = ears.all.is_empty();
        drop(ears);
        match &mut *watcher {
            // With its thread and its instance.
            whole if is_last => *whole = None,
            Some(watcher) => left.iter().for_each(|directory| {
                let _ = watcher.unwatch(directory);
            }),
            None => {}
        }
    }
}

impl Ears {
    /// True if nobody watches it any more.
    fn leave(&mut self, directory: &Path, id: u64) -> bool {
        let Some(watching) = self.directories.get_mut(directory) else {
            return false;
        };
        watching.retain(|other| *other != id);
        let is_left = watching.is_empty();
        if is_left {
            self.directories.remove(directory);
        }
        is_left
    }

    /// Tells whom it concerns. Returns for how long further events may wait.
    fn pass_on(&self, event: notify::Result<Event>) -> Duration {
        match event {
            Ok(event) => {
                if event.need_rescan() {
                    self.overflow();
                }
                self.tell(event);
            }
            Err(_) => self.overflow(),
        }
        let pauses = self.all.values().map(|ear| ear.pause);
        pauses.min().unwrap_or_default()
    }

    fn overflow(&self) {
        for ear in self.all.values() {
            ear.overflowed.store(true, Ordering::Release);
        }
    }

    fn tell(&self, event: Event) {
        match (event.kind, <[PathBuf; 2]>::try_from(event.paths)) {
            // Among them our own opening and reading.
            (EventKind::Access(_), _) => {}
            // Each name is told on its own, too.
            (EventKind::Modify(ModifyKind::Name(RenameMode::Both)), Ok([from, to])) => {
                let mut told: Vec<u64> = self.watching(&from).chain(self.watching(&to)).collect();
                told.sort_unstable();
                told.dedup();
                let signal = Signal::Renamed(from, to);
                told.iter().for_each(|id| self.send(*id, signal.clone()));
            }
            (EventKind::Modify(ModifyKind::Data(_)), Err(paths)) => {
                self.tell_each(paths, Signal::Content);
            }
            // Permissions too: a file may be readable now.
            (_, Ok(paths)) => self.tell_each(paths, Signal::Name),
            (_, Err(paths)) => self.tell_each(paths, Signal::Name),
        }
    }

    fn tell_each(
        &self,
        paths: impl IntoIterator<Item = PathBuf>,
        signal: impl Fn(PathBuf) -> Signal,
    ) {
        for path in paths {
            for id in self.watching(&path) {
                self.send(id, signal(path.clone()));
            }
        }
    }

    /// Who watches the directory that it is in, or itself, if it is one.
    fn watching(&self, path: &Path) -> impl Iterator<Item = u64> {
        let of = |directory: &Path| self.directories.get(directory);
        let within = path.parent().and_then(of);
        let (within, itself) = (within.into_iter().flatten(), of(path).into_iter().flatten());
        within.chain(itself).copied()
    }

    fn send(&self, id: u64, signal: Signal) {
        let Some(ear) = self.all.get(&id) else { return };
        if let Err(TrySendError::Full(_)) = ear.to.try_send(signal) {
            ear.overflowed.store(true, Ordering::Release);
        }
    }
}

/// Between two looks for events.
#[derive(Debug)]
struct Pace {
    ended: Instant,
}

impl Pace {
    fn new() -> Self {
        Self {
            ended: Instant::now(),
        }
    }

    /// Pauses on the watcher's own thread, unless it has just done so: what had come by then is passed on at once.
    fn keep(&mut self, pause: Duration) {
        if !pause.is_zero() && self.ended.elapsed() > pause / 10 {
            std::thread::sleep(pause);
            self.ended = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    fn listen(notifier: &Notifier, queue: usize) -> (Listening, Receiver<Signal>, Arc<AtomicBool>) {
        let (to, heard) = bounded(queue);
        let overflowed = Arc::<AtomicBool>::default();
        let listening = notifier.listen(to, Arc::clone(&overflowed), Duration::ZERO);
        (listening.unwrap(), heard, overflowed)
    }

    /// Until one of this file comes.
    fn hears(heard: &Receiver<Signal>, path: &Path) {
        let within = Duration::from_secs(20);
        loop {
            match heard.recv_timeout(within).expect("an event") {
                Signal::Content(of) | Signal::Name(of) if of == path => return,
                _ => {}
            }
        }
    }

    #[test]
    fn each_hears_of_its_own_directories_until_it_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        let notifier = Notifier::default();
        let (first, first_heard, _) = listen(&notifier, 1000);
        let (second, second_heard, _) = listen(&notifier, 1000);
        first.watch(&one).unwrap();
        second.watch(&one).unwrap();
        second.watch(&two).unwrap();

        fs::write(one.join("a"), "x").unwrap();
        hears(&first_heard, &one.join("a"));
        hears(&second_heard, &one.join("a"));
        fs::write(two.join("b"), "x").unwrap();
        hears(&second_heard, &two.join("b"));
        first.unwatch(&one);
        first_heard.try_iter().for_each(drop);
        fs::write(one.join("c"), "x").unwrap();
        hears(&second_heard, &one.join("c"));
        assert!(first_heard.is_empty());
        drop(second);
        assert!(held(&notifier.0.ears).directories.is_empty());
        drop(first);
        assert!(notifier.watcher().is_none());
    }

    #[test]
    fn three_hundred_listen_where_a_user_may_have_128_instances() {
        let dir = tempfile::tempdir().unwrap();
        let notifier = Notifier::default();
        let all: Vec<_> = (0..300).map(|_| listen(&notifier, 1000)).collect();
        for (listening, ..) in &all {
            listening.watch(dir.path()).unwrap();
        }
        fs::write(dir.path().join("a"), "x").unwrap();
        for (_, heard, _) in &all {
            hears(heard, &dir.path().join("a"));
        }
    }

    #[test]
    fn a_directory_that_is_made_anew_is_heard_of_once_it_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let notifier = Notifier::default();
        let (listening, heard, _) = listen(&notifier, 1000);
        listening.watch(&logs).unwrap();
        fs::remove_dir(&logs).unwrap();
        hears(&heard, &logs);
        fs::create_dir(&logs).unwrap();
        listening.watch(&logs).unwrap();
        fs::write(logs.join("a"), "x").unwrap();
        hears(&heard, &logs.join("a"));
    }

    #[test]
    fn whose_queue_is_full_knows_that_something_was_not_told() {
        let dir = tempfile::tempdir().unwrap();
        let notifier = Notifier::default();
        let (full, _heard, overflowed) = listen(&notifier, 0);
        let (other, other_heard, other_overflowed) = listen(&notifier, 1000);
        full.watch(dir.path()).unwrap();
        other.watch(dir.path()).unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        hears(&other_heard, &dir.path().join("a"));
        let end = Instant::now() + Duration::from_secs(20);
        while !overflowed.load(Ordering::Acquire) {
            assert!(Instant::now() < end);
            std::thread::yield_now();
        }
        assert!(!other_overflowed.load(Ordering::Acquire));
    }
}
