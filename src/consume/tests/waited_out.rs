//! What the service does not give at once.

use super::*;

#[tokio::test(start_paused = true)]
async fn expired_iterator_is_asked_for_again_behind_the_last_record() {
    let stream = Arc::new(InMemory::new(3).shard("0", &[], false, 5));
    let (mut consumer, _stop) = start(&stream, until_empty());
    assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
    stream.fail(&[EXPIRED]);
    assert_eq!(lines(&next(&mut consumer).await), all("0", 3..5));
    let asked: Vec<_> = stream
        .asked
        .lock()
        .unwrap()
        .iter()
        .map(|a| a.1.clone())
        .collect();
    assert_eq!(asked, [Position::TrimHorizon, Position::After("2".into())]);
}

#[tokio::test(start_paused = true)]
async fn throttles_faults_and_outages_are_waited_out() {
    let at_start = [
        ("ThrottlingException", Some(400)),
        ("ServiceUnavailable", Some(503)),
        ("ConnectionLost", None),
    ];
    let stream = InMemory::new(3).shard("0", &[], false, 5);
    let stream = Arc::new(stream.failing(&at_start));
    let (mut consumer, _stop) = start(&stream, until_empty());
    assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
    stream.fail(&[
        ("ProvisionedThroughputExceededException", Some(400)),
        ("ExpiredTokenException", Some(400)),
        ("AccessDeniedException", Some(400)),
        ("InternalFailure", Some(500)),
        ("Timeout", None),
        ("ConnectFailed", Some(503)),
    ]);
    assert_eq!(lines(&next(&mut consumer).await), all("0", 3..5));
    assert!(stream.faults.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_as_long_as_others_use_up_the_rate_of_calls() {
    let throttled = [("LimitExceededException", Some(400)); 4 * START_TRIES as usize];
    let stream = InMemory::new(3).shard("0", &[], false, 3);
    let stream = Arc::new(stream.failing(&throttled));
    let (mut consumer, _stop) = start(&stream, until_empty());
    assert_eq!(lines(&next(&mut consumer).await), all("0", 0..3));
}

#[tokio::test(start_paused = true)]
async fn a_shard_is_asked_five_times_a_second_at_most() {
    let stream = Arc::new(InMemory::new(1).shard("0", &[], false, 12));
    read(&stream, until_empty()).await.1.unwrap();
    let calls = stream.calls.lock().unwrap();
    assert!(calls.len() > 12);
    for six in calls.windows(6) {
        assert!(six[5] - six[0] >= Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_can_not_succeed_says_why() {
    for (code, status, tries, words) in [
        (
            "ResourceNotFoundException",
            Some(400),
            1,
            "the stream does not exist",
        ),
        (
            "AccessDeniedException",
            Some(400),
            1,
            "allow kinesis:ListShards",
        ),
        (
            "ValidationException",
            Some(400),
            1,
            "its shards can not be listed",
        ),
        (
            "ConnectFailed",
            Some(503),
            START_TRIES as usize,
            "can not be reached: check network",
        ),
        (
            "NoCredentials",
            Some(401),
            START_TRIES as usize,
            "no AWS credentials: set AWS_PROFILE",
        ),
        (
            "ExpiredTokenException",
            Some(400),
            START_TRIES as usize,
            "renew or correct them",
        ),
    ] {
        let faults = vec![(code, status); tries];
        let stream = Arc::new(InMemory::new(1).failing(&faults));
        let (_, ended) = read(&stream, until_empty()).await;
        let error = ended.unwrap_err();
        assert!(error.contains(words) && error.contains(code), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_expired_is_passed_over_and_a_stream_that_is_gone_is_not() {
    let stream = InMemory::new(1)
        .shard("0", &[], true, 1)
        .shard("1", &["0"], false, 1);
    let stream = Arc::new(stream);
    let (mut consumer, _stop) = start(&stream, Settings::default());
    assert_eq!(lines(&next(&mut consumer).await), ["0-0"]);
    stream.shards.lock().unwrap().remove(&ShardId::new("0"));
    stream.fail(&[NOT_FOUND]);
    assert_eq!(lines(&next(&mut consumer).await), ["1-0"]);
    stream.fail(&[NOT_FOUND, NOT_FOUND]);
    assert!(consumer.next().await.is_none());
    let ended = consumer.finish().await;
    assert!(
        matches!(ended, Err(ConsumeError::NoSuchStream(_))),
        "{ended:?}"
    );
}
