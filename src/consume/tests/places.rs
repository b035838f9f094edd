//! Where a reading begins, and goes on.

use super::*;

/// How far each shard is at the end, as who keeps a checkpoint has it.
async fn places(stream: &Arc<InMemory>, settings: Settings) -> BTreeMap<ShardId, Progress> {
    let (mut consumer, _stop) = start(stream, settings);
    let mut places = BTreeMap::new();
    while let Some(batch) = consumer.next().await {
        places.insert(batch.shard, batch.progress);
    }
    consumer.finish().await.unwrap();
    places
}

#[tokio::test(start_paused = true)]
async fn a_reading_goes_on_where_an_earlier_one_left_off_and_repeats_nothing() {
    let stream = InMemory::new(2)
        .shard("0", &[], true, 3)
        .shard("1", &["0"], false, 3)
        .shard("2", &[], false, 0);
    let stream = Arc::new(stream);
    let first = places(&stream, until_empty()).await;
    let expected = [
        (ShardId::new("0"), Progress::Ended),
        (ShardId::new("1"), Progress::UpTo("2".into())),
    ];
    assert_eq!(first, BTreeMap::from(expected));
    stream.append("1", 3);
    stream.append("2", 0);
    let settings = Settings {
        places: first,
        ..until_empty()
    };
    let (mut seen, ended) = read(&stream, settings).await;
    seen.sort();
    assert_eq!(
        (seen, ended),
        (vec!["1-3".to_owned(), "2-0".to_owned()], Ok(()))
    );
}

/// Its shards have the names of those before.
#[tokio::test(start_paused = true)]
async fn what_was_noted_of_a_stream_that_was_made_anew_reads_nothing_of_it() {
    let stream = InMemory::new(2)
        .shard("0", &[], false, 3)
        .shard("1", &[], true, 3)
        .shard("2", &["1"], false, 3);
    stream.begins("0", "10");
    let stream = Arc::new(stream);
    let noted = |shard: &str, progress| Settings {
        places: BTreeMap::from([(ShardId::new(shard), progress)]),
        ..until_empty()
    };
    let refused = [
        noted("0", Progress::Ended),
        noted("0", Progress::UpTo("9".into())),
    ];
    for settings in refused {
        let (seen, ended) = read(&stream, settings).await;
        assert_eq!(seen, [""; 0]);
        assert!(
            ended
                .unwrap_err()
                .contains("0 begins behind that sequence number, which is of an earlier stream")
        );
    }
    stream.begins("0", "1");
    for good in [
        noted("0", Progress::UpTo("1".into())),
        noted("0", Progress::UpTo("2".into())),
        noted("1", Progress::Ended),
        noted("7", Progress::Ended),
    ] {
        read(&stream, good).await.1.unwrap();
    }
    // Where the service does not say what is closed, its children do.
    stream.add("3", &["0"], false, 0);
    read(&stream, noted("0", Progress::Ended)).await.1.unwrap();
}

/// Also where nothing came meanwhile, and where a shard had been closed before.
#[tokio::test(start_paused = true)]
async fn a_reading_from_latest_goes_on_from_when_it_began() {
    let stream = InMemory::new(2)
        .shard("0", &[], true, 3)
        .shard("1", &["0"], false, 3);
    let stream = Arc::new(stream);
    let settings = Settings {
        from: StartAt::Latest,
        ..until_empty()
    };
    let first = places(&stream, settings.clone()).await;
    assert_eq!(first[&ShardId::new("0")], Progress::Ended);
    let Progress::Since(began) = first[&ShardId::new("1")] else {
        panic!("{first:?}");
    };
    stream.asked.lock().unwrap().clear();
    let again = Settings {
        places: first,
        ..settings
    };
    places(&stream, again).await;
    let expected = (ShardId::new("1"), Position::At(began));
    assert_eq!(*stream.asked.lock().unwrap(), [expected]);
}

/// A child that is older than that moment has records from before it too.
#[tokio::test(start_paused = true)]
async fn from_a_moment_on_every_shard_begins_there() {
    let stream = InMemory::new(2)
        .shard("0", &[], true, 3)
        .shard("1", &["0"], false, 3);
    let stream = Arc::new(stream);
    let moment = SystemTime::now();
    let settings = Settings {
        from: StartAt::At(moment),
        ..until_empty()
    };
    read(&stream, settings).await.1.unwrap();
    let asked = stream.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|(_, at)| *at == Position::At(moment)));
}

#[tokio::test(start_paused = true)]
async fn from_latest_an_iterator_that_expires_unused_skips_nothing() {
    let stream = Arc::new(InMemory::new(3).shard("0", &[], false, 5));
    let settings = Settings {
        from: StartAt::Latest,
        ..Settings::default()
    };
    let (mut consumer, _stop) = start(&stream, settings);
    let idle = timeout(Duration::from_secs(3), next(&mut consumer)).await;
    assert!(idle.is_err(), "{idle:?}");
    stream.fail(&[EXPIRED]);
    let idle = timeout(Duration::from_secs(3), next(&mut consumer)).await;
    assert!(idle.is_err(), "{idle:?}");
    let asked = stream.asked.lock().unwrap();
    assert!(matches!(
        asked[..],
        [(_, Position::Latest), (_, Position::At(_))]
    ));
}

#[tokio::test(start_paused = true)]
async fn from_latest_reads_what_comes_and_not_what_was_there() {
    let stream = InMemory::new(9)
        .shard("0", &[], true, 4)
        .shard("1", &["0"], false, 2);
    let stream = Arc::new(stream);
    let settings = Settings {
        from: StartAt::Latest,
        ..Settings::default()
    };
    let (mut consumer, _stop) = start(&stream, settings);
    let nothing = timeout(Duration::from_secs(3), next(&mut consumer)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let id = ShardId::new("1");
    stream.append("1", 2);
    assert_eq!(lines(&next(&mut consumer).await), ["1-2"]);
    assert!(stream.asked.lock().unwrap().iter().all(|a| a.0 == id));
}
