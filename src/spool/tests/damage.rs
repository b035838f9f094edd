//! What was written is not what is there: changed bits, cut ends, files of another spool.

use super::disk::TestDisk;
use super::rig::{Ask, Rig, settings};
use crate::spool::{Settings, SpoolError};

/// Three segments of ten records each.
async fn three_segments() -> (Settings, TestDisk) {
    let small = Settings {
        max_bytes: 16 << 20,
        ..settings()
    };
    let mut rig = Rig::new(small.clone());
    rig.large = 110_000;
    for n in 0..30 {
        rig.append(n..n + 1, Ask::Nothing).await;
        rig.receive(1).await;
    }
    let disk = rig.crash().await;
    let segments = disk
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".spool"));
    assert_eq!(segments.count(), 3);
    (small, disk)
}

#[tokio::test(start_paused = true)]
async fn damage_is_read_over_counted_and_kept() {
    let mut rig = Rig::new(settings());
    for n in 0..10 {
        rig.append(n..n + 1, Ask::Nothing).await;
    }
    rig.receive(10).await;
    let disk = rig.crash().await;
    let whole = disk.bytes();
    disk.damage(|bytes| bytes[whole / 2] ^= 1);
    let mut rig = Rig::on(disk, settings());
    assert_eq!(rig.found(), 10);
    let received = rig.receive(9).await;
    assert_eq!(received.len(), 9);
    rig.settle(|_| true).await;
    assert_eq!(rig.counters.snapshot().abandoned, 1);
    let (disk, left) = rig.end().await;
    assert_eq!(left, 0);
    assert!(
        disk.names().iter().any(|name| name.ends_with(".damaged")),
        "{:?}",
        disk.names()
    );
}

#[tokio::test(start_paused = true)]
async fn files_that_are_gone_are_counted_wherever_they_were() {
    for gone in 0..3 {
        let (small, disk) = three_segments().await;
        // So that a cursor is there: where it is not, nobody knows what was settled.
        let (disk, left) = Rig::on(disk, small.clone()).end().await;
        assert_eq!(left, 30);
        disk.remove_nth(gone);
        let mut rig = Rig::on(disk, small);
        assert_eq!(rig.receive(20).await.len(), 20, "{gone}");
        rig.settle(|_| true).await;
        assert_eq!(rig.counters.snapshot().abandoned, 10, "{gone}");
        let (disk, left) = rig.end().await;
        assert_eq!(left, 0);
        let names = disk.names();
        assert!(
            names.iter().all(|name| !name.ends_with(".spool")),
            "{names:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_file_that_is_damaged_is_the_one_that_is_kept() {
    let (small, disk) = three_segments().await;
    // A bit of its last frame, a whole one.
    disk.damage_nth(1, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let mut rig = Rig::on(disk, small);
    assert_eq!(rig.receive(29).await.len(), 29);
    rig.settle(|_| true).await;
    assert_eq!(rig.counters.snapshot().abandoned, 1);
    let (disk, _) = rig.end().await;
    let kept = disk
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".damaged"));
    assert_eq!(kept.collect::<Vec<_>>(), ["00000000000000000010.damaged"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_segment_without_its_header_is_no_settled_one() {
    for change in [
        |bytes: &mut Vec<u8>| bytes.clear(),
        // Its id, which nothing else tells.
        |bytes: &mut Vec<u8>| bytes[12..20].fill(0),
    ] {
        let (small, disk) = three_segments().await;
        disk.damage_nth(0, change);
        let mut rig = Rig::on(disk, small);
        assert_eq!(rig.receive(20).await, (10..30).collect::<Vec<_>>());
        rig.settle(|_| true).await;
        assert_eq!(rig.counters.snapshot().abandoned, 10);
        rig.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_cursor_is_kept_and_all_that_is_there_is_sent() {
    for damage in [
        &b""[..],
        b"{\"version\":1,\"settled\":",
        // A digit more would pass over what was never sent.
        b"{\"version\":1,\"settled\":999,\"crc32\":1}",
    ] {
        // The oldest segment was deleted, or has lost its header.
        for is_deleted in [true, false] {
            let (small, disk) = three_segments().await;
            if is_deleted {
                disk.remove_nth(0);
            } else {
                disk.damage_nth(0, |bytes| bytes[12..20].fill(0));
            }
            disk.put("cursor.json", damage);
            let mut rig = Rig::on(disk, small.clone());
            assert_eq!(rig.receive(20).await, (10..30).collect::<Vec<_>>());
            rig.settle(|_| true).await;
            let lost = rig.counters.snapshot().abandoned;
            assert_eq!(lost, if is_deleted { 0 } else { 10 });
            let (disk, left) = rig.end().await;
            assert_eq!(left, 0);
            assert!(disk.names().contains(&"cursor.damaged".to_owned()));
            assert_eq!(Rig::on(disk, small).found(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_where_the_next_segment_goes_on_is_counted_and_its_file_kept() {
    let (small, disk) = three_segments().await;
    // Its last two records, and half of the one before.
    disk.damage_nth(1, |bytes| {
        bytes.truncate(bytes.len() - 2 * 110_000 - 55_000)
    });
    let mut rig = Rig::on(disk, small);
    assert_eq!(rig.receive(27).await.len(), 27);
    rig.settle(|_| true).await;
    assert_eq!(rig.counters.snapshot().abandoned, 3);
    let (disk, _) = rig.end().await;
    let kept = "00000000000000000010.damaged".to_owned();
    assert!(disk.names().contains(&kept), "{:?}", disk.names());
}

#[tokio::test(start_paused = true)]
async fn a_changed_bit_in_a_header_costs_nothing() {
    for bit in (0..32 * 8).step_by(11) {
        let (small, disk) = three_segments().await;
        disk.damage_nth(1, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let mut rig = Rig::on(disk, small);
        assert_eq!(rig.receive(30).await, (0..30).collect::<Vec<_>>(), "{bit}");
        rig.settle(|_| true).await;
        assert_eq!(rig.counters.snapshot().abandoned, 0);
        rig.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn plaintext_behind_a_damaged_header_is_not_sent_once_there_is_encryption() {
    let (small, disk) = three_segments().await;
    disk.damage_nth(0, |bytes| bytes[10] ^= 1);
    let opened = Rig::open(&disk, &small, false);
    assert!(
        matches!(opened, Err(SpoolError::Plaintext { .. })),
        "{opened:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn records_missing_at_the_end_are_counted_once_and_their_file_is_kept_if_it_had_been_synced()
{
    let changes: [fn(&mut Vec<u8>); 3] = [
        // A bit of the last frame, half of it, and all of it (a frame has some 57 bytes beside).
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes.truncate(bytes.len() - 55_000),
        |bytes| bytes.truncate(bytes.len() / 10 * 9),
    ];
    for change in changes {
        let mut rig = Rig::new(settings());
        rig.large = 110_000;
        for n in 0..5 {
            rig.append(n..n + 1, Ask::Nothing).await;
            rig.receive(1).await;
        }
        let (disk, _) = rig.end().await;
        disk.damage(change);
        let mut rig = Rig::on(disk, settings());
        let counts = rig.counters.snapshot();
        assert_eq!((counts.accepted, counts.abandoned), (5, 1));
        assert_eq!(rig.receive(4).await, [0, 1, 2, 3]);
        rig.append(4..6, Ask::Nothing).await;
        rig.receive(2).await;
        rig.settle(|_| true).await;
        let (disk, _) = rig.end().await;
        let names = disk.names();
        assert!(
            names.iter().any(|name| name.ends_with(".damaged")),
            "{names:?}"
        );
        let rig = Rig::on(disk, settings());
        assert_eq!(rig.counters.snapshot(), Default::default());
    }
}

#[tokio::test(start_paused = true)]
async fn files_of_another_spool_are_put_aside_and_nothing_is_taken_for_what_it_is_not() {
    let (small, other) = three_segments().await;
    let mut rig = Rig::new(small.clone());
    rig.append(0..10, Ask::Nothing).await;
    rig.receive(10).await;
    rig.settle(|_| true).await;
    rig.append(10..12, Ask::Nothing).await;
    rig.receive(2).await;
    let (disk, _) = rig.end().await;
    // The oldest of the other's has numbers that are settled here, the others some that come.
    other.copy_segments_to(&disk);
    let mut rig = Rig::on(disk, small.clone());
    assert_eq!(rig.receive(2).await, [10, 11]);
    rig.settle(|_| true).await;
    let (disk, left) = rig.end().await;
    assert_eq!(left, 0);
    let foreign = |disk: &TestDisk| {
        let names = disk.names().into_iter();
        names.filter(|name| name.ends_with(".foreign")).count()
    };
    let (once, names) = (foreign(&disk), disk.names());
    assert!(once >= 2, "{names:?}");

    // Somebody tries it again: what was kept stays.
    other.copy_segments_to(&disk);
    let rig = Rig::on(disk, small);
    let (disk, _) = rig.end().await;
    assert!(foreign(&disk) > once, "{:?}", disk.names());
    assert!(
        names
            .iter()
            .all(|name| disk.names().contains(name) || !name.ends_with(".foreign"))
    );
}
