//! `kinseal deadletter resend`: the same bytes and keys through the same pipeline once more.
//!
//! What is stored leaves its file: the file is replaced once all that was sent from it has an answer. A crash
//! before that leaves the old file, so that records may be sent twice and are never lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::{Selection, Totals, Unreadable, plural};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::store::Lock;
use crate::cli::agent::Signals;
use crate::cli::connection::ConnectionArgs;
use crate::cli::form::{one_line, say};
use crate::cli::hardening::CoreDumpArgs;
use crate::config::Settings;
use crate::deadletter::{Fate, Folder, Lines, rewrite};
use crate::delivery::{Delivery, FailReason, Receipt};
use crate::producer::{Builder, Producer};
use crate::record::StreamName;
use crate::shutdown::{self, Shutdown};
use crate::{aggregate, aws, send};

/// Send records again that could not be stored, and remove those that now are
///
/// Needs the state directory for itself, so the agent has to be stopped; or move its files to
/// OTHER/dead_letter/STREAM and give --state-dir OTHER. Records are sent as they lie there, sealed as they
/// are, under the same keys. What is refused again stays, with its new reason. With --config, aggregation, limits,
/// delivery and [aws] are what it says; else each record is sent alone, with the defaults.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ResendArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    connection: ConnectionArgs,
    #[command(flatten)]
    core_dumps: CoreDumpArgs,
}

const EXAMPLES: &str = "\
Examples:
  kinseal deadletter resend --config /etc/kinseal/agent.toml --reason TooLarge
  kinseal deadletter resend --state-dir ./state --stream shop-logs --older-than 1h";

/// How long to wait for answers after a signal.
const GRACE: Duration = Duration::from_secs(5);

pub(super) async fn run(args: ResendArgs) -> anyhow::Result<ExitCode> {
    let settings = args.selection.state.settings()?;
    let core_dumps = settings.as_ref().is_some_and(|s| s.core_dumps);
    args.core_dumps.or(core_dumps).apply();
    let dir = args.selection.state.existing_dir(settings.as_ref())?;
    let _lock = lock(&dir)?;
    let (totals, unreadable) = args.selection.totals(&dir)?;
    for Unreadable { path, lines } in unreadable {
        let lines = plural(lines, "line");
        say(format!(
            "{}: {lines} cannot be read, and stay",
            path.display()
        ));
    }
    // All of them before the first record: a mistake is told while nothing has happened.
    let (producers, left) = args.producers(&totals, settings.as_ref()).await?;
    let mut signals = Signals::listen()?;
    let (stop, shutdown) = shutdown::channel();
    tokio::spawn(async move {
        signals.next().await;
        stop.stop();
        signals.next().await;
        // The files are right at every moment.
        std::process::exit(1);
    });
    // Side by side: one that takes nothing holds up no other.
    let resending = producers.into_iter().map(|(stream, producer)| {
        let resend = Resend {
            selection: &args.selection,
            folder: Folder::of(&dir, &stream),
            stream,
            producer: Some(producer),
            shutdown: shutdown.clone(),
            sent: Sent::default(),
        };
        resend.send_all()
    });
    let ended = futures_util::future::join_all(resending).await;
    let mut all = Sent::default();
    let mut mistakes = Vec::new();
    for (sent, outcome) in ended {
        all.add(sent);
        mistakes.extend(outcome.err());
    }
    let code = all.tell(totals.letters(), &left);
    match mistakes.into_iter().next() {
        Some(mistake) => Err(mistake),
        None => Ok(code),
    }
}

fn lock(dir: &Path) -> anyhow::Result<Lock> {
    Lock::take(dir).map_err(|error| match error {
        CheckpointError::InUse { dir, holder } => anyhow::anyhow!(
            "state directory {} is in use by {holder}, which may bury records meanwhile; stop the agent, or \
             move files to OTHER/dead_letter/STREAM and give --state-dir OTHER",
            dir.display()
        ),
        other => other.into(),
    })
}

impl ResendArgs {
    /// And the streams that cannot be sent to, of which each is told. One of them must not hold up the others; where
    /// there are no others, it is the mistake.
    async fn producers(
        &self,
        totals: &Totals,
        settings: Option<&Settings>,
    ) -> anyhow::Result<(BTreeMap<StreamName, Producer>, Vec<StreamName>)> {
        let aws = match settings {
            Some(settings) => self.connection.over(settings.aws.clone()),
            None => self.connection.settings(),
        };
        let mut producers = BTreeMap::new();
        let mut failed = Vec::new();
        // One that is none, by somebody's hand: its letters stay.
        let streams = totals.0.keys().map(|(stream, _)| StreamName::new(stream));
        for stream in streams.flatten().collect::<BTreeSet<_>>() {
            match builder(&stream, settings, &aws).build().await {
                Ok(producer) => drop(producers.insert(stream, producer)),
                Err(error) => failed.push((stream, error)),
            }
        }
        if producers.is_empty()
            && let Some((_, error)) = failed.pop()
        {
            return Err(error.into());
        }
        let left = failed.into_iter().map(|(stream, error)| {
            say(format!("{stream}: its dead letters stay: {error}"));
            stream
        });
        Ok((producers, left.collect()))
    }
}

fn builder(stream: &StreamName, settings: Option<&Settings>, aws: &aws::Settings) -> Builder {
    let builder = Producer::builder(stream.to_string())
        // As they are: what had to be sealed was sealed before it was buried.
        .plaintext()
        .aws(aws.clone());
    let builder = match settings {
        Some(settings) => builder.memory_limit(settings.memory_limit),
        None => builder,
    };
    match settings.and_then(|settings| settings.stream(stream)) {
        Some(own) => builder
            .aggregation(own.aggregation.clone())
            .batch(own.batch.clone())
            .delivery(send::Settings {
                // Old as they are, they are to be stored.
                record_ttl: None,
                ..own.delivery.clone()
            }),
        // Nobody has said that the readers can take aggregates apart.
        None => builder.aggregation(aggregate::Settings {
            enabled: false,
            ..aggregate::Settings::default()
        }),
    }
}

/// One stream's.
struct Resend<'a> {
    selection: &'a Selection,
    stream: StreamName,
    folder: Folder,
    /// Until it is closed.
    producer: Option<Producer>,
    shutdown: Shutdown,
    sent: Sent,
}

/// What became of letters.
#[derive(Debug, Default)]
struct Sent {
    stored: u64,
    refused: u64,
    last_refusal: Option<FailReason>,
    /// Streams of which some have no answer.
    unanswered: Vec<StreamName>,
}

impl Resend<'_> {
    async fn send_all(mut self) -> (Sent, anyhow::Result<()>) {
        let outcome = self.send_files().await;
        self.close().await;
        (self.sent, outcome)
    }

    async fn send_files(&mut self) -> anyhow::Result<()> {
        let shown = || format!("dead letters of {}", self.stream);
        for file in self.folder.files().with_context(shown)? {
            if self.shutdown.is_stopped() {
                break;
            }
            let path = file.path;
            (self.send_file(&path).await).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    async fn send_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut owed = Vec::new();
        let ended = self.put_all(path, &mut owed).await;
        self.until_answered().await;
        let mut fates = HashMap::new();
        for (number, receipt) in owed {
            match self.sent.fate(receipt.await) {
                Some(fate) => drop(fates.insert(number, fate)),
                None if self.sent.unanswered.is_empty() => {
                    self.sent.unanswered.push(self.stream.clone());
                }
                None => {}
            }
        }
        // What is stored leaves the file, also where the rest of it could not be read.
        if !fates.is_empty() {
            rewrite(path, &fates)?;
        }
        ended
    }

    /// Each line's number, and what it is owed.
    async fn put_all(&self, path: &Path, owed: &mut Vec<(u64, Receipt)>) -> anyhow::Result<()> {
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next() {
            let Ok((number, line)) = line? else {
                continue;
            };
            if !self.selection.has(&line) {
                continue;
            }
            let Some((stream, record)) = line.record() else {
                say(format!(
                    "{}, line {number}: its key or its payload is damaged; it stays",
                    path.display()
                ));
                continue;
            };
            if stream != self.stream {
                say(format!(
                    "{}, line {number}: it is for {stream}, whose folder it is not in; it stays",
                    path.display()
                ));
                continue;
            }
            let producer = self.producer.as_ref().expect("open until all is sent");
            tokio::select! {
                receipt = producer.put(record) => owed.push((number, receipt?)),
                () = self.shutdown.stopped() => break,
            }
        }
        Ok(())
    }

    /// A signal shortens it: what has no answer by then stays.
    async fn until_answered(&mut self) {
        let Some(producer) = &self.producer else {
            return;
        };
        let stopped = tokio::select! {
            _ = producer.flush() => false,
            () = self.shutdown.stopped() => true,
        };
        if stopped {
            self.close().await;
        }
    }

    async fn close(&mut self) {
        if let Some(producer) = self.producer.take() {
            let _ = producer.close(GRACE).await;
        }
    }
}

impl Sent {
    fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.refused += other.refused;
        self.last_refusal = other.last_refusal.or(self.last_refusal.take());
        self.unanswered.extend(other.unanswered);
    }

    /// `None`: nobody knows, so it stays as it is.
    fn fate(&mut self, delivery: Delivery) -> Option<Fate> {
        match delivery {
            // No spool here.
            Delivery::Stored { .. } | Delivery::Spooled => {
                self.stored += 1;
                Some(Fate::Gone)
            }
            Delivery::Failed {
                reason: FailReason::Abandoned,
                ..
            } => None,
            Delivery::Failed { reason, attempts } => {
                self.refused += 1;
                self.last_refusal = Some(reason.clone());
                Some(Fate::RefusedAgain { reason, attempts })
            }
        }
    }

    /// `left`: streams that could not be sent to, of which all stay.
    fn tell(&self, selected: u64, left: &[StreamName]) -> ExitCode {
        let mut text = format!(
            "{} of {} stored and removed",
            crate::metrics::report::Thousands(self.stored),
            plural(selected, "dead letter")
        );
        if let Some(reason) = &self.last_refusal {
            let refused = crate::metrics::report::Thousands(self.refused);
            text.push_str(&format!("; {refused} refused again, the last: {reason}"));
        }
        let names = |streams: &[StreamName]| {
            let names: Vec<String> = streams.iter().map(StreamName::to_string).collect();
            names.join(", ")
        };
        let unsent = selected.saturating_sub(self.stored + self.refused);
        if unsent > 0 {
            text.push_str(&format!("; {unsent} not sent, or without an answer"));
        }
        if !self.unanswered.is_empty() {
            let streams = names(&self.unanswered);
            text.push_str(&format!("; {streams} did not answer for all"));
        }
        if !left.is_empty() {
            text.push_str(&format!("; nothing could be sent to {}", names(left)));
        }
        // A closed pipe is the reader's choice.
        let _ = writeln!(std::io::stdout(), "{}", one_line(&text));
        match self.stored == selected {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}
