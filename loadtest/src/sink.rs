//! The sink: the null stand-in in a process of its own, which counts what arrives and keeps nothing; or the whole
//! one, where entries are to fail, which keeps what it takes so that each line can be counted.
//!
//! HTTP/1.1 only, as the agent speaks it to the service. It says where it listens on its first line, answers
//! each line on its standard input with its counts, and ends when that is closed.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use kinseal::aggregate::format::deaggregate;
use kinseal::fake::{Action, Entries, Fake, Faults, Limits, Rule};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::scenario::Case;

pub(crate) const STREAM: &str = "loadtest";
pub(crate) const KEY: &str = "alias/loadtest";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen with TLS, and write the certificate authority here
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Keep records, and refuse this percentage of them
    #[arg(long)]
    failing: Option<u32>,
}

/// Where the sink listens.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) kinesis_url: String,
    pub(crate) kms_url: String,
}

/// What has arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arrived {
    /// Kinesis records: aggregates, where there are any.
    pub(crate) entries: u64,
    pub(crate) put_records_calls: u64,
    pub(crate) kms_calls: u64,
    /// Of request bodies.
    pub(crate) body_bytes: u64,
    /// Where records are kept.
    pub(crate) lines: Option<Lines>,
    pub(crate) cpu_seconds: f64,
}

/// User records that can be read back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Lines {
    pub(crate) different: u64,
    /// Beyond the first of each.
    pub(crate) copies: u64,
}

impl Lines {
    fn kept_by(fake: &Fake) -> anyhow::Result<Self> {
        let mut seen = HashSet::new();
        let mut copies = 0;
        for record in fake.records(STREAM)? {
            let data = record.data;
            let members = deaggregate(&data).map(|m| m.into_iter().map(|m| m.data).collect());
            for line in members.unwrap_or_else(|| vec![data]) {
                copies += u64::from(!seen.insert(line));
            }
        }
        Ok(Self {
            different: seen.len() as u64,
            copies,
        })
    }
}

/// All of a run, on as few shards as one.
const KEPT: usize = 1 << 30;

#[tokio::main]
pub(crate) async fn serve(args: &Args) -> anyhow::Result<()> {
    let mut builder = Fake::builder().http2(false);
    builder = match args.failing {
        None => builder.null(true),
        Some(percent) => {
            let entries = Entries::Percent(f64::from(percent));
            let rule = Rule::new(Action::Throttle(entries)).on("PutRecords");
            let limits = Limits {
                ring_bytes: KEPT,
                ..Limits::default()
            };
            builder.limits(limits).faults(Faults::seeded(5).rule(rule))
        }
    };
    let fake = builder.tls(args.ca.is_some()).start().await?;
    if let (Some(path), Some(pem)) = (&args.ca, fake.ca_pem()) {
        std::fs::write(path, pem).with_context(|| format!("cannot write {}", path.display()))?;
    }
    fake.create_stream(STREAM, args.shards)?;
    fake.create_alias(KEY, &fake.create_key())?;
    say(&Place {
        kinesis_url: fake.kinesis_url(),
        kms_url: fake.kms_url(),
    })?;
    let keeps = args.failing.is_some();
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lines() {
            line?;
            let counters = fake.counters();
            say(&Arrived {
                entries: counters.records_stored,
                put_records_calls: counters.put_records_calls(),
                kms_calls: counters.kms_calls_total(),
                body_bytes: counters.body_bytes,
                // Before the lines are counted, which is not the sink's work.
                cpu_seconds: process::cpu()?.as_secs_f64(),
                lines: keeps.then(|| Lines::kept_by(&fake)).transpose()?,
            })?;
        }
        Ok(())
    })
    .await?
}

/// One line of JSON on standard output.
fn say(what: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// The other side: a sink that is running. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) place: Place,
    process: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Sink {
    pub(crate) fn start(case: &Case, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", "--shards", &case.shards.to_string()]);
        if let Some(percent) = case.failing {
            command.args(["--failing", &percent.to_string()]);
        }
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the sink")?;
        let ask = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("piped"));
        let place = hear(&mut answers)?;
        Ok(Self {
            place,
            process,
            ask,
            answers,
        })
    }

    pub(crate) fn arrived(&mut self) -> anyhow::Result<Arrived> {
        let ask = self.ask.as_mut().expect("open until dropped");
        ask.write_all(b"\n").context("the sink is gone")?;
        hear(&mut self.answers)
    }
}

fn hear<T: for<'de> Deserialize<'de>>(answers: &mut impl BufRead) -> anyhow::Result<T> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    serde_json::from_str(&line).context("the sink ended without an answer")
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.ask = None;
        let _ = self.process.wait();
    }
}
