//! Records that travel in blocks.

use super::*;

/// A wrapping key, the pipeline change that seals blocks under it, and what opens them again.
pub(super) fn sealing_blocks(packing: Packing) -> (impl FnOnce(&mut Parts), Opener) {
    let key = Arc::new(WrappingKey::new("test", "key", &[7; 32]).unwrap());
    let generate: Arc<dyn GenerateDataKey> = Arc::<WrappingKey>::clone(&key);
    let settings = block::Settings {
        max_size: 2000,
        packing,
        ..Default::default()
    };
    let pair = (
        block::CONTEXT_KEY.to_owned(),
        packing.context_value().to_owned(),
    );
    let keyring = Keyring::new(
        generate,
        [pair].into(),
        CacheSettings::default(),
        message::Settings {
            frame_length: settings.frame_length(),
            ..Default::default()
        },
    );
    let opener = Opener::new(vec![key], Default::default(), Default::default()).unwrap();
    (
        move |p: &mut Parts| p.sealer = Sealer::Blocks(keyring, settings),
        opener,
    )
}

/// What lies in the stream, opened, by block.
async fn blocks(
    service: &Service,
    opener: &Opener,
) -> Vec<Vec<crate::aggregate::format::UserRecord>> {
    let stored: Vec<Bytes> = service
        .stored
        .lock()
        .unwrap()
        .iter()
        .map(|(_, d)| d.clone())
        .collect();
    let mut blocks = Vec::new();
    for data in stored {
        let messages = deaggregate(&data).map(|r| r.into_iter().map(|r| r.data).collect());
        for message in messages.unwrap_or_else(|| vec![data]) {
            let opened = opener.open(&message).await.unwrap();
            let packing = &opened.context[block::CONTEXT_KEY];
            blocks.push(block::unpack(packing, &opened.plaintext).unwrap());
        }
    }
    blocks
}

/// On the real clock: a paused one jumps ahead while the pool's threads work.
#[tokio::test]
async fn blocks_hold_every_record_once_each_block_on_one_shard() {
    for packing in [Packing::Kpl, Packing::KplZstd { level: 1 }] {
        let mut rng = StdRng::seed_from_u64(9);
        let service = Service::new(4, move |_| {
            let mut rng = StdRng::seed_from_u64(rng.random());
            Plan::Entries(Box::new(move |_| {
                rng.random_bool(0.3).then_some("InternalFailure")
            }))
        });
        let (change, opener) = sealing_blocks(packing);
        let budget = MemoryBudget::new(8 << 20);
        let pipeline = start(&service, |p| {
            p.budget = budget.clone();
            change(p);
        });
        let receipts = put_many(&pipeline, 1000).await;
        let counters = Arc::clone(pipeline.counters());
        let histograms = pipeline.close(GRACE).await;
        assert!(join_all(receipts).await.iter().all(Delivery::is_stored));

        let map = even(4);
        let blocks = blocks(&service, &opener).await;
        assert!(
            blocks.len() < 60,
            "{} blocks for 1,000 records",
            blocks.len()
        );
        let mut seen = std::collections::HashSet::new();
        for block in &blocks {
            let shards: std::collections::HashSet<_> = block
                .iter()
                .map(|r| map.predict(r.hash_key()).id.clone())
                .collect();
            assert_eq!(shards.len(), 1);
            for record in block {
                assert!(seen.insert(record.data.clone()), "doubled");
            }
        }
        assert_eq!(seen.len(), 1000);
        let counts = counters.snapshot();
        assert_eq!(
            (counts.stored, counts.pending, budget.in_use()),
            (1000, 0, 0)
        );
        assert_eq!(histograms.line_to_stored.count(), 1000);
        assert_eq!(histograms.seal.count(), 1000);
    }
}

/// On the real clock: a paused one jumps ahead while the pool's threads work.
#[tokio::test]
async fn a_lone_record_in_block_scope_waits_one_linger_not_two() {
    const LINGER: Duration = Duration::from_millis(500);
    let service = Service::well_behaved(1);
    let (change, _) = sealing_blocks(Packing::Kpl);
    let pipeline = start(&service, |p| {
        change(p);
        p.aggregation.linger = LINGER;
    });
    put(&pipeline, "first", any()).await.await;
    let began = Instant::now();
    put(&pipeline, "second", any()).await.await;
    let took = began.elapsed();
    assert!((LINGER..2 * LINGER).contains(&took), "{took:?}");
}

/// On the real clock: a paused one jumps ahead while the pool's threads work.
#[tokio::test]
async fn flush_does_not_wait_for_a_block_to_fill() {
    let service = Service::well_behaved(2);
    let (change, _) = sealing_blocks(Packing::Kpl);
    let pipeline = start(&service, |p| {
        change(p);
        p.aggregation.linger = Duration::from_secs(3600);
    });
    let receipts = put_many(&pipeline, 10).await;
    let began = Instant::now();
    pipeline.flush().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(join_all(receipts).await.iter().all(Delivery::is_stored));
}
