//! The pipe from the client: when it is read, how far ahead, and how it ends.

use std::io::{self, ErrorKind};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

use super::{Asked, ENTRY, Ended, Queued, Session, Undescribed};
use crate::daemon::pipes::CONNECTED;
use crate::daemon::streams;
use crate::shutdown::Shutdown;

/// Read at once, at most.
const BLOCK: usize = 256 << 10;
/// Read and not handed over while there are no credentials: Java sends its first after all records that it has. Nothing is
/// sent then, and what sending takes of memory is free.
const BEFORE_CREDENTIALS: usize = 16 << 20;
/// How long records wait for the first credentials before they wait for them in their streams, where their time ends.
const FIRST_CREDENTIALS: Duration = Duration::from_secs(2);
/// Between two looks whether a stream has been described.
const SOON: Duration = Duration::from_millis(20);
/// Records that wait together count as read when the first of them was.
const JUST_NOW: Duration = Duration::from_millis(10);
const MOST_TOGETHER: usize = 4096;
/// Between two looks whether the pipe is to be read on, where it is not read.
const LOOK: Duration = Duration::from_millis(200);

impl Session {
    /// Reads until the client hangs up, or the stop; then what it had sent is on its way, as far as there was room in
    /// time.
    pub(in super::super) async fn read(&mut self, pipe: &Receiver, shutdown: &Shutdown) -> Ended {
        let why = self.read_on(pipe, shutdown).await;
        tracing::info!("{why}; what it had sent is put on its way");
        let by = self.ends_by();
        self.put_rest(by).await;
        why
    }

    async fn read_on(&mut self, pipe: &Receiver, shutdown: &Shutdown) -> Ended {
        let parent = self.parent;
        let mut is_connected = false;
        let connects_by = Instant::now() + CONNECTED;
        loop {
            if shutdown.is_stopped() {
                return self.read_what_is_there(pipe);
            }
            self.is_choked = self.outbox.is_full();
            self.take_frames();
            self.take_described(Instant::now());
            self.pass_flushes();
            self.let_go(Instant::now()).await;
            let (may_read, may_put) = (self.may_read(), self.may_put());
            tokio::select! {
                biased;
                () = shutdown.stopped() => {}
                () = parent.gone(), if !is_connected => return Ended::ClientGone,
                () = tokio::time::sleep_until(connects_by), if !is_connected => return Ended::ClientGone,
                // What there is room for goes before what comes.
                room = self.room(), if may_put => self.put_first(room),
                ready = pipe.readable(), if may_read => match ready.and_then(|()| self.fill(pipe)) {
                    Ok(0) => return Ended::ClientGone,
                    Ok(_) => is_connected = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Ended::Broken(error),
                },
                () = self.outbox.has_room(), if self.is_choked => {}
                () = until(self.is_due_at()), if !may_put => {}
                // What is not read does not tell its end.
                () = tokio::time::sleep(LOOK), if !may_read => if is_hung_up(pipe) {
                    self.read_what_is_there(pipe);
                    return Ended::ClientGone;
                },
                () = tokio::time::sleep(SOON), if !self.undescribed.is_empty() => {}
                () = tokio::time::sleep_until(self.looks_at) => {}
            }
        }
    }

    /// Streams that are idle, each time it is to be looked for them. Between blocks, so that a busy stream keeps no idle one.
    pub(super) async fn let_go(&mut self, now: Instant) {
        if now < self.looks_at {
            return;
        }
        self.looks_at = now + streams::LOOK;
        let (queue, undescribed) = (&self.queue, &self.undescribed);
        let is_awaited = |of| {
            let mut aside = undescribed.iter();
            queue.iter().any(|queued| queued.is_of(of)) || aside.any(|waiting| waiting.place == of)
        };
        self.streams.let_go(is_awaited, now).await;
    }

    fn fill(&mut self, pipe: &Receiver) -> io::Result<usize> {
        self.frames.fill(BLOCK, |block| pipe.try_read_buf(block))
    }

    /// After the stop: what lies in the pipe then, and nothing that comes later.
    fn read_what_is_there(&mut self, pipe: &Receiver) -> Ended {
        let mut left = rustix::io::ioctl_fionread(pipe).unwrap_or(0);
        self.take_frames();
        while left > 0 {
            match self.fill(pipe) {
                Ok(0) => return Ended::ClientGone,
                Ok(read) => left = left.saturating_sub(read as u64),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Ended::Broken(error),
            }
            self.is_choked = false;
            self.take_frames();
        }
        Ended::Stopped
    }

    /// Who does not read answers does not hear that there is no room either.
    fn may_read(&self) -> bool {
        !self.is_choked && (!self.is_full() || self.must_read_on())
    }

    /// Whether as much is read ahead as may be.
    fn is_full(&self) -> bool {
        let most = match self.credentials.are_there() {
            true => self.read_ahead,
            false => BEFORE_CREDENTIALS.max(self.read_ahead),
        };
        self.queued_bytes >= most
    }

    /// Whether what is behind the queue may be what it waits for, or must not wait.
    fn must_read_on(&self) -> bool {
        self.has_pinged || !self.credentials.are_there() || self.streams.refuse_credentials()
    }

    fn may_put(&self) -> bool {
        let is_due = |due| due <= Instant::now();
        !self.queue.is_empty()
            && (self.credentials.are_there()
                || self.is_full()
                || self.is_due_at().is_some_and(is_due))
    }

    /// When the first records have waited for credentials for long enough.
    fn is_due_at(&self) -> Option<Instant> {
        self.queue.iter().find_map(|queued| match queued {
            Queued::Records { read_at, .. } => Some(*read_at + FIRST_CREDENTIALS),
            Queued::Flush(_) => None,
        })
    }

    /// All whole frames of what was read.
    fn take_frames(&mut self) {
        let mut asked: Vec<(usize, Vec<Asked>)> = Vec::new();
        loop {
            self.skip();
            while !self.is_choked
                && let Some(frame) = self.frames.next_record()
            {
                self.take(frame.bytes, &mut asked);
            }
            match self.frames.fault() {
                Some(fault) if !self.is_choked => self.pass_over(fault),
                _ => break,
            }
        }
        self.enqueue(&mut asked);
    }

    pub(super) fn enqueue(&mut self, asked: &mut Vec<(usize, Vec<Asked>)>) {
        let read_at = Instant::now();
        let is_full = self.is_full() && self.ends_by.is_none();
        for (place, mut records) in asked.drain(..) {
            if is_full && self.must_read_on() {
                self.overload(place, records);
                continue;
            }
            self.queued_bytes += records.iter().map(Asked::bytes).sum::<usize>();
            if self.streams.get(place).is_to_be_described(read_at) {
                let keyless = records.extract_if(.., |asked| asked.has_no_key());
                let keyless: Vec<_> = keyless.collect();
                self.set_aside(place, keyless, read_at);
            }
            if !records.is_empty() {
                self.queue_up(place, records, read_at);
            }
        }
    }

    fn set_aside(&mut self, place: usize, records: Vec<Asked>, read_at: Instant) {
        let of_it = |waiting: &&mut Undescribed| waiting.place == place;
        match self.undescribed.iter_mut().find(of_it) {
            _ if records.is_empty() => {}
            Some(waiting) => waiting.records.extend(records),
            None => self.undescribed.push(Undescribed {
                place,
                records,
                read_at,
            }),
        }
    }

    /// What waits for no description any more.
    pub(super) fn take_described(&mut self, now: Instant) {
        let streams = &self.streams;
        let is_ready =
            |waiting: &mut Undescribed| !streams.get(waiting.place).is_to_be_described(now);
        let ready: Vec<_> = self.undescribed.extract_if(.., is_ready).collect();
        for Undescribed {
            place,
            mut records,
            read_at,
        } in ready
        {
            while !records.is_empty() {
                let later = records.split_off(records.len().min(MOST_TOGETHER));
                self.queue_up(place, std::mem::replace(&mut records, later), read_at);
            }
        }
    }

    /// With those before them, where these still wait and came just now: a stream takes so many at once, however few they
    /// are together.
    fn queue_up(&mut self, place: usize, more: Vec<Asked>, read_at: Instant) {
        match self.queue.back_mut() {
            Some(Queued::Records {
                place: last,
                records,
                read_at: before,
            }) if *last == place
                && records.len() < MOST_TOGETHER
                && read_at.saturating_duration_since(*before) < JUST_NOW =>
            {
                records.extend(more);
            }
            _ => {
                self.queued_bytes += ENTRY;
                self.queue.push_back(Queued::Records {
                    place,
                    records: more,
                    read_at,
                });
            }
        }
    }

    /// Those that nothing is in front of.
    fn pass_flushes(&mut self) {
        while let Some(Queued::Flush(place)) =
            (self.queue).pop_front_if(|queued| matches!(queued, Queued::Flush(_)))
        {
            self.streams.flush(place);
        }
    }

    /// What is queued, as far as there is room by then.
    async fn put_rest(&mut self, by: Instant) {
        loop {
            self.take_described(Instant::now());
            self.pass_flushes();
            if self.queue.is_empty() && self.undescribed.is_empty() {
                return;
            }
            if self.queue.is_empty() {
                tokio::time::sleep(SOON).await;
                continue;
            }
            match tokio::time::timeout_at(by, self.room()).await {
                Ok(room) => self.put_first(room),
                Err(_) => self.abandon_first(),
            }
        }
    }
}

/// For ever, where there is no moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Whether nobody holds the other end any more, whatever lies in the pipe still.
fn is_hung_up(pipe: &Receiver) -> bool {
    let mut asked = [PollFd::new(pipe, PollFlags::empty())];
    let answered = rustix::event::poll(&mut asked, Some(&Timespec::default()));
    answered.is_ok() && asked[0].revents().contains(PollFlags::HUP)
}
