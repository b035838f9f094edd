//! Who looks after a daemon while its client is held up: where its sink is gone, or no answer comes, it is ended, which frees the
//! client, and what was found is why.

use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rustix::process::{Pid, Signal, kill_process};

use crate::sink::Sink;

const LOOK: Duration = Duration::from_millis(500);
/// Between two answers, while some are owed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends when dropped.
pub(super) struct Watching(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// The daemon is not to be ended any more.
    is_over: bool,
    /// Nor is the sink needed.
    is_dropped: bool,
    found: Option<anyhow::Error>,
}

/// What is looked at: records put, and answered.
pub(super) struct Progress {
    pub(super) written: Arc<Mutex<Vec<u64>>>,
    pub(super) answered: Arc<AtomicU64>,
}

impl Watching {
    pub(super) fn begin(daemon: &Child, mut sink: Sink, progress: Progress) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let daemon = i32::try_from(daemon.id()).ok().and_then(Pid::from_raw);
        let watched = Arc::clone(&state);
        thread::spawn(move || {
            let mut moved = (0, Instant::now());
            loop {
                thread::sleep(LOOK);
                let mut state = held(&watched);
                if state.is_dropped {
                    return;
                }
                if state.is_over {
                    continue;
                }
                let Err(found) = sink.look().and_then(|()| progress.look(&mut moved)) else {
                    continue;
                };
                state.found = Some(found);
                // It is not waited for before this is over, so it is still the one.
                let _ = daemon.map(|daemon| kill_process(daemon, Signal::KILL));
                return;
            }
        });
        Self(state)
    }

    /// From now on the daemon may end by itself, and be another process's number.
    pub(super) fn end(&self) {
        held(&self.0).is_over = true;
    }

    /// What was found, or else what its client says.
    pub(super) fn why(&self, otherwise: anyhow::Error) -> anyhow::Error {
        held(&self.0).found.take().unwrap_or(otherwise)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut state = held(&self.0);
        (state.is_over, state.is_dropped) = (true, true);
    }
}

fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|held| held.into_inner())
}

impl Progress {
    fn look(&self, moved: &mut (u64, Instant)) -> anyhow::Result<()> {
        let answered = self.answered.load(Ordering::Acquire);
        let written = self.written.lock().expect("no panic while held").len() as u64;
        if answered != moved.0 || answered >= written {
            *moved = (answered, Instant::now());
        }
        match moved.1.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(anyhow!(
                "{answered} of {written} records have an answer, and no other came for {} s; the daemon was ended",
                PATIENCE.as_secs()
            )),
        }
    }
}
