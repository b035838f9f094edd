//! Faults, as a client meets them.

use super::*;

const SHARD_0: &str = "shardId-000000000000";
const SHARD_1: &str = "shardId-000000000001";

fn on_put(action: Action) -> Rule {
    Rule::new(action).on("PutRecords")
}

async fn faulty(rule: Rule) -> (Fake, aws_sdk_kinesis::Client) {
    with_stream(Fake::builder().faults(Faults::seeded(1).rule(rule)), 2).await
}

/// 100 entries, half for each shard.
fn hundred() -> Vec<PutRecordsRequestEntry> {
    (0..100)
        .map(|i| entry_at(if i % 2 == 0 { 0 } else { u128::MAX }, format!("{i}")))
        .collect()
}

#[tokio::test]
async fn k_of_n_entries_fail_and_the_others_are_stored() {
    for (action, code) in [
        (
            Action::Throttle(Entries::Count(7)),
            "ProvisionedThroughputExceededException",
        ),
        (Action::FailEntries(Entries::Count(7)), "InternalFailure"),
    ] {
        let (fake, client) = faulty(on_put(action)).await;
        let answer = put(&client, hundred()).await.unwrap();
        assert_eq!(answer.failed_record_count, Some(7));
        let failed = answer
            .records
            .iter()
            .filter(|record| record.error_code.as_deref() == Some(code));
        assert_eq!(failed.count(), 7);
        assert_eq!(fake.records("s").unwrap().len(), 93);
        assert_eq!(
            (
                fake.counters().faulted_entries,
                fake.counters().faulted_calls
            ),
            (7, 1)
        );
        assert_eq!(
            fake.counters().throttled_entries,
            0,
            "that is the quota's counter"
        );
    }
}

#[tokio::test]
async fn one_shard_can_be_throttled_alone() {
    let (fake, client) = faulty(on_put(Action::Throttle(Entries::All)).shard(SHARD_1)).await;
    let answer = put(&client, hundred()).await.unwrap();
    assert_eq!(answer.failed_record_count, Some(50));
    assert!(
        fake.records("s")
            .unwrap()
            .iter()
            .all(|record| record.shard == SHARD_0)
    );
    let message = answer.records[1].error_message.as_deref().unwrap();
    assert!(message.contains(SHARD_1), "{message}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults() {
    let mut runs = Vec::new();
    for seed in [5, 5, 6] {
        let faults = Faults::seeded(seed)
            .rule(on_put(Action::Throttle(Entries::Percent(20.0))).percent(50.0));
        let (_fake, client) = with_stream(Fake::builder().faults(faults), 1).await;
        let mut failed = Vec::new();
        for _ in 0..10 {
            let answer = put(&client, hundred()).await.unwrap();
            failed.extend(
                answer
                    .records
                    .iter()
                    .map(|record| record.error_code.is_some()),
            );
        }
        runs.push(failed);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    let struck = runs[0].iter().filter(|failed| **failed).count();
    assert!(
        (20..250).contains(&struck),
        "{struck} of 1000, about 100 expected"
    );
}

#[tokio::test]
async fn rules_count_the_calls_they_look_at() {
    let denied = on_put(Action::access_denied()).after(2).every(2).times(2);
    let (fake, client) = faulty(denied).await;
    let mut outcome = String::new();
    for _ in 0..8 {
        client
            .describe_stream_summary()
            .stream_name("s")
            .send()
            .await
            .unwrap();
        outcome.push(match put(&client, vec![entry("k", "x")]).await {
            Ok(_) => '.',
            Err(error) => {
                assert_eq!(error.code, "AccessDeniedException");
                'x'
            }
        });
    }
    assert_eq!(outcome, "...x.x..");
    assert_eq!(fake.records("s").unwrap().len(), 6);
}

#[tokio::test]
async fn whole_calls_are_refused_with_the_code_and_status_of_the_rule() {
    let rules = [
        (Action::expired_token(), "ExpiredTokenException", 400),
        (
            Action::Error(ApiError::new("InternalFailure", "x").with_status(500)),
            "InternalFailure",
            500,
        ),
        (
            Action::Error(ApiError::new("ServiceUnavailable", "x").with_status(503)),
            "ServiceUnavailable",
            503,
        ),
    ];
    for (action, code, status) in rules {
        let (fake, client) = faulty(on_put(action)).await;
        let error = client
            .put_records()
            .stream_name("s")
            .records(entry("k", "x"))
            .send()
            .await
            .unwrap_err();
        assert_eq!(error.raw_response().unwrap().status().as_u16(), status);
        assert_eq!(refused(&error).code, code);
        assert!(fake.records("s").unwrap().is_empty());
    }
}

#[tokio::test]
async fn spoilt_answers_come_after_the_commit() {
    for action in [Action::Malformed, Action::Truncated] {
        let (fake, client) = faulty(on_put(action.clone())).await;
        let call = client
            .put_records()
            .stream_name("s")
            .records(entry("k", "x"));
        let error = call.send().await.unwrap_err();
        assert!(
            matches!(error, SdkError::ResponseError(_)),
            "{action:?}: {error:?}"
        );
        assert_eq!(fake.records("s").unwrap().len(), 1, "{action:?}");
    }
}

#[tokio::test]
async fn answers_can_be_fewer_than_records() {
    let (fake, client) = faulty(on_put(Action::FewerAnswers(3))).await;
    assert_eq!(put(&client, hundred()).await.unwrap().records.len(), 97);
    assert_eq!(fake.records("s").unwrap().len(), 100);
}

#[tokio::test]
async fn a_reset_before_commits_nothing_and_a_reset_after_everything() {
    for (action, stored) in [(Action::ResetBefore, 0), (Action::ResetAfter, 100)] {
        for tls in [false, true] {
            let faults = Faults::none().rule(on_put(action.clone()).times(1));
            let (fake, _) = with_stream(Fake::builder().faults(faults).tls(tls), 2).await;
            let client = strict::trusting(&fake);
            let error = client
                .put_records()
                .stream_name("s")
                .set_records(Some(hundred()))
                .send()
                .await
                .unwrap_err();
            assert!(
                matches!(error, SdkError::DispatchFailure(_)),
                "{action:?} tls {tls}: {error:?}"
            );
            assert_eq!(
                fake.records("s").unwrap().len(),
                stored,
                "{action:?} tls {tls}"
            );
            put(&client, vec![entry("k", "x")]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_on_the_wire() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fake = Fake::start().await.unwrap();
    fake.set_faults(Faults::none().rule(Rule::new(Action::ResetAfter)));
    let mut socket = tokio::net::TcpStream::connect(fake.kinesis_addr())
        .await
        .unwrap();
    let request = b"POST / HTTP/1.1\r\nhost: x\r\nx-amz-target: Kinesis_20131202.ListStreams\r\n\
                    content-length: 2\r\n\r\n{}";
    socket.write_all(request).await.unwrap();
    let error = socket.read(&mut [0; 100]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stalled_call_is_never_answered() {
    for (action, stored) in [(Action::Stall, 0), (Action::StallAfter, 1)] {
        let (fake, client) = faulty(on_put(action).times(1)).await;
        let call = put(&client, vec![entry("k", "x")]);
        // The counters say when it has arrived; from then on there is nothing to wait for.
        let arrived = async {
            while fake.counters().put_records_calls() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = call => panic!("answered: {answer:?}"),
            () = arrived => {}
        }
        put(&client, vec![entry("k", "x")]).await.unwrap();
        assert_eq!(fake.records("s").unwrap().len(), stored + 1);
    }
}

#[tokio::test]
async fn latency_delays_the_answer_not_the_commit() {
    let delay = Duration::from_millis(60);
    let (fake, client) = faulty(on_put(Action::Latency(delay)).times(1)).await;
    let started = std::time::Instant::now();
    put(&client, vec![entry("k", "x")]).await.unwrap();
    assert!(started.elapsed() >= delay);

    fake.set_faults(Faults::none().rule(on_put(Action::Latency(Duration::from_secs(3600)))));
    let committed = async {
        while fake.records("s").unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = put(&client, vec![entry("k", "x")]) => panic!("answered: {answer:?}"),
        () = committed => {}
    }
}

#[tokio::test]
async fn kms_can_fail_while_kinesis_works() {
    let rule = Rule::new(Action::Error(ApiError::new(
        "ThrottlingException",
        "slow down",
    )));
    let (fake, client) = faulty(rule.service(Service::Kms).on("GenerateDataKey")).await;
    let key = fake.create_key();
    let made = super::kms(&fake)
        .generate_data_key()
        .key_id(&key)
        .number_of_bytes(32)
        .send()
        .await;
    assert_eq!(refused(&made.unwrap_err()).code, "ThrottlingException");
    put(&client, vec![entry("k", "x")]).await.unwrap();
    fake.set_faults(Faults::none());
    super::kms(&fake)
        .generate_data_key()
        .key_id(&key)
        .number_of_bytes(32)
        .send()
        .await
        .unwrap();
}
