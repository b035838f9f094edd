//! The three at work, on a disk that can do all that disks do.

mod damage;
mod disk;
mod full;
mod model;
mod removed;
mod rig;

use std::time::Duration;

use self::disk::TestDisk;
use self::rig::{Ask, Rig, settings};
use super::{Disk, Mode, SpoolError, Sync};
use crate::delivery::Delivery;

#[tokio::test(start_paused = true)]
async fn what_is_appended_comes_out_in_order_with_its_key_and_its_birth() {
    let mut rig = Rig::new(settings());
    rig.append(0..5, Ask::Nothing).await;
    tokio::time::advance(Duration::from_secs(7)).await;
    rig.append(5..9, Ask::Nothing).await;
    assert_eq!(rig.receive(9).await, (0..9).collect::<Vec<_>>());
    rig.check_keys_and_births(Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_frees_its_disk_and_a_restart_finds_the_rest() {
    let small = || super::Settings {
        max_bytes: 16 << 20,
        ..settings()
    };
    let mut rig = Rig::new(small());
    rig.large = 1000;
    // Each by itself: as one group, all of it would be one segment.
    for n in 0..40 {
        rig.append(n * 100..n * 100 + 100, Ask::Nothing).await;
        rig.receive(100).await;
    }
    let full = rig.disk.bytes();
    rig.settle(|id| id < 3950).await;
    let (disk, left) = rig.end().await;
    assert!(disk.bytes() < full / 2, "{} of {full}", disk.bytes());
    assert_eq!(left, 50);
    let mut rig = Rig::on(disk, small());
    // What was read as one block is settled as one.
    let found = rig.found();
    assert!((50..50 + 300).contains(&found), "{found}");
    let received = rig.receive(found as usize).await;
    assert_eq!(received, (4000 - found..4000).collect::<Vec<_>>());
    rig.settle(|_| true).await;
    let (disk, left) = rig.end().await;
    assert_eq!((left, disk.names()), (0, vec!["cursor.json".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_record_without_its_answer_is_sent_again_with_what_came_after_it_and_none_before() {
    let mut rig = Rig::new(settings());
    for n in 0..10 {
        rig.append(n..n + 1, Ask::Nothing).await;
        rig.receive(1).await;
    }
    rig.settle(|id| id != 6).await;
    let (disk, _) = rig.end().await;
    let mut rig = Rig::on(disk, settings());
    assert_eq!(rig.receive(4).await, [6, 7, 8, 9]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_storing_hears_what_became_of_it_and_who_waits_for_the_disk_hears_at_once() {
    let mut rig = Rig::new(settings());
    rig.append(0..1, Ask::Stored).await;
    rig.append(1..2, Ask::Spooled).await;
    rig.receive(2).await;
    assert_eq!(rig.answer(1), Some(Delivery::Spooled));
    assert_eq!(rig.answer(0), None);
    rig.settle(|_| true).await;
    assert!(rig.answer(0).is_some_and(|answer| answer.is_stored()));
}

#[tokio::test(start_paused = true)]
async fn an_answer_on_spooled_waits_for_the_sync() {
    let mut rig = Rig::new(super::Settings {
        sync: Sync::Interval(Duration::from_secs(5)),
        ..settings()
    });
    rig.append(0..1, Ask::Spooled).await;
    rig.receive(1).await;
    assert_eq!(rig.answer(0), None);
    tokio::time::sleep(Duration::from_millis(5100)).await;
    assert_eq!(rig.answer(0), Some(Delivery::Spooled));
}

#[tokio::test(start_paused = true)]
async fn chunks_that_wait_together_share_a_sync() {
    let mut rig = Rig::new(settings());
    rig.append(0..1, Ask::Nothing).await;
    rig.receive(1).await;
    let before = rig.disk.syncs();
    rig.append_at_once((1..50).map(|n| n..n + 1)).await;
    rig.receive(49).await;
    assert!(
        rig.disk.syncs() - before <= 4,
        "{}",
        rig.disk.syncs() - before
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_spool_takes_no_more_until_some_of_it_is_settled() {
    let mut rig = Rig::new(super::Settings {
        max_bytes: 4 << 20,
        ..settings()
    });
    rig.large = 300_000;
    // Each by itself: a group of many that has no room leaves half of it empty, one time in ten.
    for n in 0..8 {
        rig.append(n..n + 1, Ask::Spooled).await;
        while rig.answer(n).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for n in 8..40 {
        rig.append(n..n + 1, Ask::Nothing).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let held = rig.disk.bytes();
    assert!(held <= 4 << 20, "{held}");
    // A group fits as a whole or not at all.
    assert!(held > 2 << 20, "{held}");
    assert!(rig.memory_in_use() > 0, "what has no room keeps its memory");
    for received in 0..40 {
        assert_eq!(rig.receive(1).await, [received]);
        rig.settle(|_| true).await;
    }
    assert!(rig.disk.bytes() < 4 << 20);
    assert_eq!(rig.memory_in_use(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refuses_or_has_no_room_is_waited_for_and_nothing_is_lost_or_doubled() {
    for trouble in 0..3 {
        let mut rig = Rig::new(settings());
        rig.append(0..3, Ask::Nothing).await;
        rig.receive(3).await;
        match trouble {
            0 => rig.disk.refuse(true, false, false),
            1 => rig.disk.refuse(false, true, false),
            _ => rig.disk.set_room(Some(100)),
        }
        rig.append(3..6, Ask::Spooled).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(rig.answer(4), None, "trouble {trouble}");
        rig.disk.refuse(false, false, false);
        rig.disk.set_room(None);
        assert_eq!(rig.receive(3).await, [3, 4, 5], "trouble {trouble}");
        assert_eq!(rig.answer(4), Some(Delivery::Spooled));
        // What was written in vain counts once too, after a crash.
        let disk = rig.crash().await;
        let mut rig = Rig::on(disk, settings());
        assert_eq!(
            rig.receive(6).await,
            (0..6).collect::<Vec<_>>(),
            "trouble {trouble}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_cannot_be_read_is_waited_for() {
    let mut rig = Rig::new(settings());
    rig.disk.refuse(false, false, true);
    rig.append(0..3, Ask::Nothing).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    rig.disk.refuse(false, false, false);
    assert_eq!(rig.receive(3).await, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn memory_comes_first_while_the_stream_takes_it_and_the_disk_when_it_does_not() {
    let mut rig = Rig::new(super::Settings {
        mode: Mode::MemoryFirst,
        ..settings()
    });
    rig.append(0..10, Ask::Nothing).await;
    rig.receive(10).await;
    assert_eq!(rig.disk.bytes(), 0);
    rig.settle(|_| true).await;
    // Nobody receives: its memory fills.
    rig.large = 100_000;
    for n in 10..100 {
        rig.append(n..n + 1, Ask::Nothing).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spilled = rig.disk.bytes();
    assert!(spilled > 1 << 20, "{spilled}");
    assert_eq!(rig.receive(90).await, (10..100).collect::<Vec<_>>());
    rig.settle(|_| true).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = rig.disk.bytes();
    rig.append(100..110, Ask::Nothing).await;
    rig.receive(10).await;
    assert_eq!(rig.disk.bytes(), before, "it is memory's turn again");
}

#[tokio::test(start_paused = true)]
async fn memory_comes_first_but_for_who_waits_for_the_disk() {
    let mut rig = Rig::new(super::Settings {
        mode: Mode::MemoryFirst,
        ..settings()
    });
    rig.append(0..10, Ask::Spooled).await;
    rig.receive(10).await;
    assert_eq!(rig.answer(3), Some(Delivery::Spooled));
}

#[tokio::test(start_paused = true)]
async fn a_torn_tail_is_cut_and_what_comes_after_it_is_numbered_on() {
    let mut rig = Rig::new(settings());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    let disk = rig.crash().await;
    disk.damage(|bytes| bytes.truncate(bytes.len() - 1));
    let mut rig = Rig::on(disk, settings());
    assert_eq!(rig.receive(2).await, [0, 1]);
    rig.append(3..5, Ask::Nothing).await;
    rig.receive(2).await;
    let mut rig = Rig::on(rig.crash().await, settings());
    assert_eq!(rig.receive(4).await, [0, 1, 3, 4]);
    assert_eq!(rig.counters.snapshot().abandoned, 0);
}

#[tokio::test]
async fn plaintext_of_an_earlier_run_is_not_sent_once_there_is_encryption() {
    let mut rig = Rig::new(settings());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    let disk = rig.crash().await;
    let opened = Rig::open(&disk, &settings(), false);
    assert!(
        matches!(opened, Err(SpoolError::Plaintext { records: 3, .. })),
        "{opened:?}"
    );
    assert_eq!(Rig::on(disk, settings()).found(), 3);
}

#[test]
fn what_waits_is_seen_from_outside_while_the_spool_is_at_work_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let settings = super::Settings::under(dir.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut rig = Rig::really(settings.clone());
        rig.append(0..5, Ask::Nothing).await;
        rig.receive(5).await;
        let seen = super::Standing::all(&settings.path).unwrap();
        let [seen] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((seen.records, seen.plain, seen.damaged), (5, true, 0));
        assert!(seen.bytes > 5 * 28 && seen.oldest_ms.is_some(), "{seen:?}");
        rig.settle(|_| true).await;
        rig.end().await;
    });
    let seen = super::Standing::all(&settings.path).unwrap();
    assert_eq!(
        (seen[0].records, seen[0].bytes, seen[0].oldest_ms),
        (0, 0, None)
    );
}

#[test]
fn a_later_version_is_refused_with_its_way_out() {
    let dir = settings().path.join("s");
    let disk = TestDisk::default();
    disk.put(
        "cursor.json",
        b"{\"version\":2,\"settled\":999,\"crc32\":1}",
    );
    let error = Rig::open(&disk, &settings(), true).unwrap_err().to_string();
    assert!(
        error.contains("cursor.json has version 2") && error.contains("remove"),
        "{error}"
    );

    let disk = TestDisk::default();
    let mut header = [0u8; 32];
    header[..8].copy_from_slice(b"KINSPOOL");
    header[8] = 9;
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    let path = dir.join("00000000000000000000.spool");
    disk.create(&path).unwrap().append(&header).unwrap();
    let error = Rig::open(&disk, &settings(), true).unwrap_err().to_string();
    assert!(error.contains("version 9"), "{error}");
}
