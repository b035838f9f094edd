//! The two ways that the demo's lines take, side by side: an agent, a stream and a consumer each.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use super::account::Account;
use super::journey::{ALIAS, STUCK, context, endpoints};
use super::progress::{Gauges, State};
use super::reader::Reader;
use super::ticker::Tickers;
use super::writer::Pace;
use crate::agent::{self, Agent, SourceKind, StreamReport};
use crate::aws::{self, TimeOuts};
use crate::consume::{self, ConsumedBatch, Consumer, KinesisStream, Plaintext, Unpacker};
use crate::fake::Fake;
use crate::record::StreamName;
use crate::seal::key::UnwrapDataKey;
use crate::seal::kms::KmsUnwrap;
use crate::seal::open::{OpenSettings, Opener};
use crate::seal::{self, CacheSettings, KeyChoice, Scope, block, message};
use crate::shutdown::{self, Shutdown};
use crate::source::tail;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `scope = "record"`
    Record,
    /// `preset = "compact"`
    Compact,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::Record, Self::Compact];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Compact => "compact",
        }
    }

    pub(super) fn stream(self) -> &'static str {
        match self {
            Self::Record => "stock-sales",
            Self::Compact => "stock-sales-compact",
        }
    }

    fn scope(self) -> Scope {
        let key = KeyChoice::Kms(vec![ALIAS.into()]);
        match self {
            Self::Record => Scope::Record(key),
            // Its linger is half the demo, but blocks fill long before, and the last is flushed.
            Self::Compact => Scope::Block(key, block::Settings::compact()),
        }
    }

    /// `kinseal agent --stream stock-sales --file sales.log --kms-key alias/demo …`
    fn shipping(self, fake: &Fake, dir: &Path, log: &Path) -> anyhow::Result<agent::Settings> {
        let log = log.to_str().context("TMPDIR is not UTF-8")?;
        let follow = SourceKind::File(tail::Settings {
            include: vec![globset::escape(log)],
            start_position: tail::StartPosition::Beginning,
            ..tail::Settings::default()
        });
        let encryption = seal::Settings {
            scope: self.scope(),
            context: context(),
            cache: CacheSettings::default(),
            message: message::Settings::default(),
        };
        let state = dir.join(self.name());
        std::fs::create_dir(&state).context("cannot make the state directory")?;
        let stream = StreamName::new(self.stream())?;
        let settings = agent::Settings::for_one(stream, follow, encryption, endpoints(fake), state);
        Ok(agent::Settings {
            log_interval: None,
            core_dumps: false,
            ..settings
        })
    }

    /// `kinseal consume --stream stock-sales --kms-key alias/demo --context app=demo …`
    async fn reading(self, fake: &Fake, stop: Shutdown) -> anyhow::Result<Consumer> {
        let clients = aws::clients(&endpoints(fake), TimeOuts::default()).await?;
        let unwrap: Arc<dyn UnwrapDataKey> = Arc::new(KmsUnwrap::new(clients.kms, [ALIAS]));
        let opener = Opener::new(vec![unwrap], context(), OpenSettings::default())?;
        let threads = available_parallelism().map_or(1, usize::from);
        let unpacker = Unpacker::opening(Arc::new(opener), Plaintext::Refused, threads)?;
        let stream = KinesisStream::new(clients.kinesis, StreamName::new(self.stream())?);
        let settings = consume::Settings {
            // As often as the service allows each shard to be asked, less one.
            idle: Duration::from_millis(250),
            ..consume::Settings::default()
        };
        Ok(Consumer::start(Arc::new(stream), unpacker, settings, stop))
    }
}

/// An agent and a consumer at work.
pub(super) struct Running<'m, M> {
    agent: Agent,
    reader: Reader<'m, M>,
}

/// What is not stored then has met more than a slow machine.
const GRACE: Duration = Duration::from_secs(20);

impl<'m, M: FnMut(Way, &mut ConsumedBatch) + Send> Running<'m, M> {
    pub(super) async fn start(
        way: Way,
        fake: &Fake,
        log: &Path,
        account: (&Tickers, Pace),
        gauges: &Arc<Gauges>,
        meddle: &'m Mutex<M>,
    ) -> anyhow::Result<Self> {
        let dir = log.parent().context("the file lies in a directory")?;
        let agent = Agent::start(&way.shipping(fake, dir, log)?).await?;
        let (stop, stopped) = shutdown::channel();
        let consumer = way.reading(fake, stopped).await?;
        let (tickers, pace) = account;
        let account = Account::new(tickers.clone(), pace.records);
        Ok(Self {
            agent,
            reader: Reader::new(way, (consumer, stop), account, Arc::clone(gauges), meddle),
        })
    }

    /// Until all is written and stored and the agent has stopped, and read back as far as it came.
    pub(super) async fn ship(
        self,
        writing: &JoinHandle<anyhow::Result<()>>,
        gauges: &Gauges,
    ) -> anyhow::Result<(StreamReport, Reader<'m, M>)> {
        let Self { agent, mut reader } = self;
        let way = reader.way();
        reader
            .read_while(all_stored(way, &agent, writing, gauges))
            .await?;
        let sent = reader.read_while(agent.stop(GRACE)).await??;
        let sent = sent.streams.into_iter().next();
        Ok((sent.expect("one stream was configured"), reader))
    }
}

/// Resolves when the file is written, read and stored; or when nothing moves any more. Cancel safe.
async fn all_stored(
    way: Way,
    agent: &Agent,
    writing: &JoinHandle<anyhow::Result<()>>,
    gauges: &Gauges,
) {
    const LOOK: Duration = Duration::from_millis(100);
    let mut ticks = interval(LOOK);
    let mut moved = (Instant::now(), (0, 0, 0));
    loop {
        ticks.tick().await;
        let counts = agent.report().await.streams[0].counts;
        gauges.set_stored(way, counts.stored);
        // The last block would wait for lines that do not come.
        if writing.is_finished()
            && counts.accepted >= gauges.look().written
            && timeout(LOOK, agent.flush()).await.is_ok()
        {
            gauges.set_stored(way, counts.accepted);
            return;
        }
        let State {
            written, read_back, ..
        } = gauges.look();
        let now = (written, counts.stored, read_back);
        if moved.1 != now {
            moved = (Instant::now(), now);
        }
        if moved.0.elapsed() > STUCK {
            tracing::error!(way = way.name(), written, ?counts, "nothing moves any more");
            return;
        }
    }
}
