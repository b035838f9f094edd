//! Log lines to measure with: three kinds, made up but shaped like those of real systems, or a user's own.
//!
//! Made from a seed, so that a table of figures can be made again. What decides how far lines shrink is kept
//! as it is in practice: few templates, popular values that come often, and times, addresses and ids that
//! hardly repeat.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context, ensure};

pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) lines: Vec<Vec<u8>>,
}

/// More lines of a user's file tell no more.
const MOST: usize = 200_000;
/// More bytes neither, and they are held by each process of a run.
const MOST_BYTES: u64 = 64 << 20;
/// Of a kind that is made up: some hundred of the largest blocks.
const MADE: u32 = 50_000;

/// Makes the line of a number.
type Line = fn(&mut Dice, u32) -> String;

impl Sample {
    /// The beginning of a user's file.
    pub(crate) fn of(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let cannot = || format!("cannot read {name}");
        let about = fs::metadata(path).with_context(cannot)?;
        ensure!(
            about.is_file(),
            "{name} is no file; each run reads it from its beginning: give a file with lines of a log"
        );
        let file = File::open(path).with_context(cannot)?;
        let bytes = BufReader::new(file.take(MOST_BYTES));
        let lines = bytes.split(b'\n').collect::<Result<Vec<_>, _>>();
        let mut lines = lines.with_context(cannot)?;
        if about.len() > MOST_BYTES {
            // It may go on behind what was read.
            lines.pop();
        }
        lines.truncate(MOST);
        ensure!(
            lines.iter().any(|line| !line.is_empty()),
            "{name} has no whole line in its first {} MiB, or only empty ones; give a log",
            MOST_BYTES >> 20
        );
        Ok(Self { name, lines })
    }

    pub(crate) fn made_up() -> Vec<Self> {
        vec![
            Self::make("access log of a web server", access),
            Self::log(),
            Self::make("syslog", syslog),
        ]
    }

    /// What a program logs.
    pub(crate) fn log() -> Self {
        Self::make("application log in JSON", application)
    }

    fn make(name: &str, line: Line) -> Self {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let lines = (0..MADE).map(|n| line(&mut dice, n).into_bytes());
        Self {
            name: name.to_owned(),
            lines: lines.collect(),
        }
    }

    pub(crate) fn mean_len(&self) -> f64 {
        let bytes: usize = self.lines.iter().map(Vec::len).sum();
        bytes as f64 / self.lines.len() as f64
    }
}

fn access(dice: &mut Dice, number: u32) -> String {
    const PATHS: [&str; 12] = [
        "/",
        "/cart",
        "/checkout",
        "/api/v1/items",
        "/api/v1/stock",
        "/search",
        "/static/app.js",
        "/static/site.css",
        "/img/logo.svg",
        "/login",
        "/health",
        "/favicon.ico",
    ];
    const AGENTS: [&str; 6] = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "kube-probe/1.33",
    ];
    const REFERERS: [&str; 4] = [
        "-",
        "https://shop.example/",
        "https://shop.example/search",
        "https://www.google.com/",
    ];
    let (path, item) = (dice.popular(&PATHS), dice.below(40_000));
    let path = match path {
        "/api/v1/items" | "/img/logo.svg" => format!("{path}/{item}"),
        "/search" => format!("{path}?q={}&page={}", dice.below(900), dice.below(5)),
        _ => path.to_owned(),
    };
    let status = dice.popular(&["200", "200", "200", "304", "302", "404", "500"]);
    format!(
        "{} - - [23/Nov/2026:{} +0000] \"{} {path} HTTP/1.1\" {status} {} \"{}\" \"{}\" {:.3}",
        dice.address(),
        Clock(number),
        dice.popular(&["GET", "GET", "GET", "POST", "HEAD"]),
        dice.below(60_000),
        dice.popular(&REFERERS),
        dice.popular(&AGENTS),
        f64::from(dice.below(900)) / 1e3,
    )
}

fn application(dice: &mut Dice, number: u32) -> String {
    const MESSAGES: [(&str, &str); 7] = [
        ("shop.cart.CartService", "item added to cart"),
        ("shop.http.RequestLog", "request completed"),
        ("shop.db.Pool", "connection acquired"),
        ("shop.pricing.PriceCache", "cache miss, loading price"),
        ("shop.payment.Gateway", "authorisation accepted"),
        ("shop.stock.Reservations", "reservation extended"),
        ("shop.mail.Outbox", "message queued for delivery"),
    ];
    let (logger, message) = dice.popular(&MESSAGES);
    format!(
        "{{\"ts\":\"2026-11-23T{}.{:03}Z\",\"level\":\"{}\",\"logger\":\"{logger}\",\"thread\":\"worker-{}\",\
         \"trace\":\"{:016x}\",\"user\":{},\"item\":{},\"took_ms\":{},\"msg\":\"{message}\"}}",
        Clock(number),
        number % 1000,
        dice.popular(&["INFO", "INFO", "DEBUG", "WARN", "ERROR"]),
        dice.below(16),
        dice.next(),
        100_000 + dice.below(80_000),
        dice.below(40_000),
        dice.below(400),
    )
}

fn syslog(dice: &mut Dice, number: u32) -> String {
    let (pid, port) = (1_000 + dice.below(4_000), 32_768 + dice.below(28_000));
    let what = match dice.below(10) {
        0..=2 => format!(
            "sshd[{pid}]: Failed password for invalid user admin from {} port {port} ssh2",
            dice.address()
        ),
        3..=4 => format!(
            "sshd[{pid}]: Connection closed by {} port {port} [preauth]",
            dice.address()
        ),
        5 => format!(
            "sshd[{pid}]: Accepted publickey for deploy from 10.0.3.{} port {port} ssh2",
            dice.below(255)
        ),
        6..=7 => format!("CRON[{pid}]: (root) CMD (/usr/lib/sysstat/debian-sa1 1 1)"),
        8 => format!(
            "systemd[1]: Started Session {} of user deploy.",
            dice.below(90_000)
        ),
        _ => format!(
            "kernel: [{}.{:06}] [UFW BLOCK] IN=eth0 OUT= SRC={} DST=10.0.3.17 LEN=40 TTL={} PROTO=TCP SPT={port} DPT={}",
            500_000 + number / 10,
            dice.below(1_000_000),
            dice.address(),
            40 + dice.below(20),
            dice.below(10_000)
        ),
    };
    format!("Nov 23 {} web-{} {what}", Clock(number), dice.below(4))
}

/// `10:00:00`, a thousand lines a second from there on.
struct Clock(u32);

impl std::fmt::Display for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0 / 1000;
        write!(
            f,
            "{:02}:{:02}:{:02}",
            10 + seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}

/// xorshift64: the same on each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u32) -> u32 {
        (((self.next() >> 32) * u64::from(end)) >> 32) as u32
    }

    /// The first comes most often.
    fn popular<T: Copy>(&mut self, of: &[T]) -> T {
        let end = of.len() as u32;
        of[self.below(end).min(self.below(end)) as usize]
    }

    /// One of many visitors.
    fn address(&mut self) -> String {
        let mut visitor = Self(u64::from(self.below(20_000).min(self.below(20_000))) << 8 | 0x51ed);
        let mut text = String::new();
        for i in 0..4 {
            let dot = if i > 0 { "." } else { "" };
            write!(text, "{dot}{}", 1 + visitor.below(254)).expect("a String takes every write");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn of_a_users_file_whole_lines_are_taken_and_no_more_than_tells_anything() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let refused = |path: &Path| format!("{:#}", Sample::of(path).err().unwrap());
        assert!(refused(file.path()).contains("only empty ones"));
        file.write_all(b"one\n\nlast").unwrap();
        assert_eq!(
            Sample::of(file.path()).unwrap().lines,
            [&b"one"[..], b"", b"last"]
        );
        // One of it is longer than is read.
        file.as_file().set_len(MOST_BYTES + 1).unwrap();
        assert_eq!(Sample::of(file.path()).unwrap().lines, [&b"one"[..], b""]);
        for no_file in ["/dev/zero", "/tmp", "/nowhere"] {
            let why = refused(Path::new(no_file));
            assert!(why.contains(no_file), "{why}");
        }
    }

    #[test]
    fn what_is_made_up_is_the_same_each_time_and_no_line_is_empty() {
        for (one, other) in Sample::made_up().iter().zip(Sample::made_up()) {
            assert_eq!(one.lines, other.lines);
            assert!(
                one.lines
                    .iter()
                    .all(|line| line.len() > 40 && !line.contains(&b'\n'))
            );
        }
    }
}
