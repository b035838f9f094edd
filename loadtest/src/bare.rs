//! No agent: a loop that writes each line to a file when it is due, and sends it at once by a call of its own, through the
//! SDK. What is above it is what an agent adds; it is no match for one, and takes some hundred lines a second.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use anyhow::{Context, ensure};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

use kinseal::record::StreamName;

use crate::agent::{Counts, Work};
use crate::lines::{Due, Lines};
use crate::other::{Other, PATIENCE};
use crate::scenario::Case;
use crate::target::Place;
use crate::{out, process, reader};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// As JSON
    #[arg(long)]
    place: String,
    /// The case, as JSON
    #[arg(long)]
    case: String,
    /// When the first line is due, in nanoseconds since 1970
    #[arg(long)]
    start_nanos: u64,
    #[arg(long)]
    per_second: u64,
    /// Where lines are written
    #[arg(long)]
    log: PathBuf,
}

#[tokio::main]
pub(crate) async fn work(args: &Args) -> anyhow::Result<()> {
    process::end_with_parent();
    let case: Case = serde_json::from_str(&args.case)?;
    let due = Due {
        start: SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(args.start_nanos),
        per_second: args.per_second,
    };
    let place: Place = serde_json::from_str(&args.place)?;
    let stream = StreamName::new(&place.stream)?;
    let stream = stream.name();
    let client = reader::clients(&place).await?.kinesis;
    // A connection, before the first line is due.
    client.list_shards().stream_name(stream).send().await?;
    let began = Instant::now();
    let mut lines = Lines::of(&case)?;
    let mut file = std::fs::File::create(&args.log)?;
    let (mut line, mut bytes) = (Vec::new(), 0);
    for number in 0..case.lines {
        let wait = due.at(number).duration_since(SystemTime::now());
        if let Ok(wait) = wait {
            // The runtime's own is rounded up to a millisecond.
            std::thread::sleep(wait);
        }
        line.clear();
        lines.append(number, &mut line);
        let written = file.write_all(&line);
        written.with_context(|| {
            let log = args.log.display();
            format!("cannot write the lines to {log}; TMPDIR names another place")
        })?;
        line.pop();
        bytes += line.len() as u64 + 1;
        let entry = PutRecordsRequestEntry::builder()
            .data(Blob::new(&line[..]))
            .partition_key("k")
            .build()?;
        let call = client.put_records().stream_name(stream).records(entry);
        let answer = call.send().await?;
        ensure!(
            answer.failed_record_count() == Some(0),
            "the sink refused a line"
        );
    }
    out::json(&Work {
        cpu_by_thread: process::cpu_by_thread()?,
        ..Work::of_another(
            began.elapsed().as_secs_f64(),
            process::cpu()?.as_secs_f64(),
            process::memory()?.peak,
            Counts::of_single_lines(case.lines, bytes),
        )
    })
}

/// The other side: runs it to its end.
pub(crate) fn run(
    case: &Case,
    place: &Place,
    due: Due,
    log: &Path,
    ca: Option<&Path>,
) -> anyhow::Result<Work> {
    let start = due.start.duration_since(SystemTime::UNIX_EPOCH)?;
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["bare", "--place", &serde_json::to_string(place)?])
        .args(["--case", &serde_json::to_string(case)?])
        .args(["--start-nanos", &start.as_nanos().to_string()])
        .args(["--per-second", &due.per_second.to_string(), "--log"])
        .arg(log);
    place.admit(&mut command, ca);
    Other::start(&mut command, "the bare loop")?.answer(PATIENCE)
}
