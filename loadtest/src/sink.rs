//! The sink: the null stand-in in a process of its own, which counts what arrives and keeps nothing.
//!
//! HTTP/1.1 only, as the agent speaks it to the service. It says where it listens on its first line, answers
//! each line on its standard input with its counts, and ends when that is closed.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::Context;
use kinseal::fake::Fake;
use serde::{Deserialize, Serialize};

use crate::process;

pub(crate) const STREAM: &str = "loadtest";
pub(crate) const KEY: &str = "alias/loadtest";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen with TLS, and write the certificate authority here
    #[arg(long)]
    ca: Option<PathBuf>,
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
    pub(crate) cpu_seconds: f64,
}

#[tokio::main]
pub(crate) async fn serve(args: &Args) -> anyhow::Result<()> {
    let builder = Fake::builder().null(true).http2(false);
    let fake = builder.tls(args.ca.is_some()).start().await?;
    if let (Some(path), Some(pem)) = (&args.ca, fake.ca_pem()) {
        std::fs::write(path, pem).with_context(|| format!("cannot write {}", path.display()))?;
    }
    // The null stand-in answers for its first shard, whatever the key: with a second one, an agent would
    // take half of its aggregates for misplaced, and rightly send them again.
    fake.create_stream(STREAM, 1)?;
    fake.create_alias(KEY, &fake.create_key())?;
    say(&Place {
        kinesis_url: fake.kinesis_url(),
        kms_url: fake.kms_url(),
    })?;
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lines() {
            line?;
            let counters = fake.counters();
            say(&Arrived {
                entries: counters.records_stored,
                put_records_calls: counters.put_records_calls(),
                kms_calls: counters.kms_calls_total(),
                body_bytes: counters.body_bytes,
                cpu_seconds: process::cpu()?.as_secs_f64(),
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
    pub(crate) fn start(ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sink");
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
