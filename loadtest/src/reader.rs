//! The reader's half: all that lies in the sink, read back and opened as a consumer does.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kinseal::aws::{self, Clients, Credentials, TimeOuts};
use kinseal::consume::{self, Consumer, KinesisStream, Plaintext, Unpacker, UserRecord};
use kinseal::fake::{DEFAULT_CREDENTIAL, DEFAULT_REGION};
use kinseal::record::StreamName;
use kinseal::seal::EncryptionContext;
use kinseal::seal::kms::KmsUnwrap;
use kinseal::seal::open::Opener;
use kinseal::shutdown;
use serde::{Deserialize, Serialize};

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

/// Reads all that is there; `each` is told every record. Whom to trust is in the environment.
pub(crate) async fn read(
    place: &Place,
    joined: bool,
    mut each: impl FnMut(&UserRecord),
) -> anyhow::Result<Read> {
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
    let (mut seen, mut lines, mut unreadable) = (HashSet::new(), 0, 0);
    while let Some(batch) = consumer.next().await {
        for record in batch.records {
            match record {
                Ok(record) => {
                    each(&record);
                    for line in lines_of(&record.data, joined) {
                        lines += 1;
                        seen.insert(line);
                    }
                }
                Err(_) => unreadable += 1,
            }
        }
    }
    consumer.finish().await?;
    Ok(Read {
        lines,
        copies: lines - seen.len() as u64,
        unreadable,
        kms_calls: opener.counts().calls,
        seconds: began.elapsed().as_secs_f64(),
        cpu_seconds: process::cpu()?.as_secs_f64(),
    })
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
    let read = read(&place, args.joined, |_| {}).await?;
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
