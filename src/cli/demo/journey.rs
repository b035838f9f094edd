//! The demo's own journey: a growing file → two agents → a stream each → a consumer each → the account.
//!
//! Agents and consumers are those of `kinseal agent` and `kinseal consume`; they know the stand-ins only as
//! two endpoints.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use futures_util::future::{select_all, try_join_all};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::account::Totals;
use super::progress::{Gauges, Progress};
use super::reader::{Reader, Sample};
use super::ticker::Tickers;
use super::way::{Running, Way};
use super::writer::{self, Pace};
use crate::agent::StreamReport;
use crate::aws;
use crate::consume::ConsumedBatch;
use crate::fake::{self, Fake};
use crate::seal::EncryptionContext;

pub(super) const ALIAS: &str = "alias/demo";

/// What the demo came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ways: Vec<WayOutcome>,
    pub(super) answered: fake::Counters,
    pub(super) took: Duration,
}

/// What one of the ways came to.
#[derive(Debug)]
pub(super) struct WayOutcome {
    pub(super) way: Way,
    pub(super) totals: Totals,
    pub(super) sent: StreamReport,
    /// The first record that came back.
    pub(super) sample: Option<Sample>,
}

impl Outcome {
    pub(super) fn is_success(&self) -> bool {
        self.ways.iter().all(WayOutcome::is_success)
    }
}

impl WayOutcome {
    pub(super) fn is_success(&self) -> bool {
        self.totals.all_equal(self.sent.counts.calls_unknown)
    }
}

/// Both ways there and back. `meddle` sees each batch before it is compared.
pub(super) async fn travel(
    fake: &Fake,
    pace: Pace,
    progress: &mut Progress,
    meddle: impl FnMut(Way, &mut ConsumedBatch) + Send,
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
    let meddle = Mutex::new(meddle);
    let start = Instant::now();

    let running =
        Way::ALL.map(|way| Running::start(way, fake, &log, (&tickers, pace), &gauges, &meddle));
    let running = try_join_all(running).await?;
    let writing = spawn_writer(log, tickers, pace, Arc::clone(&gauges));
    let shipped = try_join_all(running.into_iter().map(|way| way.ship(&writing, &gauges)));
    let shipped = tokio::select! {
        shipped = shipped => shipped?,
        never = progress.follow(&gauges, pace.records) => match never {},
    };
    let (sent, mut readers): (Vec<_>, Vec<_>) = shipped.into_iter().unzip();
    read_to_the_tip(&mut readers, fake).await?;
    let took = start.elapsed();

    writing.abort();
    match writing.await {
        Ok(written) => written?,
        Err(ended) if ended.is_cancelled() => {}
        Err(ended) => return Err(ended.into()),
    }
    let ways = sent.into_iter().zip(readers).map(|(sent, reader)| {
        let way = reader.way();
        let (totals, sample) = reader.close(gauges.look().written);
        WayOutcome {
            way,
            totals,
            sent,
            sample,
        }
    });
    Ok(Outcome {
        ways: ways.collect(),
        answered: fake.counters(),
        took,
    })
}

/// Nothing moves for so long: the rest is missing.
pub(super) const STUCK: Duration = Duration::from_secs(20);

fn spawn_writer(
    log: PathBuf,
    tickers: Tickers,
    pace: Pace,
    gauges: Arc<Gauges>,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(async move {
        let written = writer::write(&log, &tickers, pace, &gauges).await;
        written.with_context(|| format!("cannot write {}", log.display()))
    })
}

/// Until all that the stand-in has stored was handed out; or nothing comes any more.
async fn read_to_the_tip<M: FnMut(Way, &mut ConsumedBatch) + Send>(
    readers: &mut [Reader<'_, M>],
    fake: &Fake,
) -> anyhow::Result<()> {
    let stored = fake.counters().records_stored;
    loop {
        let entries: u64 = readers.iter().map(Reader::entries).sum();
        if entries >= stored {
            return Ok(());
        }
        let next = select_all(readers.iter_mut().map(|reader| Box::pin(reader.next())));
        let Ok((batch, index, _)) = timeout(STUCK, next).await else {
            tracing::error!(entries, stored, "Kinesis records do not come back");
            return Ok(());
        };
        readers[index].take(batch?);
    }
}

pub(super) fn endpoints(fake: &Fake) -> aws::Settings {
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

pub(super) fn context() -> EncryptionContext {
    EncryptionContext::from([("app".into(), "demo".into())])
}
