//! What a call costs the process that makes it, TLS and kernel included: PutRecords over loopback to the null stand-in, by
//! kinseal in either protocol, and by the SDK's own path. Beside them the floor of the JSON protocol: base64, and SHA-256
//! of it for the signature, without sending anything.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use kinseal::aggregate::reducer::{Reducer, Routes};
use kinseal::batch::{Batch, Limits};
use kinseal::delivery::{MemoryBudget, SpanSettled, Ticket};
use kinseal::record::{PartitionKey, RecordKey, StreamName};
use kinseal::seal;
use kinseal::seal::offload::{Sealing, seal_chunk};
use kinseal::send::kinesis::Kinesis;
use kinseal::send::{CallOutcome, Protocol, PutRecords};
use kinseal::source::{Accepted, Chunk};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::cleanup::Folder;
use crate::other::{Other, PATIENCE};
use crate::scenario::Scenario;
use crate::sink::Sink;
use crate::target::Place;
use crate::{out, process, reader};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON; the other side of this command
    #[arg(long, hide = true)]
    place: Option<String>,
}

/// Entries, and bytes of each.
const SHAPES: [(usize, usize); 3] = [(500, 1 << 10), (100, 50 << 10), (10, 500_000)];
/// Of payload, in each round.
const BYTES: usize = 300_000_000;
/// Of all ways in turn, so that what the machine does besides hits each. Their medians are told.
const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Kinseal(Protocol),
    Sdk,
    /// Sends nothing.
    Floor,
}

const WAYS: [Way; 4] = [
    Way::Kinseal(Protocol::Json),
    Way::Kinseal(Protocol::Cbor),
    Way::Sdk,
    Way::Floor,
];

/// Megabytes of payload for each CPU second, by way.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    entries: usize,
    bytes: usize,
    rates: Vec<f64>,
}

/// In Markdown.
pub(crate) fn print(args: &Args) -> anyhow::Result<()> {
    if let Some(place) = &args.place {
        return work(&serde_json::from_str(place)?);
    }
    out::warn_of_a_debug_build()?;
    let folder = Folder::make()?;
    let ca = folder.path().join("ca.pem");
    // A stand-in of one shard over TLS.
    let case = Scenario::smoke().cases(None).remove(0);
    let (place, _sink) = Sink::start(&case, false, Some(&ca))?;
    let rows = measured_aside(&place, &ca)?;
    out::line("Megabytes of payload for each CPU second of the sender, over TLS\n")?;
    out::line("| entries | kinseal, JSON | kinseal, CBOR | the SDK | base64 and SHA-256 alone |")?;
    out::line("|---|--:|--:|--:|--:|")?;
    for row in rows {
        let rates: Vec<_> = row.rates.iter().map(|mb| format!("{mb:.0}")).collect();
        let (entries, bytes) = (row.entries, row.bytes);
        out::line(format!(
            "| {entries} of {bytes} B | {} |",
            rates.join(" | ")
        ))?;
    }
    Ok(())
}

/// In a process of its own, whose CPU is that of sending alone.
fn measured_aside(place: &Place, ca: &Path) -> anyhow::Result<Vec<Row>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sender", "--place", &serde_json::to_string(place)?]);
    place.admit(&mut command, Some(ca));
    Other::start(&mut command, "the sender")?.answer(PATIENCE)
}

#[tokio::main(flavor = "current_thread")]
async fn work(place: &Place) -> anyhow::Result<()> {
    process::end_with_parent();
    let client = reader::clients(place).await?.kinesis;
    let stream = StreamName::new(&place.stream)?;
    let mut rows = Vec::new();
    for (entries, bytes) in SHAPES {
        let batch = batch(entries, bytes);
        let calls = BYTES.div_ceil(entries * bytes);
        let mut rates = vec![Vec::new(); WAYS.len()];
        // Of the floor: new memory each time would cost it more than to write there.
        let mut text = String::new();
        for _ in 0..ROUNDS {
            for (way, rates) in WAYS.iter().zip(&mut rates) {
                let before = process::cpu()?;
                for _ in 0..calls {
                    way.send(&client, &stream, &batch, &mut text).await?;
                }
                let took = (process::cpu()? - before).max(Duration::from_millis(10));
                rates.push((calls * entries * bytes) as f64 / 1e6 / took.as_secs_f64());
            }
        }
        let median = |mut rates: Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2]
        };
        rows.push(Row {
            entries,
            bytes,
            rates: rates.into_iter().map(median).collect(),
        });
    }
    out::json(&rows)
}

impl Way {
    async fn send(
        self,
        client: &Client,
        stream: &StreamName,
        batch: &Batch,
        text: &mut String,
    ) -> anyhow::Result<()> {
        match self {
            Self::Kinseal(protocol) => {
                let kinesis = Kinesis::new(client.clone()).speaking(protocol);
                let outcome = kinesis.put_records(stream, batch).await;
                let is_answered =
                    matches!(&outcome, CallOutcome::Answered(all) if all.len() == batch.len());
                ensure!(is_answered, "a call failed: {outcome:?}");
            }
            Self::Sdk => {
                let entries = batch.entries().iter().map(|entry| {
                    PutRecordsRequestEntry::builder()
                        .data(Blob::new(entry.data().to_vec()))
                        .partition_key(entry.partition_key().as_str())
                        .build()
                });
                let entries = entries.collect::<Result<Vec<_>, _>>()?;
                let call = client.put_records().set_records(Some(entries));
                call.stream_name(stream.name()).send().await?;
            }
            Self::Floor => {
                text.clear();
                for entry in batch.entries() {
                    base64_simd::STANDARD.encode_append(entry.data(), text);
                }
                std::hint::black_box(Sha256::digest(text.as_bytes()));
            }
        }
        Ok(())
    }
}

fn batch(entries: usize, bytes: usize) -> Batch {
    let memory = MemoryBudget::new(1).try_reserve(1).expect("free");
    let now = Instant::now();
    let count = u32::try_from(entries).expect("hundreds") + 1;
    let mut tickets = Ticket::for_span(count, now, memory, Arc::new(Nobody), 0);
    let records = (0..entries).map(|n| Accepted {
        data: vec![n as u8; bytes].into(),
        key: RecordKey::Keyed(PartitionKey::new(format!("{n:05}")).expect("short")),
        ticket: tickets.take_one(),
    });
    let chunk = Chunk {
        records: records.collect(),
        read_took: Duration::ZERO,
    };
    let plaintext = seal::Settings::off();
    let allowed = plaintext.plaintext_allowed().expect("the scope is off");
    let (mut reducer, mut closed) = (Reducer::new(None, Routes::Unpredictable), Vec::new());
    for record in seal_chunk(chunk, &Sealing::Plain(allowed), now).records {
        reducer.push(record, now, now, &mut closed);
    }
    let mut batch = Batch::new(Limits::default());
    for entry in closed {
        batch.push(entry.into()).expect("within the limits");
    }
    batch
}

/// Nobody waits for these records.
struct Nobody;

impl SpanSettled for Nobody {
    fn settled(&self, _: u64) {}
}
