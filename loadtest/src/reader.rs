//! The reader's half: all that lies in the sink, read back and opened as a consumer does.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use kinseal::aws::{self, Clients, Credentials, TimeOuts};
use kinseal::consume::{
    self, ConsumedBatch, Consumer, KinesisStream, Plaintext, Unpacker, UserRecord,
};
use kinseal::fake::{DEFAULT_CREDENTIAL, DEFAULT_REGION};
use kinseal::record::StreamName;
use kinseal::seal::EncryptionContext;
use kinseal::seal::kms::KmsUnwrap;
use kinseal::seal::open::Opener;
use kinseal::shutdown;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::other::{Other, PATIENCE};
use crate::target::Place;
use crate::{out, process};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    place: String,
    /// A record may be several lines, each with its newline
    #[arg(long)]
    joined: bool,
}

/// What reading came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Read {
    pub(crate) lines: u64,
    /// Of those: the same bytes as another.
    pub(crate) copies: u64,
    pub(crate) unreadable: u64,
    /// Of the digests of all lines, whatever their order: who knows what was sent knows whether it is that.
    #[serde(default)]
    pub(crate) sum: u128,
    /// Decrypt.
    pub(crate) kms_calls: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
}

const TIME_OUTS: TimeOuts = TimeOuts {
    connect: Duration::from_secs(6),
    request: Duration::from_secs(60),
};

/// Of a stand-in, or of what the environment says.
pub(crate) async fn clients(place: &Place) -> anyhow::Result<Clients> {
    let own = Credentials::new(DEFAULT_CREDENTIAL, DEFAULT_CREDENTIAL);
    let settings = aws::Settings {
        region: place.is_stand_in.then(|| DEFAULT_REGION.to_owned()),
        kinesis_endpoint_url: place.kinesis_url.clone(),
        kms_endpoint_url: place.kms_url.clone(),
        credentials: place.is_stand_in.then_some(own),
        ..aws::Settings::default()
    };
    Ok(aws::clients(&settings, TIME_OUTS).await?)
}

/// What is looked at in each record, beside reading: on a thread of its own, whose CPU time is not the reader's.
pub(crate) trait Check: Send + 'static {
    fn record(&mut self, record: &UserRecord);
}

/// The name of that thread.
const CHECKER: &str = "check";
/// Batches on their way there.
const AHEAD: usize = 8;

/// Reads all that is there, and looks at it. Whom to trust is in the environment.
pub(crate) async fn read<C: Check>(
    place: &Place,
    joined: bool,
    check: C,
) -> anyhow::Result<(Read, C)> {
    let began = Instant::now();
    let clients = clients(place).await?;
    let kms = KmsUnwrap::new(clients.kms, &place.kms_key);
    let opener = Opener::new(
        vec![Arc::new(kms)],
        EncryptionContext::new(),
        kinseal::seal::open::OpenSettings::default(),
    )?;
    let threads = std::thread::available_parallelism()?.get();
    let unpacker = Unpacker::opening(Arc::new(opener), Plaintext::Allowed, threads)?;
    let opener = Arc::clone(unpacker.opener().expect("given just now"));
    let stream = KinesisStream::new(clients.kinesis, StreamName::new(&place.stream)?);
    let (_stop, shutdown) = shutdown::channel();
    let reading = consume::Settings {
        until_empty: true,
        idle: Duration::from_millis(1),
        ..consume::Settings::default()
    };
    let mut consumer = Consumer::start(Arc::new(stream), unpacker, reading, shutdown);
    let (read, checking) = mpsc::channel::<ConsumedBatch>(AHEAD);
    let (checked, mut done) = mpsc::unbounded_channel();
    let looking = thread::Builder::new().name(CHECKER.to_owned());
    let looking = looking.spawn(move || look(check, joined, checking, &checked))?;
    while let Some(batch) = consumer.next().await {
        if read.send(batch).await.is_err() {
            break;
        }
        // To be rid of what was read is a reader's own work.
        while let Ok(batch) = done.try_recv() {
            drop(batch);
        }
    }
    consumer.finish().await?;
    // As long as it lives, which is until it has no more to wait for.
    let cpu = process::cpu()?.saturating_sub(process::cpu_of(CHECKER)?);
    let seconds = began.elapsed().as_secs_f64();
    drop((read, done));
    let (seen, check) = tokio::task::spawn_blocking(|| looking.join())
        .await?
        .map_err(|_| anyhow!("what looks at records panicked"))?;
    let read = Read {
        lines: seen.lines,
        copies: seen.lines - seen.digests.len() as u64,
        unreadable: seen.unreadable,
        sum: seen.sum,
        kms_calls: opener.counts().calls,
        seconds,
        cpu_seconds: cpu.as_secs_f64(),
    };
    Ok((read, check))
}

/// Lines that came.
#[derive(Default)]
struct Seen {
    lines: u64,
    unreadable: u64,
    digests: HashSet<u128>,
    sum: u128,
}

/// The beginning of its SHA-256: no two lines will ever be alike by chance.
pub(crate) fn digest(line: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(line).into();
    u128::from_be_bytes(*digest.first_chunk().expect("16 of 32"))
}

/// Until no more come; `done` has each batch back.
fn look<C: Check>(
    mut check: C,
    joined: bool,
    mut batches: mpsc::Receiver<ConsumedBatch>,
    done: &mpsc::UnboundedSender<ConsumedBatch>,
) -> (Seen, C) {
    let mut seen = Seen::default();
    while let Some(batch) = batches.blocking_recv() {
        for record in &batch.records {
            let Ok(record) = record else {
                seen.unreadable += 1;
                continue;
            };
            check.record(record);
            for line in lines_of(&record.data, joined) {
                seen.lines += 1;
                let digest = digest(&line);
                seen.sum = seen.sum.wrapping_add(digest);
                seen.digests.insert(digest);
            }
        }
        // Nobody waits for it at the end.
        let _ = done.send(batch);
    }
    (seen, check)
}

/// Nothing more than that they are there.
struct Nothing;

impl Check for Nothing {
    fn record(&mut self, _: &UserRecord) {}
}

fn lines_of(data: &Bytes, joined: bool) -> Vec<Bytes> {
    match joined {
        false => vec![data.clone()],
        true => {
            let lines = data
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty());
            lines.map(|line| data.slice_ref(line)).collect()
        }
    }
}

#[tokio::main]
pub(crate) async fn work(args: &Args) -> anyhow::Result<()> {
    process::end_with_parent();
    let place: Place = serde_json::from_str(&args.place)?;
    let (read, Nothing) = read(&place, args.joined, Nothing).await?;
    out::json(&read)
}

/// The other side: runs a reader to its end. `ca` is what it is to trust.
pub(crate) fn run(place: &Place, ca: Option<&Path>, joined: bool) -> anyhow::Result<Read> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["reader", "--place", &serde_json::to_string(place)?]);
    if joined {
        command.arg("--joined");
    }
    place.admit(&mut command, ca);
    Other::start(&mut command, "the reader")?.answer(PATIENCE)
}
