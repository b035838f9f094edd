//! The log as the Java client reads it: on standard error, in blocks that say their level.
//!
//! ```text
//! ++++
//! [2026-11-29 21:00:00.000000] [0x00001234][0x0000000000001235] [warning] [pipes.rs:12] text
//! ----
//! ```
//!
//! The client takes the first level that it finds in brackets, and a line that begins with `++++` or `----` for a border:
//! lines that follow the first one are indented. What is written here never waits for a client that does not read it: it
//! goes through a queue of some length, whose oldest blocks give way.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::getpid;
use rustix::thread::gettid;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Bytes of blocks that wait to be read.
const MOST_QUEUED: usize = 1 << 20;

/// What writes events as blocks.
#[derive(Debug)]
pub struct KplLog {
    queue: Arc<Queue>,
}

/// Waits until what was logged is written, for a while.
#[derive(Debug, Clone)]
pub struct LogGuard(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    blocks: Mutex<Blocks>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Blocks {
    waiting: VecDeque<String>,
    bytes: usize,
    dropped: u64,
    is_writing: bool,
}

impl KplLog {
    /// With the thread that writes.
    pub fn start() -> (Self, LogGuard) {
        let queue: Arc<Queue> = Arc::default();
        let writing = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("log".to_owned());
        // Without it, there is no log, and nobody to tell.
        let _ = thread.spawn(move || writing.write(&mut std::io::stderr()));
        let guard = LogGuard(Arc::clone(&queue));
        (Self { queue }, guard)
    }
}

#[cfg(test)]
impl KplLog {
    /// With what takes the blocks out, in the place of a thread.
    pub(super) fn held() -> (Self, impl FnMut() -> Vec<String>) {
        let queue: Arc<Queue> = Arc::default();
        let held = Arc::clone(&queue);
        let take = move || {
            let mut blocks = held.blocks.lock().expect("no panic while held");
            blocks.bytes = 0;
            blocks.waiting.drain(..).collect()
        };
        (Self { queue }, take)
    }
}

impl LogGuard {
    pub fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut blocks = self.0.blocks.lock().expect("no panic while held");
        while blocks.is_writing || !blocks.waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(blocks, left);
            blocks = waited.expect("no panic while held").0;
        }
    }
}

impl Queue {
    fn push(&self, block: String) {
        let mut blocks = self.blocks.lock().expect("no panic while held");
        blocks.bytes += block.len();
        blocks.waiting.push_back(block);
        while blocks.bytes > MOST_QUEUED && blocks.waiting.len() > 1 {
            let oldest = blocks.waiting.pop_front().expect("there are several");
            blocks.bytes -= oldest.len();
            blocks.dropped += 1;
        }
        self.changed.notify_all();
    }

    /// Never ends, and never closes what it writes to: the client's reader would spin.
    fn write(&self, to: &mut impl std::io::Write) {
        loop {
            let (block, dropped) = self.next();
            if dropped > 0 {
                let text = format!("{dropped} lines of the log were not read in time and are gone");
                let block = framed("warning", "log.rs", 0, &text);
                let _ = to.write_all(block.as_bytes());
            }
            let _ = to.write_all(block.as_bytes());
            let mut blocks = self.blocks.lock().expect("no panic while held");
            blocks.is_writing = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> (String, u64) {
        let mut blocks = self.blocks.lock().expect("no panic while held");
        loop {
            if let Some(block) = blocks.waiting.pop_front() {
                blocks.bytes -= block.len();
                blocks.is_writing = true;
                let dropped = std::mem::take(&mut blocks.dropped);
                return (block, dropped);
            }
            blocks = self.changed.wait(blocks).expect("no panic while held");
        }
    }
}

impl<S: Subscriber> Layer<S> for KplLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let meta = event.metadata();
        let level = match *meta.level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let file = meta.file().unwrap_or("kinseal");
        let file = file.rsplit('/').next().unwrap_or(file);
        let said = format!("{}{}", text.message, text.fields);
        let block = framed(level, file, meta.line().unwrap_or(0), &said);
        self.queue.push(block);
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// A block of its own.
pub fn framed(level: &str, file: &str, line: u32, text: &str) -> String {
    let pid = getpid().as_raw_nonzero().get();
    let tid = gettid().as_raw_nonzero().get();
    let time = time(SystemTime::now());
    // The client reads ASCII.
    let shown = text
        .trim_end()
        .replace("\r\n", "\n")
        .replace(['\n', '\r'], "\n    ");
    format!("++++\n[{time}] [0x{pid:08x}][0x{tid:016x}] [{level}] [{file}:{line}] {shown}\n----\n")
}

/// Before there is a log, or where there is none.
pub fn say(level: &str, text: &str) {
    let block = framed(level, "kinseal", 0, text);
    // Nobody is left to be told.
    let _ = std::io::stderr().write_all(block.as_bytes());
}

/// UTC, with microseconds.
fn time(at: SystemTime) -> String {
    let text = humantime::format_rfc3339_micros(at).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_its_level_first_and_borders_that_no_line_of_the_text_looks_like() {
        let block = framed("info", "a.rs", 7, "one [error]\n----\n++++ two");
        let lines: Vec<&str> = block.lines().collect();
        assert_eq!(lines.len(), 5, "{block}");
        assert_eq!((lines[0], lines[4]), ("++++", "----"));
        assert!(
            lines[1].contains("] [info] [a.rs:7] one [error]"),
            "{block}"
        );
        assert!(
            lines[2].starts_with(' ') && lines[3].starts_with(' '),
            "{block}"
        );
        // `[YYYY-MM-DD HH:MM:SS.ffffff]`
        let time = &lines[1][1..27];
        assert!(
            time.as_bytes()[10] == b' ' && lines[1].as_bytes()[27] == b']',
            "{block}"
        );
        let level = block.find("[info]").unwrap();
        assert!(block.find("[error]").unwrap() > level);
    }

    #[test]
    fn a_client_that_does_not_read_loses_the_oldest_and_is_told_how_many() {
        let queue = Queue::default();
        for n in 0..3000 {
            queue.push(format!("{n} {}\n", "x".repeat(1000)));
        }
        let blocks = queue.blocks.lock().unwrap();
        assert!(blocks.bytes <= MOST_QUEUED);
        assert!(blocks.waiting.back().unwrap().starts_with("2999 "));
        assert_eq!(blocks.dropped as usize + blocks.waiting.len(), 3000);
    }
}
