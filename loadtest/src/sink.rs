//! The sink: the null stand-in in a process of its own, which counts what arrives and keeps nothing; or the whole
//! one, which keeps what it takes with its time, to be read back.
//!
//! HTTP/1.1 only, as the agent speaks it to the service. It says where it listens on its first line, answers
//! each question on its standard input with a line, and ends when that is closed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use hdrhistogram::Histogram;
use kinseal::consume::UserRecord;
use kinseal::fake::{Action, Entries, Fake, Faults, Limits, Rule, Service};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::curve::{Curve, Log};
use crate::lines::{self, Due};
use crate::other::Other;
use crate::reader::{self, Check};
use crate::scenario::Case;
use crate::target::Place;
use crate::{out, process};

const STREAM: &str = "loadtest";

/// The name of the `n`th stream beside this one, from itself on.
pub(crate) fn nth(stream: &str, n: usize) -> String {
    match n {
        0 => stream.to_owned(),
        n => format!("{stream}-{n}"),
    }
}
const KEY: &str = "alias/loadtest";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Listen with TLS, and write the certificate authority here
    #[arg(long)]
    ca: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    shards: usize,
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Keep records, to be read back
    #[arg(long)]
    keep: bool,
    /// Refuse this percentage of them
    #[arg(long, requires = "keep")]
    failing: Option<u32>,
    /// Have shards take what they take at AWS
    #[arg(long, requires = "keep")]
    shard_limits: bool,
    /// Milliseconds until PutRecords is answered
    #[arg(long, default_value_t = 0)]
    sink_ms: u64,
    /// Milliseconds until KMS answers
    #[arg(long, default_value_t = 0)]
    kms_ms: u64,
}

/// What has arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Arrived {
    /// Kinesis records: aggregates, where there are any.
    pub(crate) entries: u64,
    pub(crate) put_records_calls: u64,
    pub(crate) kms_calls: u64,
    /// Data and partition keys of entries.
    #[serde(default)]
    pub(crate) bytes_stored: u64,
    /// Of request bodies.
    pub(crate) body_bytes: u64,
    pub(crate) cpu_seconds: f64,
}

/// What the sink is asked, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    Arrived,
    /// How long after they were due have lines arrived? Only where records are kept.
    Latencies {
        due: Due,
        hdr_log: Option<PathBuf>,
    },
}

/// All of a run, on as few shards as one: more than [`Case::kept_bytes`] may come to.
const KEPT: usize = 8 << 30;
/// What a scenario's run may come to.
pub(crate) const MOST_KEPT: u64 = 4 << 30;

#[tokio::main]
pub(crate) async fn serve(args: &Args) -> anyhow::Result<()> {
    let builder = Fake::builder().http2(false).null(!args.keep);
    let limits = Limits {
        ring_bytes: KEPT,
        write_quota: args.shard_limits,
        ..Limits::default()
    };
    let builder = builder.limits(limits).faults(args.faults());
    let fake = builder.tls(args.ca.is_some()).start().await?;
    if let (Some(path), Some(pem)) = (&args.ca, fake.ca_pem()) {
        std::fs::write(path, pem).with_context(|| format!("cannot write {}", path.display()))?;
    }
    for n in 0..args.streams {
        fake.create_stream(&nth(STREAM, n), args.shards)?;
    }
    fake.create_alias(KEY, &fake.create_key())?;
    let place = Place {
        stream: STREAM.to_owned(),
        kms_key: Some(KEY.to_owned()),
        kinesis_url: Some(fake.kinesis_url()),
        kms_url: Some(fake.kms_url()),
        is_stand_in: true,
    };
    out::json(&place)?;
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        for line in io::stdin().lines() {
            match serde_json::from_str(&line?)? {
                Question::Arrived => out::json(&arrived(&fake)?)?,
                Question::Latencies { due, hdr_log } => {
                    let seconds = runtime.block_on(latencies(&fake, &place, due))?;
                    if let Some(path) = hdr_log {
                        Log::add_seconds(&path, DUE_TO_ARRIVED, due.start, &seconds)?;
                    }
                    out::json(&curve(&seconds)?)?;
                }
            }
        }
        Ok(())
    })
    .await?
}

impl Args {
    fn faults(&self) -> Faults {
        let mut faults = Faults::seeded(5);
        if let Some(percent) = self.failing {
            let entries = Entries::Percent(f64::from(percent));
            faults = faults.rule(Rule::new(Action::Throttle(entries)).on("PutRecords"));
        }
        let latency = |ms| Rule::new(Action::Latency(Duration::from_millis(ms)));
        if self.sink_ms > 0 {
            faults = faults.rule(latency(self.sink_ms).on("PutRecords"));
        }
        if self.kms_ms > 0 {
            faults = faults.rule(latency(self.kms_ms).service(Service::Kms));
        }
        faults
    }
}

fn arrived(fake: &Fake) -> anyhow::Result<Arrived> {
    let counters = fake.counters();
    Ok(Arrived {
        entries: counters.records_stored,
        put_records_calls: counters.put_records_calls(),
        kms_calls: counters.kms_calls_total(),
        bytes_stored: counters.bytes_stored,
        body_bytes: counters.body_bytes,
        cpu_seconds: process::cpu()?.as_secs_f64(),
    })
}

/// In microseconds.
const HOUR: u64 = 3_600_000_000;

/// Of every line, opened where it was sealed: from when it was due to when its request had arrived. A histogram for each second
/// of lines that were due.
async fn latencies(fake: &Fake, place: &Place, due: Due) -> anyhow::Result<Vec<Histogram<u64>>> {
    let arrivals = fake.records(STREAM)?.into_iter();
    let waits = Waits {
        due,
        arrivals: arrivals
            .map(|record| (record.sequence, record.arrival))
            .collect(),
        seconds: Vec::new(),
        unknown: 0,
    };
    let (_, waits) = reader::read(place, false, waits).await?;
    let unknown = waits.unknown;
    anyhow::ensure!(unknown == 0, "{unknown} records are no lines of this run");
    Ok(waits.seconds)
}

/// How long each line has waited.
struct Waits {
    due: Due,
    /// Of Kinesis records, by their sequence numbers.
    arrivals: HashMap<String, SystemTime>,
    seconds: Vec<Histogram<u64>>,
    unknown: u64,
}

impl Check for Waits {
    fn record(&mut self, record: &UserRecord) {
        let arrival = self.arrivals.get(&*record.place.sequence);
        let (Some(number), Some(arrival)) = (lines::number_of(&record.data), arrival) else {
            self.unknown += 1;
            return;
        };
        let waited = arrival.duration_since(self.due.at(number));
        let micros = u64::try_from(waited.unwrap_or_default().as_micros()).unwrap_or(u64::MAX);
        let second = (number / self.due.per_second) as usize;
        while self.seconds.len() <= second {
            let empty = Histogram::new(3).expect("three digits are allowed");
            self.seconds.push(empty);
        }
        self.seconds[second]
            .record(micros.clamp(1, HOUR))
            .expect("it grows to an hour");
    }
}

const DUE_TO_ARRIVED: &str = "due to arrived";

fn curve(seconds: &[Histogram<u64>]) -> anyhow::Result<Curve> {
    let mut all = Histogram::new(3)?;
    for second in seconds {
        all.add(second)?;
    }
    Ok(Curve::of(DUE_TO_ARRIVED, &all))
}

/// The other side: a sink that is running. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Sink(Other);

/// Without any use of a processor: it answers at once, or reads back what it has kept.
const PATIENCE: Duration = Duration::from_secs(20);

impl Sink {
    pub(crate) fn start(
        case: &Case,
        keep: bool,
        ca: Option<&Path>,
    ) -> anyhow::Result<(Place, Self)> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["sink", "--shards", &case.shards.to_string()])
            .args(["--streams", &case.streams.to_string()])
            .args(["--sink-ms", &case.sink_ms.to_string()])
            .args(["--kms-ms", &case.kms_ms.to_string()]);
        if keep {
            command.arg("--keep");
        }
        if case.shard_limits {
            command.arg("--shard-limits");
        }
        if let Some(percent) = case.failing {
            command.args(["--failing", &percent.to_string()]);
        }
        if let Some(ca) = ca {
            command.arg("--ca").arg(ca);
        }
        trust(&mut command, ca);
        let mut process = Other::start(&mut command, "the sink")?;
        Ok((process.hear(PATIENCE, || Ok(()))?, Self(process)))
    }

    /// Whether it still runs.
    pub(crate) fn look(&mut self) -> anyhow::Result<()> {
        self.0.look()
    }

    pub(crate) fn arrived(&mut self) -> anyhow::Result<Arrived> {
        self.answer(&Question::Arrived)
    }

    /// By when each line was due. They go to the log too, if there is one.
    pub(crate) fn latencies(&mut self, due: Due, hdr_log: Option<&Path>) -> anyhow::Result<Curve> {
        let hdr_log = hdr_log.map(Path::to_owned);
        self.answer(&Question::Latencies { due, hdr_log })
    }

    fn answer<T: DeserializeOwned>(&mut self, question: &Question) -> anyhow::Result<T> {
        self.0.tell(question)?;
        self.0.hear(PATIENCE, || Ok(()))
    }
}

/// Has a process that calls the sink trust it, and nobody else's keys, nor what else AWS's tools and kinseal are told by the
/// environment.
pub(crate) fn trust(command: &mut Command, ca: Option<&Path>) {
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("AWS_") || shown.starts_with("KINSEAL_CONFIG") {
            command.env_remove(&name);
        }
    }
    command
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_ACCESS_KEY_ID", kinseal::fake::DEFAULT_CREDENTIAL)
        .env("AWS_SECRET_ACCESS_KEY", kinseal::fake::DEFAULT_CREDENTIAL);
    if let Some(ca) = ca {
        command.env("AWS_CA_BUNDLE", ca);
    }
}
