//! Streams that come and go, before a stand-in for the service.

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::{Receiver, pipe};
use tokio::sync::watch;

use super::*;
use crate::daemon::clients::{Overrides, Trust, clients, http_client};
use crate::daemon::configuration::Configuration;
use crate::daemon::message::{Answer, Credentials, PutRecord, PutRecordResult};
use crate::daemon::results::Outbox;
use crate::daemon::spools::{self, Home};
use crate::daemon::streams::{IDLE, Template, Watched};
use crate::fake::{self, Fake};
use crate::producer::Shared;
use crate::{deadletter, seal, spool};

struct Site {
    fake: Fake,
    session: Session,
    watched: Watched,
    metrics: Arc<Metrics>,
    answers: Receiver,
    _ended: watch::Sender<bool>,
}

impl Site {
    async fn start(home: Option<Home>) -> Self {
        let fake = Fake::start().await.expect("a port");
        let configuration = Configuration::default();
        let overrides = Overrides {
            kinesis_url: Some(fake.kinesis_url()),
            ..Overrides::default()
        };
        let credentials = Arc::new(PipeCredentials::new(Some(Credentials {
            akid: "test".to_owned(),
            secret_key: "test".to_owned(),
            token: None,
        })));
        let http = http_client(&configuration, &Trust::default()).unwrap();
        let region = fake::DEFAULT_REGION;
        let clients = clients(&configuration, &overrides, region, http, &credentials);
        let (watched, metrics) = (Watched::default(), Arc::new(Metrics::new(Vec::new())));
        let outbox: Arc<Outbox> = Arc::default();
        let (to_client, answers) = pipe().expect("a pipe");
        let (ended, has_ended) = watch::channel(false);
        let writing = Arc::clone(&outbox);
        tokio::spawn(async move { writing.write_to(to_client, has_ended).await });
        let streams = Streams::new(
            Shared::new(clients).unwrap(),
            Template::new(&configuration, seal::Settings::off(), home.is_some()),
            48 << 20,
            home,
            Arc::clone(&metrics),
            Arc::clone(&outbox),
            watched.clone(),
        );
        let session = Session::new(
            streams,
            outbox,
            Arc::clone(&metrics),
            Arc::clone(&credentials),
            credentials,
            Duration::from_secs(10),
            Parent::new(),
        );
        Self {
            fake,
            session,
            watched,
            metrics,
            answers,
            _ended: ended,
        }
    }

    fn enqueue(&mut self, id: u64, stream: &str) {
        self.enqueue_with(id, stream, Some("k"));
    }

    fn enqueue_with(&mut self, id: u64, stream: &str, key: Option<&str>) {
        let record = PutRecord {
            stream_name: stream.to_owned(),
            partition_key: key.map(str::to_owned),
            explicit_hash_key: None,
            data: format!("record {id}").into(),
        };
        let (mut frame, mut asked) = (Vec::new(), Vec::new());
        record.encode(id, &mut frame);
        self.session.take(Bytes::from(frame).slice(4..), &mut asked);
        self.session.enqueue(&mut asked);
    }

    /// What is queued first goes its way, and has its answer; nothing of its stream is pending then.
    async fn put(&mut self, stream: &str) -> PutRecordResult {
        let place = self.session.streams.place(stream).unwrap();
        if !self.session.undescribed.is_empty() {
            let mut distribution = self.session.streams.get(place).pipeline.distribution();
            distribution.changed().await;
            self.session.take_described(Instant::now());
        }
        let room = self.session.room().await;
        self.session.put_first(room);
        self.session.streams.get(place).pipeline.flush().await;
        self.answer().await
    }

    async fn answer(&mut self) -> PutRecordResult {
        let length = self.answers.read_u32().await.unwrap();
        let mut body = vec![0; length as usize];
        self.answers.read_exact(&mut body).await.unwrap();
        Answer::decode(&body).unwrap().result.unwrap()
    }

    async fn look(&mut self, now: Instant) -> Vec<String> {
        self.session.looks_at = now;
        self.session.let_go(now).await;
        let views = self.watched.views();
        views.iter().map(|view| view.stream().to_string()).collect()
    }
}

async fn comes_and_goes(home: Option<Home>) {
    let mut site = Site::start(home).await;
    for stream in ["one", "other"] {
        site.fake.create_stream(stream, 1).unwrap();
    }
    site.enqueue(1, "one");
    assert!(site.put("one").await.success);
    let began = Instant::now();
    assert_eq!(site.look(began).await, ["one"]);
    // It has had something to do since it was looked last, or will have.
    site.enqueue(2, "one");
    assert!(site.put("one").await.success);
    assert_eq!(site.look(began + IDLE).await, ["one"]);
    site.enqueue(3, "one");
    assert_eq!(site.look(began + IDLE * 3).await, ["one"]);
    assert!(site.put("one").await.success);
    assert_eq!(site.look(began + IDLE * 4).await, ["one"]);
    site.enqueue(4, "other");
    assert!(site.put("other").await.success);
    assert_eq!(site.look(began + IDLE * 5).await, ["other"]);
    // It comes back by itself, and to what was counted of it.
    site.enqueue(5, "one");
    assert!(site.put("one").await.success);
    assert_eq!(site.fake.records("one").unwrap().len(), 4);
    let views = site.watched.views();
    let one = views.iter().find(|view| view.stream().name() == "one");
    let counts = one.expect("it is back").figures().await.counts;
    assert_eq!((counts.accepted, counts.stored, counts.pending), (4, 4, 0));
    assert!(counts.balance(), "{counts:?}");
    let request = MetricsRequest {
        name: Some("UserRecordsReceived".to_owned()),
        seconds: None,
    };
    let metrics = site.metrics.answer(&request, Instant::now()).metrics;
    let sums: Vec<_> = metrics.iter().map(|metric| metric.stats.sum).collect();
    assert_eq!(sums, [5.0, 4.0, 1.0]);
    let (streams, without_room) = site.session.into_parts();
    let unanswered = streams.close(Instant::now() + IDLE).await;
    assert_eq!((unanswered.abandoned, unanswered.spooled), (0, 0));
    assert_eq!(without_room, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_nothing_to_do_is_let_go_and_comes_back_with_all_that_was_counted() {
    comes_and_goes(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_with_one_that_has_a_spool() {
    let dir = tempfile::tempdir().unwrap();
    let settings = spools::Settings {
        spool: spool::Settings {
            path: dir.path().to_owned(),
            ..spool::Settings::under(dir.path())
        },
        dead_letter: deadletter::Settings::default(),
    };
    comes_and_goes(Some(Home::take(&settings).unwrap())).await;
}

/// Also those that come before the stream has been described, with a keyed one among them.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_a_key_is_refused_where_records_go_by_their_keys() {
    let mut site = Site::start(None).await;
    site.fake.create_stream("one", 1).unwrap();
    for (id, key) in [(1, None), (2, None)] {
        site.enqueue_with(id, "one", key);
    }
    let refused = [site.put("one").await, site.answer().await];
    for result in refused {
        let code = result.attempts[0].error_code.as_deref();
        assert!(!result.success);
        assert_eq!(code, Some("InvalidPartitionKey"));
    }
    site.enqueue_with(3, "one", Some("k"));
    assert!(site.put("one").await.success);
    assert_eq!(site.fake.records("one").unwrap().len(), 1);

    site.fake.create_stream("auto", 1).unwrap();
    site.fake
        .set_distribution("auto", fake::Distribution::Auto)
        .unwrap();
    site.enqueue_with(4, "auto", None);
    assert!(site.put("auto").await.success);
}

/// While nobody says whether they may be without. They once held up all streams.
#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_key_wait_aside_and_hold_up_no_other_stream() {
    let mut site = Site::start(None).await;
    let failing = fake::Action::Error(fake::ApiError::new("InternalFailure", "no"));
    let rule = fake::Rule::new(failing).on("DescribeStreamSummary");
    site.fake.set_faults(fake::Faults::seeded(1).rule(rule));
    for (id, stream, key) in [
        (1, "one", None),
        (2, "one", Some("k")),
        (3, "other", Some("k")),
    ] {
        site.enqueue_with(id, stream, key);
    }
    let ids = |records: &[Asked]| records.iter().map(|asked| asked.id).collect::<Vec<_>>();
    let session = &mut site.session;
    let aside: Vec<_> = session
        .undescribed
        .iter()
        .map(|waiting| ids(&waiting.records))
        .collect();
    assert_eq!(aside, [[1]]);
    let queued = |session: &Session| -> Vec<_> {
        let of = |queued: &Queued| match queued {
            Queued::Records { records, .. } => ids(records),
            Queued::Flush(_) => Vec::new(),
        };
        session.queue.iter().map(of).collect()
    };
    assert_eq!(queued(session), [[2], [3]]);
    session.take_described(Instant::now());
    assert_eq!(session.undescribed.len(), 1);
    // In time they go on without.
    session.take_described(Instant::now() + Duration::from_secs(4));
    assert_eq!(queued(session), [[2], [3], [1]]);
    assert!(session.undescribed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_take_no_more_than_what_they_are_of() {
    let mut site = Site::start(None).await;
    let flush = |site: &mut Site, stream: Option<&str>| site.session.queue_flush(stream);
    for _ in 0..1000 {
        flush(&mut site, Some("nobody put anything to it"));
    }
    assert!(site.session.queue.is_empty());
    for n in 0..1000 {
        site.enqueue(n, "one");
        let before = site.session.queue.len();
        for _ in 0..10 {
            flush(&mut site, Some("one"));
        }
        assert_eq!(site.session.queue.len(), before + 1);
    }
    let queued = site.session.queued_bytes;
    assert!(queued > 1000 * (ENTRY + JOURNAL), "{queued}");
    flush(&mut site, None);
    assert!(matches!(
        site.session.queue.back(),
        Some(Queued::Flush(None))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stream_may_use_all_of_the_memory_that_others_do_not() {
    let mut site = Site::start(None).await;
    for stream in ["one", "other"] {
        site.session.streams.place(stream).unwrap();
    }
    for view in site.watched.views() {
        let figures = view.figures().await;
        // An eighth is for what waits to be handed over.
        assert_eq!(figures.memory_limit, (48 << 20) / 8 * 7);
    }
}
