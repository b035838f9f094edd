//! `kinseal consume`: a stream → lines.

mod fan_out;
mod from;
mod print;
mod request;
mod sink;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use self::fan_out::FanOut;
use self::print::{Ended, Printing};
use self::sink::Sink;
use super::connection::{self, ConnectionArgs};
use super::files;
use super::hardening::CoreDumpArgs;
use super::limits::LimitArgs;
use crate::aws::{self, TimeOuts};
use crate::config;
use crate::consume::checkpoint::Checkpoint;
use crate::consume::output::Printer;
use crate::consume::{Consumer, KinesisStream, Unpacker};
use crate::metrics::report::{Count, KeyCache, Short};
use crate::record::StreamName;
use crate::seal::open::Opener;
use crate::shutdown;

/// Read a stream back: de-aggregate, decrypt, print one line a record
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConsumeArgs {
    /// The stream to read, by name or ARN
    #[arg(long, value_name = "STREAM", value_parser = connection::stream)]
    pub stream: StreamName,
    /// Take keys, context and [aws] from the agent's configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A KMS key that may open records: id, ARN or alias (repeatable)
    #[arg(long, value_name = "KEY", value_parser = connection::kms_key)]
    pub kms_key: Vec<String>,
    /// A file with a raw AES key that may open records (repeatable)
    #[arg(long, value_name = "FILE")]
    pub wrapping_key: Vec<PathBuf>,
    /// Refuse records that are not bound to this pair (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::context_pair)]
    pub context: Vec<(String, String)>,
    /// Instead of naming keys: accept any KMS key that a record names and these credentials may use. Who writes to
    /// the stream decides then what is trusted
    #[arg(long, conflicts_with_all = ["kms_key", "raw"])]
    pub discover: bool,
    /// Where to start: trim-horizon (the oldest record that is still there), latest (what is stored from now on),
    /// at-timestamp TIME (like 2026-11-30T12:00:00Z, or 15m for so long ago), or after-sequence NUMBER of one --shard
    /// [default: trim-horizon]
    #[arg(long, value_names = ["WHERE", "VALUE"], num_args = 1..=2)]
    pub from: Vec<String>,
    /// Read this shard only, and not what it becomes (repeatable)
    #[arg(long, value_name = "SHARD")]
    pub shard: Vec<String>,
    /// Read by enhanced fan-out, as the consumer of this name: 2 MiB a second of each shard for it alone, pushed as they
    /// come. It is registered where it is not, and stays registered, which costs money by the hour and shard;
    /// `aws kinesis deregister-stream-consumer` or --deregister ends that
    #[arg(long, value_name = "NAME", value_parser = fan_out::consumer_name)]
    pub fan_out: Option<String>,
    /// Deregister the consumer of --fan-out at the end
    #[arg(long, requires = "fan_out")]
    pub deregister: bool,
    /// End after so many records; with --checkpoint at the end of the aggregate that the last of them is in
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Keep here how far the stream is read, and go on there
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// With keys: let records pass that are not encrypted
    #[arg(long, conflicts_with = "raw")]
    pub allow_plaintext: bool,
    /// Leave out aggregates with a record that does not belong on its shard, whole, as the KCL does
    #[arg(long, conflicts_with = "raw")]
    pub kcl_filter: bool,
    /// End when all there is has been read
    #[arg(long)]
    pub until_empty: bool,
    /// Go on when all there is has been read, as without --until-empty (the default, for those who like to say it)
    #[arg(long, conflicts_with = "until_empty")]
    pub follow: bool,
    /// What is printed of a record
    #[arg(
        long,
        value_name = "FORM",
        default_value = "lines",
        conflicts_with = "raw"
    )]
    pub output: OutputWord,
    /// Print what lies in the stream, as it lies there: shard, sequence number, partition key, and the bytes in
    /// base64, or with =hex so
    #[arg(long, value_name = "ENCODING", num_args = 0..=1, require_equals = true, default_missing_value = "base64",
        conflicts_with_all = ["config", "kms_key", "wrapping_key", "context"])]
    pub raw: Option<EncodingWord>,
    /// Print to this file, or to the Unix socket that is there. A file is written anew, and its owner's alone where it was
    /// not there; with --checkpoint it goes on where that says
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
    /// Keep records that cannot be opened here, with the reason: JSON Lines, appended
    #[arg(long, value_name = "FILE")]
    pub dead_letter: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub core_dumps: CoreDumpArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputWord {
    /// The record, and a line's end
    Lines,
    /// A JSON object on a line: the record, its place, its key, and how it was encrypted
    Json,
    /// The record, and nothing between them
    Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EncodingWord {
    Base64,
    Hex,
}

const EXAMPLES: &str = "\
Examples:
  kinseal consume --stream shop-logs --kms-key alias/shop --until-empty
  kinseal consume --stream shop-logs --config /etc/kinseal/agent.toml --from latest
  kinseal consume --stream shop-logs --kms-key alias/shop --output json --from at-timestamp 15m
  kinseal consume --stream shop-logs --kms-key alias/shop --out shop.log --checkpoint shop.json
  kinseal consume --stream shop-logs --kms-key alias/shop --fan-out shop-reader
  kinseal consume --stream shop-logs --raw --until-empty        that it is ciphertext

At least once: after kill -9, records printed since the checkpoint was last saved (each second) are
printed again; not to a file that --out names, which is cut back to what the checkpoint says.";

/// A page is up to 10 MiB of records, in base64: on a slow line the agent's limit would cut each short.
const TIME_OUTS: TimeOuts = TimeOuts {
    connect: Duration::from_secs(6),
    request: Duration::from_secs(60),
};

/// How long a reader that takes nothing may hold up the end.
const GRACE: Duration = Duration::from_secs(2);

pub async fn run(args: ConsumeArgs) -> anyhow::Result<ExitCode> {
    let request = args.request(&config::System)?;
    request.core_dumps.apply();
    args.check_files()?;
    let checkpoint = match &args.checkpoint {
        Some(path) => Some(Checkpoint::load(path, &args.stream)?),
        None => None,
    };
    let reading = args.reading(checkpoint.as_ref())?;
    args.say_what_goes_first(checkpoint.as_ref());
    let sink = Sink::open(args.out.as_deref(), checkpoint.as_ref())?;
    let letters = files::dead_letters(args.dead_letter.as_deref())?;
    let clients = aws::clients(&request.aws, TIME_OUTS).await?;
    let unpacker = args.unpacker(&request, &clients)?;
    let opener = unpacker.opener().cloned();
    let place = format!("{} at {}", args.stream, clients.place);
    let stream = KinesisStream::new(clients.kinesis.clone(), args.stream.clone());
    let is_terminal = sink.is_terminal();
    let printer = Printer::new(args.form(), sink, std::io::stderr())
        .for_terminal(is_terminal)
        .keeping(letters)
        .limited(args.limit)
        // A checkpoint within an aggregate there is none: the next run would begin with it again.
        .wholly(checkpoint.is_some());
    let (stop, shutdown) = shutdown::channel();
    let strays = unpacker.clone();
    let signal = termination()?;
    tokio::spawn(async move {
        signal.await;
        stop.stop();
    });
    let fan_out = match &args.fan_out {
        Some(name) => tokio::select! {
            begun = FanOut::begin(stream.clone(), &clients, name, args.deregister) => {
                Some(begun.with_context(|| place.clone())?)
            }
            () = shutdown.stopped() => return Ok(ExitCode::SUCCESS),
        },
        None => None,
    };
    let consumer = match &fan_out {
        Some(pushed) => Consumer::subscribe(pushed.stream(), unpacker, reading, shutdown.clone()),
        None => Consumer::start(Arc::new(stream), unpacker, reading, shutdown.clone()),
    };
    let refused = Arc::new(AtomicU64::new(0));
    let printing = Printing::new(
        consumer,
        printer,
        checkpoint,
        args.stopping(),
        args.output_name(),
    );
    let printing = printing.counting(Arc::clone(&refused));
    // A thread of its own: a pipe that is full blocks.
    let printed = tokio::task::spawn_blocking(move || printing.run());
    let to_the_end = to_the_end(&args, &place, printed);
    let given_up = async {
        shutdown.stopped().await;
        tokio::time::sleep(GRACE).await;
    };
    let read = tokio::select! {
        read = to_the_end => read,
        () = given_up => {
            tracing::warn!("what is printed is not taken: ended without it; a checkpoint says only what was");
            Ok(refused.load(Ordering::Relaxed))
        }
    };
    // However it ended.
    let ended = match fan_out {
        Some(fan_out) => fan_out.end().await,
        None => Ok(()),
    };
    if let (Err(_), Err(error)) = (&read, &ended) {
        super::print_error(&format!("kinseal: {error:#}"));
    }
    let unreadable = read?;
    ended?;
    Ok(last_words(opener.as_deref(), &strays, unreadable))
}

/// Until all is printed that is to be. How many records could not be read.
async fn to_the_end(
    args: &ConsumeArgs,
    place: &str,
    printed: JoinHandle<anyhow::Result<Ended<io::Stderr>>>,
) -> anyhow::Result<u64> {
    let mut printed = printed.await??;
    if let Some(why) = printed.stopped {
        super::print_error(&format!("kinseal: stopped there: {why}"));
    }
    if let Some(consumer) = printed.consumer {
        let ended = consumer.finish().await.map_err(|error| args.blame(error));
        ended.with_context(|| place.to_owned())?;
        // Also where there was nothing to print.
        let begun = printed.printer.out_mut().begin();
        begun.with_context(|| args.output_name())?;
    }
    Ok(printed.unreadable)
}

fn last_words(opener: Option<&Opener>, unpacker: &Unpacker, unreadable: u64) -> ExitCode {
    if let Some(opener) = opener {
        let calls = opener.call_latency();
        tracing::debug!(
            call_p50 = %Short(calls.quantile(0.5)), call_max = %Short(calls.max()),
            "data keys: {}", KeyCache(&opener.counts())
        );
    }
    if unpacker.strays() > 0 {
        tracing::warn!(
            records = unpacker.strays(),
            "left out: their aggregates hold one that does not belong on its shard, as the KCL leaves them out"
        );
    }
    if unreadable > 0 {
        super::print_error(&format!(
            "kinseal: {} could not be read; see above",
            Count(unreadable, "record")
        ));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Resolves at SIGINT or SIGTERM.
fn termination() -> io::Result<impl Future<Output = ()> + Send> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
