//! On a paused clock: when what is asked, and what is known then.

use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::shard::map::tests::even;
use crate::shard::{Description, Distribution, Shard};

const DENIED: &str = "AccessDeniedException";

/// A stream that notes when it was asked.
#[derive(Debug)]
struct Stream {
    shards: Mutex<Result<Vec<Shard>, &'static str>>,
    distribution: Mutex<Result<Distribution, &'static str>>,
    max_record_bytes: Mutex<Option<usize>>,
    began: Instant,
    listed: Mutex<Vec<Duration>>,
    described: Mutex<Vec<Duration>>,
}

impl Stream {
    fn of(shards: u128) -> Arc<Self> {
        Arc::new(Self {
            shards: Mutex::new(Ok(even(shards).shards().to_vec())),
            distribution: Mutex::new(Ok(Distribution::ByKey)),
            max_record_bytes: Mutex::new(Some(1 << 20)),
            began: Instant::now(),
            listed: Mutex::default(),
            described: Mutex::default(),
        })
    }

    fn watch(self: &Arc<Self>) -> (Refresh, value::Receiver<Option<Facts>>) {
        let shards: Arc<dyn ListShards> = Arc::<Self>::clone(self);
        let (refresh, facts, _) = watch(
            shards,
            StreamName::new("s").unwrap(),
            batch::Settings::default(),
            usize::MAX,
            patient(),
        );
        (refresh, facts)
    }

    fn set_shards(&self, shards: Result<u128, &'static str>) {
        *self.shards.lock().unwrap() = shards.map(|n| even(n).shards().to_vec());
    }

    fn set_distribution(&self, distribution: Result<Distribution, &'static str>) {
        *self.distribution.lock().unwrap() = distribution;
    }

    fn listed(&self) -> Vec<Duration> {
        self.listed.lock().unwrap().clone()
    }

    fn described(&self) -> Vec<Duration> {
        self.described.lock().unwrap().clone()
    }
}

fn refusal(code: &str) -> ListShardsError {
    ListShardsError {
        code: code.to_owned(),
        message: "as scripted".to_owned(),
    }
}

impl ListShards for Stream {
    fn list_shards<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Vec<Shard>, ListShardsError>> {
        self.listed.lock().unwrap().push(self.began.elapsed());
        let listed = self.shards.lock().unwrap().clone().map_err(refusal);
        async move { listed }.boxed()
    }

    fn describe<'a>(
        &'a self,
        _: &'a StreamName,
    ) -> BoxFuture<'a, Result<Description, ListShardsError>> {
        self.described.lock().unwrap().push(self.began.elapsed());
        let described = *self.distribution.lock().unwrap();
        let described = described
            .map(|distribution| Description {
                distribution,
                max_record_bytes: *self.max_record_bytes.lock().unwrap(),
            })
            .map_err(refusal);
        async move { described }.boxed()
    }
}

fn known(shards: u128) -> Routes {
    Routes::Known(Arc::new(even(shards)))
}

/// Longer than any age.
const LONG: Duration = Duration::from_secs(361);

/// What is known next.
async fn next(facts: &mut value::Receiver<Option<Facts>>) -> Routes {
    facts.changed().await.unwrap();
    latest(facts)
}

fn latest(facts: &value::Receiver<Option<Facts>>) -> Routes {
    facts.borrow().clone().unwrap().routes
}

#[tokio::test(start_paused = true)]
async fn what_is_known_is_read_again_by_age_and_not_by_all_at_the_same_time() {
    let streams: Vec<_> = (0..50).map(|_| Stream::of(2)).collect();
    let watched: Vec<_> = streams.iter().map(Stream::watch).collect();
    tokio::time::sleep(LONG).await;
    let ages: Vec<u64> = (streams.iter())
        .map(|stream| {
            assert_eq!(stream.listed().len(), stream.described().len());
            stream.listed()[1].as_secs()
        })
        .collect();
    let (least, most) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    assert!((240..=360).contains(least) && (240..=360).contains(most));
    assert!(most - least > 60, "of 50 the chance is below 1 in 10^12");
    drop(watched);
}

#[tokio::test(start_paused = true)]
async fn evidence_brings_a_listing_one_a_second_and_no_description() {
    let stream = Stream::of(1);
    let (refresh, mut routes) = stream.watch();
    next(&mut routes).await;
    for shards in 2..7 {
        stream.set_shards(Ok(shards));
        for _ in 0..10 {
            refresh.request();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let listed = stream.listed();
    assert!((5..=7).contains(&listed.len()), "{listed:?}");
    assert!(listed.windows(2).all(|w| w[1] - w[0] >= PAUSE));
    assert_eq!(latest(&routes), known(6));
    assert_eq!(stream.described().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_equal_listing_leaves_the_very_same_map() {
    let stream = Stream::of(3);
    let (_refresh, mut routes) = stream.watch();
    let Routes::Known(before) = next(&mut routes).await else {
        panic!("the stream lists its shards");
    };
    let Routes::Known(after) = next(&mut routes).await else {
        panic!("the stream lists its shards");
    };
    assert!(stream.listed().len() > 1);
    assert!(Arc::ptr_eq(&before, &after));
}

#[tokio::test(start_paused = true)]
async fn evidence_that_the_listing_does_not_explain_has_the_stream_described_again() {
    let stream = Stream::of(3);
    let (refresh, mut routes) = stream.watch();
    assert_eq!(next(&mut routes).await, known(3));
    tokio::time::sleep(Duration::from_secs(60)).await;
    stream.set_distribution(Ok(Distribution::Auto));
    refresh.request();
    assert_eq!(next(&mut routes).await, Routes::Auto);
    let answered = stream.described()[1];
    assert!(answered < Duration::from_secs(62), "{answered:?}");
    assert_eq!(stream.listed().len(), 2);
    // Nothing is listed where keys lead nowhere, until they count again.
    stream.set_distribution(Ok(Distribution::ByKey));
    refresh.request();
    assert_eq!(next(&mut routes).await, Routes::Auto);
    assert_eq!(next(&mut routes).await, known(3));
    assert_eq!((stream.listed().len(), stream.described().len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn doubt_that_lasts_where_nobody_may_ask_makes_it_a_stream_that_distributes_by_itself() {
    let stream = Stream::of(2);
    stream.set_distribution(Err(DENIED));
    let (refresh, mut facts) = stream.watch();
    assert_eq!(next(&mut facts).await, known(2));
    // Once is a reshard that is not listed yet, say.
    refresh.request();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(latest(&facts), known(2));
    let mut seconds = 0;
    while latest(&facts) != Routes::Auto {
        refresh.request();
        tokio::time::sleep(Duration::from_secs(1)).await;
        seconds += 1;
        assert!(seconds < 30, "still {:?}", latest(&facts));
    }
    assert!(seconds >= 10, "after {seconds} s");
    // It is allowed at last.
    stream.set_distribution(Ok(Distribution::ByKey));
    tokio::time::sleep(LONG).await;
    assert_eq!(latest(&facts), known(2));
}

#[tokio::test(start_paused = true)]
async fn lasting_doubt_describes_every_ten_seconds_at_most() {
    let stream = Stream::of(3);
    let (refresh, _routes) = stream.watch();
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        refresh.request();
    }
    let described = stream.described();
    assert!((4..=7).contains(&described.len()), "{described:?}");
    assert!(described.windows(2).all(|w| w[1] - w[0] >= DOUBT_PAUSE));
}

#[tokio::test(start_paused = true)]
async fn while_a_listing_fails_the_old_map_serves_and_it_is_tried_until_it_succeeds() {
    let stream = Stream::of(2);
    let (refresh, mut routes) = stream.watch();
    next(&mut routes).await;
    stream.set_shards(Err("LimitExceededException"));
    refresh.request();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stream.listed().len() > 5, "{:?}", stream.listed());
    assert!(!routes.has_changed().unwrap());
    assert_eq!(latest(&routes), known(2));
    stream.set_shards(Ok(4));
    assert_eq!(next(&mut routes).await, known(4));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_at_the_start_is_tried_until_it_succeeds_at_growing_intervals() {
    let stream = Stream::of(2);
    stream.set_shards(Err("InternalFailure"));
    let (_refresh, mut routes) = stream.watch();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let listed = stream.listed();
    // 5 s each on average: the delay is drawn below its bound of 10 s.
    assert!((500..1000).contains(&listed.len()), "{}", listed.len());
    assert!(
        listed
            .windows(2)
            .all(|w| w[1] - w[0] <= Duration::from_secs(11))
    );
    stream.set_shards(Ok(2));
    assert_eq!(next(&mut routes).await, known(2));
}

#[tokio::test(start_paused = true)]
async fn a_listing_with_a_hole_is_no_map_and_is_asked_for_again() {
    let stream = Stream::of(3);
    stream.shards.lock().unwrap().as_mut().unwrap().remove(1);
    let (_refresh, mut routes) = stream.watch();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(stream.listed().len() > 5, "{:?}", stream.listed());
    assert_eq!(routes.borrow().clone(), None);
    stream.set_shards(Ok(3));
    assert_eq!(next(&mut routes).await, known(3));
}

#[tokio::test(start_paused = true)]
async fn permission_that_comes_later_is_used_and_one_that_goes_is_missed_only_once() {
    let stream = Stream::of(2);
    stream.set_shards(Err(DENIED));
    stream.set_distribution(Err(DENIED));
    let (_refresh, mut routes) = stream.watch();
    assert_eq!(next(&mut routes).await, Routes::Unpredictable);
    stream.set_shards(Ok(2));
    assert_eq!(next(&mut routes).await, known(2));
    stream.set_distribution(Ok(Distribution::Auto));
    assert_eq!(next(&mut routes).await, Routes::Auto);
    // What was known last is likelier than what most streams do.
    stream.set_distribution(Err(DENIED));
    assert_eq!(next(&mut routes).await, Routes::Auto);
}

#[tokio::test(start_paused = true)]
async fn a_description_that_fails_leaves_the_last_one() {
    let stream = Stream::of(2);
    stream.set_distribution(Ok(Distribution::Auto));
    let (_refresh, mut routes) = stream.watch();
    assert_eq!(next(&mut routes).await, Routes::Auto);
    stream.set_distribution(Err("LimitExceededException"));
    assert_eq!(next(&mut routes).await, Routes::Auto);
    assert_eq!(stream.described().len(), 2, "once each time");
    stream.set_distribution(Ok(Distribution::ByKey));
    assert_eq!(next(&mut routes).await, known(2));
}

#[tokio::test(start_paused = true)]
async fn the_upkeep_ends_with_its_owner() {
    let stream = Stream::of(2);
    let shards: Arc<dyn ListShards> = Arc::<Stream>::clone(&stream);
    let name = StreamName::new("s").unwrap();
    let (_refresh, mut routes, task) = watch(
        shards,
        name,
        batch::Settings::default(),
        usize::MAX,
        patient(),
    );
    next(&mut routes).await;
    drop(routes);
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_larger_record_that_the_stream_takes_is_known_by_age_and_leaves_the_map_as_it_is() {
    let stream = Stream::of(2);
    let (_refresh, mut facts) = stream.watch();
    let before = next(&mut facts).await;
    let record = |facts: &value::Receiver<Option<Facts>>| {
        let facts = facts.borrow().clone().unwrap();
        facts.limits.max_record_bytes >> 20
    };
    assert_eq!(record(&facts), 1);
    *stream.max_record_bytes.lock().unwrap() = Some(4 << 20);
    let after = next(&mut facts).await;
    assert_eq!(record(&facts), 4);
    let (Routes::Known(before), Routes::Known(after)) = (before, after) else {
        panic!("the stream lists its shards");
    };
    assert!(Arc::ptr_eq(&before, &after));
    stream.set_distribution(Err(DENIED));
    next(&mut facts).await;
    assert_eq!(record(&facts), 4, "what was known last");
}

#[tokio::test(start_paused = true)]
async fn without_permission_to_describe_a_record_has_what_every_stream_takes() {
    let stream = Stream::of(2);
    stream.set_distribution(Err(DENIED));
    let (_refresh, mut facts) = stream.watch();
    next(&mut facts).await;
    let facts = facts.borrow().clone().unwrap();
    assert_eq!(facts.limits, Limits::default());
}

/// Whoever has little time goes on without aggregation, and has it once there is an answer.
#[tokio::test(start_paused = true)]
async fn a_description_that_does_not_come_in_time_is_gone_without_until_it_comes() {
    let stream = Stream::of(2);
    stream.set_distribution(Err("InternalFailure"));
    let shards: Arc<dyn ListShards> = Arc::<Stream>::clone(&stream);
    let patience = Some(Duration::from_secs(3));
    let (_refresh, mut facts, _) = watch(
        shards,
        StreamName::new("s").unwrap(),
        batch::Settings::default(),
        usize::MAX,
        Waiting {
            unlisted_after: patience,
            undescribed_after: patience,
            ..patient()
        },
    );
    let began = Instant::now();
    facts.changed().await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    let known = |facts: &value::Receiver<Option<Facts>>| facts.borrow().clone().unwrap().routes;
    assert_eq!(known(&facts), Routes::Unpredictable);
    stream.set_distribution(Ok(Distribution::ByKey));
    facts.changed().await.unwrap();
    assert!(matches!(known(&facts), Routes::Known(_)));
}

/// As long as it takes, whether records wait or not.
fn patient() -> Waiting {
    Waiting {
        unlisted_after: None,
        undescribed_after: None,
        counters: Arc::default(),
        when_idle: true,
    }
}
