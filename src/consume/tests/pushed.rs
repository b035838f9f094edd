//! Subscribing, to the same stream in memory.

use super::super::fanout::{Room, Subscription};
use super::*;

/// Pushes what the stream has, event by event.
#[derive(Debug)]
struct Pushing {
    stream: Arc<InMemory>,
    /// Events of one subscription; then the service ends it.
    lasts: usize,
    /// So soon after a subscription another one is refused.
    gap: Duration,
    /// When which was made.
    made: Mutex<Vec<(Instant, Position)>>,
    /// What the next calls are refused with.
    refusals: Mutex<VecDeque<CallError>>,
}

/// A subscription.
#[derive(Debug)]
struct Pushed {
    stream: Arc<InMemory>,
    shard: ShardId,
    at: usize,
    left: usize,
    /// The tip was told.
    is_idle: bool,
}

impl Pushing {
    fn new(stream: InMemory, lasts: usize) -> Self {
        Self {
            stream: Arc::new(stream),
            lasts,
            gap: Duration::ZERO,
            made: Mutex::default(),
            refusals: Mutex::default(),
        }
    }

    fn refuse(&self, code: &str) {
        let error = CallError {
            code: code.to_owned(),
            message: "scripted".to_owned(),
            status: Some(400),
        };
        self.refusals.lock().unwrap().push_back(error);
    }

    fn positions(&self) -> Vec<Position> {
        let made = self.made.lock().unwrap();
        made.iter().map(|made| made.1.clone()).collect()
    }
}

impl ListStream for Pushing {
    fn shards(&self) -> BoxFuture<'_, Result<Vec<ListedShard>, CallError>> {
        self.stream.shards()
    }
}

impl SubscribeStream for Pushing {
    fn consumer(&self) -> &str {
        "shop"
    }

    fn subscribe<'a>(
        &'a self,
        shard: &'a ShardId,
        from: &'a Position,
        _: Room,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, CallError>> {
        async move {
            if let Some(refusal) = self.refusals.lock().unwrap().pop_front() {
                return Err(refusal);
            }
            let now = Instant::now();
            let last = self.made.lock().unwrap().last().map(|made| made.0);
            if last.is_some_and(|last| now < last + self.gap) {
                return Err(CallError {
                    code: "ResourceInUseException".to_owned(),
                    message: "another subscription".to_owned(),
                    status: Some(400),
                });
            }
            let iterator = self.stream.iterator(shard, from).await?;
            self.made.lock().unwrap().push((now, from.clone()));
            let (_, at) = iterator.split_once('|').unwrap();
            Ok(Box::new(Pushed {
                stream: Arc::clone(&self.stream),
                shard: shard.clone(),
                at: at.parse().unwrap(),
                left: self.lasts,
                is_idle: false,
            }) as Box<dyn Subscription>)
        }
        .boxed()
    }
}

impl Subscription for Pushed {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Page>, CallError>> {
        async move {
            if self.left == 0 {
                return Ok(None);
            }
            self.left -= 1;
            if self.is_idle {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            let mut page = self.stream.answer(&format!("{}|{}", self.shard, self.at))?;
            self.is_idle = page.records.is_empty();
            self.at += page.records.len();
            if let Some(next) = &mut page.next {
                // A number on the way to the next record's.
                *next = (self.at.max(1) - 1).to_string();
            }
            Ok(Some(page))
        }
        .boxed()
    }
}

fn subscribe(stream: &Arc<Pushing>, settings: Settings) -> (Consumer, Stop) {
    let (stop, shutdown) = shutdown::channel();
    let unpacker = Unpacker::as_stored(1).unwrap();
    let stream = Arc::clone(stream) as Arc<dyn SubscribeStream>;
    let consumer = Consumer::subscribe(stream, unpacker, settings, shutdown);
    (consumer, stop)
}

/// What comes, and how it ends.
async fn read(stream: &Arc<Pushing>, settings: Settings) -> (Vec<String>, Result<(), String>) {
    let (mut consumer, _stop) = subscribe(stream, settings);
    let mut seen = Vec::new();
    while let Some(batch) = consumer.next().await {
        seen.extend(lines(&batch));
    }
    let ended = consumer.finish().await;
    (seen, ended.map_err(|error| error.to_string()))
}

#[tokio::test(start_paused = true)]
async fn records_come_once_and_in_order_through_subscriptions_that_end_one_a_second() {
    let pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 10), 1);
    let pushing = Arc::new(pushing);
    assert_eq!(
        read(&pushing, until_empty()).await,
        (all("0", 0..10), Ok(()))
    );
    let made = pushing.made.lock().unwrap();
    assert_eq!(made[0].1, Position::TrimHorizon);
    assert_eq!(made[1].1, Position::After("2".into()));
    assert!(made.len() >= 5);
    for pair in made.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_breaks_is_followed_by_one_behind_what_was_given_out() {
    let pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 7), usize::MAX);
    let pushing = Arc::new(pushing);
    let (mut consumer, _stop) = subscribe(&pushing, until_empty());
    assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
    pushing.stream.fail(&[
        ("ConnectionLost", None),
        ("InternalFailure", Some(500)),
        ("ResourceInUseException", Some(400)),
        ("ExpiredTokenException", Some(400)),
    ]);
    let mut seen = Vec::new();
    while let Some(batch) = consumer.next().await {
        seen.extend(lines(&batch));
    }
    assert_eq!(seen, all("0", 3..7));
    assert!(
        pushing.positions()[1..]
            .iter()
            .all(|p| matches!(p, Position::After(_)))
    );
}

#[tokio::test(start_paused = true)]
async fn where_nothing_came_the_next_subscription_goes_on_where_the_service_says() {
    let pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 3), 2);
    let pushing = Arc::new(pushing);
    let settings = Settings {
        places: BTreeMap::from([(ShardId::new("0"), Progress::Since(SystemTime::now()))]),
        ..Settings::default()
    };
    let (mut consumer, _stop) = subscribe(&pushing, settings);
    let idle = timeout(Duration::from_secs(30), next(&mut consumer)).await;
    assert!(idle.is_err(), "{idle:?}");
    let positions = pushing.positions();
    assert!(matches!(positions[0], Position::At(_)));
    assert!(positions.len() > 3);
    let go_on = Position::After("2".into());
    assert!(positions[1..].iter().all(|p| *p == go_on), "{positions:?}");
    pushing.stream.append("0", 3);
    assert_eq!(lines(&next(&mut consumer).await), ["0-3"]);
}

#[tokio::test(start_paused = true)]
async fn from_latest_a_subscription_that_breaks_unused_skips_nothing() {
    let pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 5), 0);
    let pushing = Arc::new(pushing);
    let settings = Settings {
        from: StartAt::Latest,
        ..Settings::default()
    };
    let (mut consumer, _stop) = subscribe(&pushing, settings);
    let idle = timeout(Duration::from_secs(3), next(&mut consumer)).await;
    assert!(idle.is_err(), "{idle:?}");
    let positions = pushing.positions();
    assert_eq!(positions[0], Position::Latest);
    assert!(positions[1..].iter().all(|p| matches!(p, Position::At(_))));
}

#[tokio::test(start_paused = true)]
async fn pushed_children_come_after_both_parents_and_a_split_goes_on_in_them() {
    for tells_children in [true, false] {
        let mut stream = InMemory::new(2)
            .shard("0", &[], true, 9)
            .shard("1", &[], true, 1)
            .shard("2", &["0", "1"], false, 3);
        stream.tells_children = tells_children;
        let pushing = Arc::new(Pushing::new(stream, usize::MAX));
        let (mut consumer, _stop) = subscribe(&pushing, Settings::default());
        let mut seen = Vec::new();
        while seen.len() < 13 {
            seen.extend(lines(&next(&mut consumer).await));
        }
        let parents = seen.iter().take(10).all(|line| line < &"2".to_owned());
        assert!(parents, "{seen:?}");
        assert_eq!(seen[10..], all("2", 0..3));
        pushing.stream.add("3", &["2"], false, 1);
        pushing.stream.close("2");
        assert_eq!(lines(&next(&mut consumer).await), ["3-0"]);
    }
}

/// As after kill -9: the service holds the other's subscription for five seconds.
#[tokio::test(start_paused = true)]
async fn another_ones_subscription_is_waited_for_at_the_pace_of_calls() {
    let mut pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 3), usize::MAX);
    pushing.gap = Duration::from_secs(5);
    let began = Instant::now();
    pushing.made.lock().unwrap().push((began, Position::Latest));
    let pushing = Arc::new(pushing);
    assert_eq!(
        read(&pushing, until_empty()).await,
        (all("0", 0..3), Ok(()))
    );
    let made = pushing.made.lock().unwrap()[1].0;
    assert_eq!(made - began, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_the_start_names_the_permission_and_later_it_is_waited_out() {
    let pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 3), 1);
    let pushing = Arc::new(pushing);
    pushing.refuse("AccessDeniedException");
    let error = read(&pushing, until_empty()).await.1.unwrap_err();
    assert!(error.contains("allow kinesis:SubscribeToShard"), "{error}");
    let (mut consumer, stop) = subscribe(&pushing, Settings::default());
    assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
    pushing.refuse("AccessDeniedException");
    pushing.refuse("LimitExceededException");
    pushing.stream.append("0", 3);
    assert_eq!(lines(&next(&mut consumer).await), ["0-3"]);
    // Of a shard that is new, too.
    pushing.stream.add("1", &["0"], false, 1);
    pushing.stream.close("0");
    pushing.refuse("AccessDeniedException");
    assert_eq!(lines(&next(&mut consumer).await), ["1-0"]);
    assert!(pushing.refusals.lock().unwrap().is_empty());
    stop.stop();
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_was_deregistered_is_told_from_a_stream_that_is_gone() {
    let pushing = Pushing::new(InMemory::new(3).shard("0", &[], false, 3), 1);
    let pushing = Arc::new(pushing);
    let (mut consumer, _stop) = subscribe(&pushing, Settings::default());
    assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
    pushing.refuse("ResourceNotFoundException");
    while consumer.next().await.is_some() {}
    let error = consumer.finish().await.unwrap_err().to_string();
    assert!(
        error.starts_with("consumer shop is not registered any more"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_waits_while_batches_are_kept() {
    let pushing = Pushing::new(InMemory::new(1).shard("0", &[], false, 2), usize::MAX);
    let settings = Settings {
        memory_limit: 0,
        ..until_empty()
    };
    let (mut consumer, _stop) = subscribe(&Arc::new(pushing), settings);
    let kept = consumer.next().await.unwrap();
    let more = timeout(Duration::from_secs(60), consumer.next()).await;
    assert!(more.is_err(), "{more:?}");
    drop(kept);
    assert_eq!(lines(&next(&mut consumer).await), ["0-1"]);
}
