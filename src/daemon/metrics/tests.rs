use std::time::Duration;

use super::*;

fn of<'a>(stream: &'a str, shard: &'a str) -> Of<'a> {
    Of {
        error: None,
        stream: Some(stream),
        shard: Some(shard),
    }
}

fn extra(key: &str, value: &str, granularity: Granularity) -> AdditionalDimension {
    AdditionalDimension {
        key: key.into(),
        value: value.into(),
        granularity,
    }
}

fn asked(metrics: &Metrics, name: Option<&str>, seconds: Option<u64>, now: Instant) -> Vec<String> {
    let request = MetricsRequest {
        name: name.map(str::to_owned),
        seconds,
    };
    let answer = metrics.answer(&request, now).metrics.into_iter();
    let told = answer.map(|metric| {
        let dimensions = metric
            .dimensions
            .iter()
            .map(|d| format!(" {}={}", d.key, d.value));
        let dimensions: String = dimensions.collect();
        let Stats { count, sum, .. } = metric.stats;
        format!("{}{dimensions}: {count} {sum}", metric.name)
    });
    told.collect()
}

use super::super::message::Stats;

#[tokio::test(start_paused = true)]
async fn a_value_counts_for_every_prefix_of_its_dimensions() {
    let metrics = Metrics::new(vec![
        extra("Host", "h", Granularity::Global),
        extra("Team", "t", Granularity::Stream),
    ]);
    let now = Instant::now();
    metrics.put(Name::UserRecordsPut, of("s", "a"), Stat::equal(3, 1.0), now);
    metrics.put(Name::UserRecordsPut, of("s", "b"), Stat::one(0.0), now);
    assert_eq!(
        asked(&metrics, Some("UserRecordsPut"), None, now),
        [
            "UserRecordsPut: 4 3",
            "UserRecordsPut Host=h: 4 3",
            "UserRecordsPut Host=h StreamName=s: 4 3",
            "UserRecordsPut Host=h StreamName=s Team=t: 4 3",
            "UserRecordsPut Host=h StreamName=s Team=t ShardId=a: 3 3",
            "UserRecordsPut Host=h StreamName=s Team=t ShardId=b: 1 0",
        ]
    );
    assert!(asked(&metrics, Some("RequestTime"), None, now).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_last_seconds_are_those_that_are_over() {
    let metrics = Metrics::new(Vec::new());
    let began = Instant::now();
    for second in 0..100 {
        let now = began + Duration::from_secs(second);
        metrics.put(
            Name::RequestTime,
            Of::default(),
            Stat::one(second as f64),
            now,
        );
    }
    let now = began + Duration::from_millis(99_500);
    let last = |seconds| asked(&metrics, None, Some(seconds), now);
    assert_eq!(last(1), ["RequestTime: 1 98"]);
    assert_eq!(last(2), ["RequestTime: 2 195"]);
    assert_eq!(last(0), ["RequestTime: 0 0"]);
    assert_eq!(asked(&metrics, None, None, now), ["RequestTime: 100 4950"]);
}

#[tokio::test(start_paused = true)]
async fn of_no_values_all_is_zero() {
    let stats = Stats::from(Stat::default());
    assert_eq!((stats.mean, stats.min, stats.max), (0.0, 0.0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn only_what_level_and_granularity_allow_is_uploaded_each_second_once() {
    let metrics = Metrics::new(Vec::new());
    let clock = Clock(Instant::now());
    metrics.put(
        Name::UserRecordsPut,
        of("s", "a"),
        Stat::one(1.0),
        clock.at(3),
    );
    metrics.put(Name::RequestTime, of("s", "a"), Stat::one(9.0), clock.at(3));
    let sent = |from, to, level, granularity| {
        let data = metrics.between(from, to, level, granularity, &clock);
        data.iter()
            .map(|d| (d.name, d.dimensions.len()))
            .collect::<Vec<_>>()
    };
    let put = |dimensions: usize| (Name::UserRecordsPut, dimensions);
    let took = |dimensions: usize| (Name::RequestTime, dimensions);
    assert_eq!(sent(0, 60, Level::None, Granularity::Shard), []);
    assert_eq!(
        sent(0, 60, Level::Summary, Granularity::Stream),
        [put(0), put(1)]
    );
    assert_eq!(
        sent(0, 60, Level::Detailed, Granularity::Shard),
        [put(0), put(1), put(2), took(0), took(1), took(2)]
    );
    assert_eq!(sent(0, 3, Level::Detailed, Granularity::Shard), []);
    assert_eq!(sent(4, 60, Level::Detailed, Granularity::Shard), []);
}

#[test]
fn a_long_answer_leaves_out_the_finest() {
    let metrics = Metrics::new(Vec::new());
    let now = Instant::now();
    for shard in 0..100_000 {
        let shard = format!("shardId-{shard:012}");
        metrics.put(
            Name::UserRecordsPut,
            of("stream", &shard),
            Stat::one(1.0),
            now,
        );
    }
    let told = asked(&metrics, None, None, now);
    assert_eq!(
        told,
        [
            "UserRecordsPut: 100000 100000",
            "UserRecordsPut StreamName=stream: 100000 100000"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn for_prometheus_each_value_counts_once_with_all_its_labels() {
    let metrics = Metrics::new(vec![extra("Host Name", "h\"1", Granularity::Stream)]);
    let now = Instant::now();
    metrics.put(
        Name::UserRecordsPut,
        of("s", "shard-1"),
        Stat::equal(3, 1.0),
        now,
    );
    metrics.put(
        Name::UserRecordsPut,
        of("s", "shard-2"),
        Stat::equal(2, 1.0),
        now,
    );
    let of_no_shard = Of {
        stream: Some("s"),
        ..Of::default()
    };
    metrics.put(Name::UserRecordsPut, of_no_shard, Stat::equal(4, 0.0), now);
    metrics.put(Name::RequestTime, of_no_shard, Stat::one(1500.0), now);
    let mut text = Exposition::default();
    metrics.expose(&mut text);
    let text = text.into_text();
    let labels = |shard: &str| format!("{{stream=\"s\",dimension_Host_Name=\"h\\\"1\"{shard}}}");
    for line in [
        format!("kpl_user_records_put_sum{} 3", labels(",shard=\"shard-1\"")),
        format!("kpl_user_records_put_count{} 4", labels("")),
        format!("kpl_user_records_put_sum{} 0", labels("")),
        format!("kpl_request_time_seconds_sum{} 1.5", labels("")),
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let counts = text
        .lines()
        .filter(|l| l.starts_with("kpl_user_records_put_count"));
    let counts = counts.map(|l| l.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 9, "{text}");
}

use crate::metrics::prometheus::Exposition;
