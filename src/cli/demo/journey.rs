//! The demo's own journey: a growing file → the agent → the stream → the consumer → the account.
//!
//! Agent and consumer are those of `kinseal agent` and `kinseal consume`; they know the stand-ins only as
//! two endpoints.

use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use super::account::{Account, Totals};
use super::progress::{Gauges, Progress, State};
use super::ticker::Tickers;
use super::writer::{self, Pace};
use crate::agent::{self, Agent, SourceKind, StreamReport};
use crate::aws::{self, TimeOuts};
use crate::consume::{
    self, ConsumedBatch, Consumer, KinesisStream, Place, Plaintext, SealedInfo, Unpacker,
    UserRecord,
};
use crate::fake::{self, Fake};
use crate::record::StreamName;
use crate::seal::key::UnwrapDataKey;
use crate::seal::kms::KmsUnwrap;
use crate::seal::open::{OpenSettings, Opener};
use crate::seal::{self, CacheSettings, EncryptionContext, KeyChoice, Scope, message};
use crate::shutdown::{self, Shutdown};
use crate::source::tail;

pub(super) const STREAM: &str = "stock-sales";
pub(super) const ALIAS: &str = "alias/demo";

/// What the demo came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) totals: Totals,
    pub(super) sent: StreamReport,
    pub(super) answered: fake::Counters,
    /// The first record that came back.
    pub(super) sample: Option<Sample>,
    pub(super) took: Duration,
}

/// One record, as it was written and as it lay in the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) plaintext: Bytes,
    pub(super) message: Bytes,
    pub(super) place: Place,
    /// Records in the same aggregate.
    pub(super) members: usize,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.totals.all_equal(self.sent.counts.calls_unknown)
    }
}

/// The way there and back. `meddle` sees each batch before it is compared.
pub(super) async fn travel(
    fake: &Fake,
    pace: Pace,
    progress: &mut Progress,
    meddle: impl FnMut(&mut ConsumedBatch),
) -> anyhow::Result<Outcome> {
    let dir = tempfile::Builder::new()
        .prefix("kinseal-demo-")
        .tempdir()
        .context(
            "cannot make a directory for the demo's file; set TMPDIR to one that can be written to",
        )?;
    let log = dir.path().join("sales.log");
    std::fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
    let tickers = Tickers::new(rand::random(), SystemTime::now(), pace.per_second);
    let gauges = Arc::new(Gauges::default());
    let start = Instant::now();

    let agent = Agent::start(&shipping(fake, dir.path(), &log)?).await?;
    // Nobody says it: the consumer ends by being dropped.
    let (_stop, stop) = shutdown::channel();
    let mut reader = Reader {
        consumer: Some(reading(fake, stop).await?),
        account: Account::new(tickers.clone(), pace.records),
        gauges: Arc::clone(&gauges),
        read: 0,
        entries: 0,
        sample: None,
        meddle,
    };
    let writing = spawn_writer(log, tickers, pace, Arc::clone(&gauges));

    let stored = all_stored(&agent, &writing, pace, &gauges, progress);
    reader.read_while(stored).await?;
    let sent = reader.read_while(agent.stop(GRACE)).await??;
    reader.read_to_the_tip(fake).await?;
    let took = start.elapsed();

    writing.abort();
    match writing.await {
        Ok(written) => written?,
        Err(ended) if ended.is_cancelled() => {}
        Err(ended) => return Err(ended.into()),
    }
    let sent = sent.streams.into_iter().next();
    Ok(Outcome {
        totals: reader.account.close(gauges.written()),
        sent: sent.expect("one stream was configured"),
        answered: fake.counters(),
        sample: reader.sample,
        took,
    })
}

/// What is not stored then has met more than a slow machine.
const GRACE: Duration = Duration::from_secs(20);
/// Nothing moves for so long: the rest is missing.
const STUCK: Duration = Duration::from_secs(20);

fn spawn_writer(
    log: std::path::PathBuf,
    tickers: Tickers,
    pace: Pace,
    gauges: Arc<Gauges>,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move {
        let written = writer::write(&log, &tickers, pace, &gauges).await;
        written.with_context(|| format!("cannot write {}", log.display()))
    })
}

/// `kinseal agent --stream stock-sales --file sales.log --kms-key alias/demo …`
fn shipping(fake: &Fake, dir: &Path, log: &Path) -> anyhow::Result<agent::Settings> {
    let log = log.to_str().context("TMPDIR is not UTF-8")?;
    let follow = SourceKind::File(tail::Settings {
        include: vec![globset::escape(log)],
        exclude: Vec::new(),
        start_position: tail::StartPosition::Beginning,
    });
    let encryption = seal::Settings {
        scope: Scope::Record(KeyChoice::Kms(vec![ALIAS.into()])),
        context: context(),
        cache: CacheSettings::default(),
        message: message::Settings::default(),
    };
    let state = dir.join("state");
    std::fs::create_dir(&state).context("cannot make the state directory")?;
    let settings = agent::Settings::for_one(
        StreamName::new(STREAM)?,
        follow,
        encryption,
        endpoints(fake),
        state,
    );
    Ok(agent::Settings {
        log_interval: None,
        core_dumps: false,
        ..settings
    })
}

/// `kinseal consume --stream stock-sales --kms-key alias/demo --context app=demo …`
async fn reading(fake: &Fake, stop: Shutdown) -> anyhow::Result<Consumer> {
    let clients = aws::clients(&endpoints(fake), TimeOuts::default()).await?;
    let unwrap: Arc<dyn UnwrapDataKey> = Arc::new(KmsUnwrap::new(clients.kms, [ALIAS]));
    let opener = Opener::new(vec![unwrap], context(), OpenSettings::default())?;
    let threads = available_parallelism().map_or(1, usize::from);
    let unpacker = Unpacker::opening(Arc::new(opener), Plaintext::Refused, threads)?;
    let stream = KinesisStream::new(clients.kinesis, StreamName::new(STREAM)?);
    let settings = consume::Settings {
        // As often as the service allows each shard to be asked, less one.
        idle: Duration::from_millis(250),
        ..consume::Settings::default()
    };
    Ok(Consumer::start(Arc::new(stream), unpacker, settings, stop))
}

fn endpoints(fake: &Fake) -> aws::Settings {
    aws::Settings {
        region: Some(fake::DEFAULT_REGION.into()),
        kinesis_endpoint_url: Some(fake.kinesis_url()),
        kms_endpoint_url: Some(fake.kms_url()),
        credentials: Some(aws::Credentials::new(
            fake::DEFAULT_CREDENTIAL,
            fake::DEFAULT_CREDENTIAL,
        )),
        ..aws::Settings::default()
    }
}

fn context() -> EncryptionContext {
    EncryptionContext::from([("app".into(), "demo".into())])
}

/// Resolves when the file is written, read and stored; or when nothing moves any more. Cancel safe.
async fn all_stored(
    agent: &Agent,
    writing: &JoinHandle<anyhow::Result<()>>,
    pace: Pace,
    gauges: &Gauges,
    progress: &mut Progress,
) {
    let mut ticks = interval(Duration::from_millis(100));
    let mut moved = (Instant::now(), (0, 0, 0));
    loop {
        ticks.tick().await;
        let report = agent.report().await;
        let counts = report.streams[0].counts;
        let state = State {
            written: gauges.written(),
            stored: counts.stored,
            read_back: gauges.read_back(),
            of: pace.records,
        };
        progress.show(state);
        let all_accepted = writing.is_finished() && counts.accepted >= state.written;
        if all_accepted && counts.pending() == 0 {
            return;
        }
        let now = (state.written, state.stored, state.read_back);
        if moved.1 != now {
            moved = (Instant::now(), now);
        }
        if moved.0.elapsed() > STUCK {
            tracing::error!(?state, "nothing moves any more");
            return;
        }
    }
}

struct Reader<M> {
    /// `None`: it has ended, and has said why.
    consumer: Option<Consumer>,
    account: Account,
    gauges: Arc<Gauges>,
    /// User records and Kinesis records so far.
    read: u64,
    entries: u64,
    sample: Option<Sample>,
    meddle: M,
}

impl<M: FnMut(&mut ConsumedBatch)> Reader<M> {
    /// Goes on reading until `other` is done.
    async fn read_while<T>(&mut self, other: impl Future<Output = T>) -> anyhow::Result<T> {
        tokio::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return Ok(done),
                batch = self.next() => self.take(batch?),
            }
        }
    }

    /// Until all that the stand-in has stored was handed out; or nothing comes any more.
    async fn read_to_the_tip(&mut self, fake: &Fake) -> anyhow::Result<()> {
        let stored = fake.counters().records_stored;
        while self.entries < stored {
            match timeout(STUCK, self.next()).await {
                Ok(batch) => self.take(batch?),
                Err(_) => {
                    tracing::error!(self.entries, stored, "Kinesis records do not come back");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Cancel safe.
    async fn next(&mut self) -> anyhow::Result<ConsumedBatch> {
        const ENDED: &str = "reading the stream back ended early";
        let batch = self.consumer.as_mut().context(ENDED)?.next().await;
        if let Some(consumer) = self.consumer.take_if(|_| batch.is_none()) {
            consumer.finish().await.context(ENDED)?;
        }
        batch.context(ENDED)
    }

    fn take(&mut self, mut batch: ConsumedBatch) {
        let places = batch.records.iter().map(|record| match record {
            Ok(record) => &record.place,
            Err(unreadable) => &unreadable.place,
        });
        // A batch holds whole Kinesis records, one after the other.
        let mut last = None;
        for place in places {
            if last.replace(&place.sequence) != Some(&place.sequence) {
                self.entries += 1;
            }
        }
        if self.sample.is_none() {
            self.sample = Sample::of(&batch);
        }
        (self.meddle)(&mut batch);
        batch.records.iter().for_each(|r| self.account.take(r));
        self.read += batch.records.len() as u64;
        self.gauges.set_read_back(self.read);
    }
}

impl Sample {
    fn of(batch: &ConsumedBatch) -> Option<Self> {
        let readable = || batch.records.iter().flatten();
        let (record, sealed) = readable().find_map(|record| Some((record, sealed(record)?)))?;
        let together = |other: &&UserRecord| other.place.sequence == record.place.sequence;
        Some(Self {
            // Copies: what was read together would otherwise stay in memory until the end.
            plaintext: Bytes::copy_from_slice(&record.data),
            message: Bytes::copy_from_slice(&sealed.message),
            place: record.place.clone(),
            members: readable().filter(together).count(),
        })
    }
}

fn sealed(record: &UserRecord) -> Option<&SealedInfo> {
    record.sealed.as_ref()
}
