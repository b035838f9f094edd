//! `kinseal consume`: a stream → lines.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use super::connection::{self, ConnectionArgs};
use super::hardening::CoreDumpArgs;
use super::limits::LimitArgs;
use crate::aws::{self, Clients, TimeOuts};
use crate::config::{self, Environment};
use crate::consume::output::{Form, Printer};
use crate::consume::{
    self, Consumer, KinesisStream, Plaintext, Reason, StartAt, Unpacker, Unreadable, UserRecord,
};
use crate::metrics::report::{KeyCache, Short};
use crate::record::StreamName;
use crate::seal::key::UnwrapDataKey;
use crate::seal::kms::KmsUnwrap;
use crate::seal::open::{OpenSettings, Opener};
use crate::seal::rawkey::WrappingKey;
use crate::seal::{EncryptionContext, KeyChoice, Scope};
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
    /// Where to start
    #[arg(long, value_name = "WHERE", default_value = "trim-horizon")]
    pub from: StartWord,
    /// With keys: let records pass that are not encrypted
    #[arg(long, conflicts_with = "raw")]
    pub allow_plaintext: bool,
    /// End when all there is has been read
    #[arg(long)]
    pub until_empty: bool,
    /// Print what lies in the stream, as it lies there: shard, sequence number, partition key, base64
    #[arg(long, conflicts_with_all = ["config", "kms_key", "wrapping_key", "context"])]
    pub raw: bool,
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
pub enum StartWord {
    /// The oldest record that is still there
    TrimHorizon,
    /// What is stored from now on
    Latest,
}

const EXAMPLES: &str = "\
Examples:
  kinseal consume --stream shop-logs --kms-key alias/shop --until-empty
  kinseal consume --stream shop-logs --config /etc/kinseal/agent.toml --from latest
  kinseal consume --stream shop-logs --raw --until-empty        that it is ciphertext";

/// What the arguments and the configuration they name come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub aws: aws::Settings,
    /// Keys that may open records. None: records that are encrypted cannot be read.
    pub keys: Vec<KeyChoice>,
    /// What each record's context must contain.
    pub context: EncryptionContext,
    pub core_dumps: CoreDumpArgs,
}

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
    let clients = aws::clients(&request.aws, TIME_OUTS).await?;
    let unpacker = args.unpacker(&request, &clients)?;
    let opener = unpacker.opener().cloned();
    let place = format!("{} at {}", args.stream, clients.place);
    let stream = KinesisStream::new(clients.kinesis, args.stream.clone());
    let form = if args.raw { Form::Raw } else { Form::Lines };
    let printer = Printer::new(form, stdout()?, std::io::stderr());

    let (stop, shutdown) = shutdown::channel();
    let consumer = Consumer::start(Arc::new(stream), unpacker, args.reading(), shutdown.clone());
    // A thread of its own: a pipe that is full blocks.
    let printed = tokio::task::spawn_blocking(move || print_all(consumer, printer));
    let signal = termination()?;
    tokio::spawn(async move {
        signal.await;
        stop.stop();
    });
    let given_up = async {
        shutdown.stopped().await;
        tokio::time::sleep(GRACE).await;
    };
    let unreadable = tokio::select! {
        printed = printed => {
            let (consumer, unreadable) = printed?.context("standard output")?;
            if let Some(consumer) = consumer {
                consumer.finish().await.context(place)?;
            }
            unreadable
        }
        () = given_up => 0,
    };
    if let Some(opener) = opener {
        let calls = opener.call_latency();
        tracing::debug!(
            call_p50 = %Short(calls.quantile(0.5)), call_max = %Short(calls.max()),
            "data keys: {}", KeyCache(&opener.counts())
        );
    }
    if unreadable > 0 {
        let records = if unreadable == 1 { "record" } else { "records" };
        super::print_error(&format!(
            "kinseal: {unreadable} {records} could not be read; see above"
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints until reading ends, and counts what could not be read. The consumer comes back where it has an
/// end of its own to tell; not where printing ended before it.
fn print_all<W: Write, E: Write>(
    mut consumer: Consumer,
    mut printer: Printer<W, E>,
) -> io::Result<(Option<Consumer>, u64)> {
    let ended = print_batches(&mut consumer, &mut printer);
    let unreadable = printer.unreadable();
    match ended {
        Ok(End::OfReading) => Ok((Some(consumer), unreadable)),
        Ok(End::NoKeys) => Ok((None, unreadable)),
        // Whoever read our output has enough, `head` for one.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok((None, unreadable)),
        Err(error) => Err(error),
    }
}

enum End {
    OfReading,
    /// One complaint about forgotten keys is enough.
    NoKeys,
}

fn print_batches<W: Write, E: Write>(
    consumer: &mut Consumer,
    printer: &mut Printer<W, E>,
) -> io::Result<End> {
    loop {
        let next = match consumer.try_next() {
            Some(batch) => Some(batch),
            None => {
                // Nothing may lie in the buffer while we wait.
                printer.flush()?;
                consumer.blocking_next()
            }
        };
        let Some(mut batch) = next else {
            return Ok(End::OfReading);
        };
        let keyless = batch.records.iter().position(has_no_keys);
        if let Some(at) = keyless {
            batch.records.truncate(at + 1);
        }
        printer.print(&batch)?;
        if keyless.is_some() {
            printer.flush()?;
            return Ok(End::NoKeys);
        }
    }
}

fn has_no_keys(record: &Result<UserRecord, Unreadable>) -> bool {
    matches!(record, Err(unreadable) if matches!(unreadable.reason, Reason::NoKeys { .. }))
}

/// Not [`std::io::Stdout`], which looks for the last line's end in whatever is written.
fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
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

impl ConsumeArgs {
    /// Keys and pairs add to what the configuration has; where both say which AWS, the arguments decide.
    pub fn request(&self, env: &dyn Environment) -> anyhow::Result<Request> {
        let mut request = Request {
            aws: self.connection.settings(),
            keys: Vec::new(),
            context: connection::context(&self.context)?,
            core_dumps: self.core_dumps,
        };
        if let Some(path) = &self.config {
            let settings = config::load(path, env)?;
            let Some(stream) = settings.stream(&self.stream) else {
                let known: Vec<String> = settings
                    .streams
                    .iter()
                    .map(|s| s.name.to_string())
                    .collect();
                anyhow::bail!(
                    "no [[source]] in {} sends to {}; give one of: {}",
                    path.display(),
                    self.stream,
                    known.join(", ")
                );
            };
            if let Scope::Record(key) | Scope::Block(key, _) = &stream.encryption.scope {
                request.keys.push(key.clone());
            }
            for (key, value) in &stream.encryption.context {
                request
                    .context
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
            request.aws = self.connection.over(settings.aws);
            request.core_dumps = request.core_dumps.or(settings.core_dumps);
        }
        if !self.kms_key.is_empty() {
            request.keys.push(KeyChoice::Kms(self.kms_key.clone()));
        }
        for file in &self.wrapping_key {
            request
                .keys
                .push(KeyChoice::WrappingKeyFile(std::path::absolute(file)?));
        }
        Ok(request)
    }

    fn reading(&self) -> consume::Settings {
        consume::Settings {
            from: match self.from {
                StartWord::TrimHorizon => StartAt::TrimHorizon,
                StartWord::Latest => StartAt::Latest,
            },
            until_empty: self.until_empty,
            ..consume::Settings::default()
        }
    }

    fn unpacker(&self, request: &Request, clients: &Clients) -> anyhow::Result<Unpacker> {
        let threads = available_parallelism().map_or(1, usize::from);
        if self.raw {
            return Ok(Unpacker::as_stored(threads)?);
        }
        let Some(opener) = request.opener(clients, self.limits.settings())? else {
            if !self.context.is_empty() {
                anyhow::bail!(
                    "--context binds keys, and none is given: add --kms-key or --wrapping-key"
                );
            }
            return Ok(Unpacker::without_keys(threads)?);
        };
        let plaintext = match self.allow_plaintext {
            true => Plaintext::Allowed,
            false => Plaintext::Refused,
        };
        Ok(Unpacker::opening(Arc::new(opener), plaintext, threads)?)
    }
}

impl Request {
    /// `None` where there are no keys.
    fn opener(&self, clients: &Clients, settings: OpenSettings) -> anyhow::Result<Option<Opener>> {
        let mut keys: Vec<Arc<dyn UnwrapDataKey>> = Vec::new();
        let mut kms = Vec::new();
        for key in &self.keys {
            match key {
                KeyChoice::Kms(keys) => kms.extend(keys),
                KeyChoice::WrappingKeyFile(path) => keys.push(Arc::new(WrappingKey::load(path)?)),
            }
        }
        if !kms.is_empty() {
            keys.push(Arc::new(KmsUnwrap::new(clients.kms.clone(), kms)));
        }
        if keys.is_empty() {
            return Ok(None);
        }
        let opener = Opener::new(keys, self.context.clone(), settings)?;
        Ok(Some(opener))
    }
}
