//! Somebody removes the spool's files while it is at work.

use std::time::Duration;

use super::rig::{Ask, Rig, settings};
use crate::checkpoint::Lock;
use crate::delivery::Delivery;
use crate::spool::{Settings, Sync};

#[tokio::test(start_paused = true)]
async fn what_was_read_and_what_was_not_and_what_comes_after_it_is_sent_and_is_on_disk_again() {
    let mut rig = Rig::new(settings());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    // Appended, and not read yet: the reader waits for its turn.
    rig.disk.refuse(false, false, true);
    rig.append(3..6, Ask::Stored).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.disk.remove_all();
    rig.disk.refuse(false, false, false);
    rig.append(6..9, Ask::Spooled).await;
    assert_eq!(rig.receive(6).await, [3, 4, 5, 6, 7, 8]);
    assert_eq!(rig.answer(7), Some(Delivery::Spooled));
    let mut rig = Rig::on(rig.crash().await, settings());
    assert_eq!(rig.receive(9).await, (0..9).collect::<Vec<_>>());
    rig.check_keys_and_births(Duration::from_secs(600));
    rig.settle(|_| true).await;
    assert_eq!(rig.end().await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn a_kill_a_second_later_loses_nothing_though_nothing_comes() {
    for is_read in [true, false] {
        let mut rig = Rig::new(settings());
        rig.append(0..1, Ask::Spooled).await;
        rig.receive(1).await;
        rig.settle(|_| true).await;
        rig.disk.refuse(false, false, !is_read);
        rig.append(1..4, Ask::Spooled).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(rig.receive_ready().len(), if is_read { 3 } else { 0 });
        rig.disk.remove_all();
        rig.disk.refuse(false, false, false);
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let mut rig = Rig::on(rig.crash().await, settings());
        assert_eq!(rig.receive(3).await, [1, 2, 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_at_once_loses_nothing_and_one_segment_is_as_good_as_all() {
    let small = Settings {
        max_bytes: 16 << 20,
        ..settings()
    };
    for nth in [0, 1, 2] {
        let mut rig = Rig::new(small.clone());
        rig.large = 110_000;
        for n in 0..30 {
            rig.append(n..n + 1, Ask::Nothing).await;
            rig.receive(1).await;
        }
        rig.disk.remove_nth(nth);
        let (disk, left) = rig.end().await;
        assert_eq!(left, 30);
        let mut rig = Rig::on(disk, small.clone());
        assert_eq!(rig.receive(30).await, (0..30).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_again_is_sent_or_is_counted_as_lost_when_the_process_ends() {
    let mut rig = Rig::new(settings());
    rig.append(0..5, Ask::Nothing).await;
    rig.receive(5).await;
    rig.disk.remove_all();
    rig.disk.refuse(true, false, false);
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.settle(|n| n < 2).await;
    // Those were of one chunk, and the cursor waits for all of it.
    let counters = std::sync::Arc::clone(&rig.counters);
    let (disk, left) = rig.end().await;
    assert_eq!((left, counters.snapshot().abandoned), (0, 3));
    assert_eq!(disk.names(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_was_told_as_lost_at_the_end_is_not_missed_by_the_next_run() {
    let small = Settings {
        max_bytes: 16 << 20,
        ..settings()
    };
    // The oldest two of three files, or the newest.
    for (removed, missing, found) in [(&[0, 0][..], 17, 10), (&[2][..], 10, 17)] {
        let mut rig = Rig::new(small.clone());
        rig.large = 110_000;
        for n in 0..30 {
            rig.append(n..n + 1, Ask::Nothing).await;
            rig.receive(1).await;
        }
        rig.settle(|n| n < 3).await;
        // A note of all of them is on disk.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for nth in removed {
            rig.disk.remove_nth(*nth);
        }
        // As much as a cursor needs, and no segment.
        rig.disk.set_room(Some(1_000));
        let counters = std::sync::Arc::clone(&rig.counters);
        let (disk, left) = rig.end().await;
        assert_eq!((left, counters.snapshot().abandoned), (found, missing));
        disk.set_room(None);
        let rig = Rig::on(disk, small.clone());
        let counts = rig.counters.snapshot();
        assert_eq!((rig.found(), counts.abandoned), (found, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_hears_that_a_removed_file_survives_a_power_cut_is_right() {
    let interval = Settings {
        sync: Sync::Interval(Duration::from_secs(5)),
        ..settings()
    };
    for refuses in [true, false] {
        let mut rig = Rig::new(interval.clone());
        rig.append(0..3, Ask::Spooled).await;
        rig.receive(3).await;
        rig.disk.remove_all();
        rig.disk.refuse(refuses, false, false);
        tokio::time::sleep(Duration::from_secs(6)).await;
        let answer = rig.answer(1);
        if refuses {
            assert!(
                matches!(answer, Some(Delivery::Failed { .. })),
                "{answer:?}"
            );
            continue;
        }
        assert_eq!(answer, Some(Delivery::Spooled));
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        let disk = rig.crash().await.after_a_power_cut(&mut rng);
        assert_eq!(Rig::on(disk, interval.clone()).receive(3).await, [0, 1, 2]);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_where_another_process_has_the_directory_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::under(dir.path());
    let mut rig = Rig::really(settings.clone());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    std::fs::remove_dir_all(&settings.path).unwrap();
    let other = Lock::take(&settings.path).unwrap();
    rig.append(3..5, Ask::Nothing).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let there = std::fs::read_dir(&settings.path).unwrap();
    let there: Vec<_> = there.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(there, ["lock"]);
    // And once that has gone.
    drop(other);
    rig.receive(2).await;
    assert_eq!(rig.end().await.1, 5);
    assert_eq!(Rig::really(settings).found(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_older_spool_that_is_put_in_its_place_is_not_mixed_with_it() {
    let mut older = Rig::new(settings());
    older.append(100..130, Ask::Nothing).await;
    older.receive(30).await;
    let (older, _) = older.end().await;
    let mut rig = Rig::new(settings());
    rig.append(0..20, Ask::Spooled).await;
    rig.receive(20).await;
    rig.disk.remove_all();
    older.copy_all_to(&rig.disk);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (disk, left) = rig.end().await;
    assert_eq!(left, 20);
    let mut rig = Rig::on(disk, settings());
    assert_eq!(rig.receive(20).await, (0..20).collect::<Vec<_>>());
    let names = rig.disk.names();
    assert!(
        names.iter().any(|name| name.ends_with(".foreign")),
        "{names:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_written_after_a_file_was_cut_is_there_and_what_was_in_it_is_not_called_spooled() {
    let mut rig = Rig::new(settings());
    rig.append(0..5, Ask::Nothing).await;
    rig.receive(5).await;
    rig.disk.damage(Vec::clear);
    rig.append(5..8, Ask::Spooled).await;
    rig.receive(3).await;
    assert_eq!(rig.answer(6), Some(Delivery::Spooled));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let counters = std::sync::Arc::clone(&rig.counters);
    let (disk, left) = rig.end().await;
    assert_eq!((left, counters.snapshot().abandoned), (3, 5));
    let mut rig = Rig::on(disk, settings());
    assert_eq!(rig.receive(3).await, [5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_is_removed_is_saved_again_a_second_later() {
    let mut rig = Rig::new(settings());
    for n in 0..4 {
        rig.append(n..n + 1, Ask::Nothing).await;
        rig.receive(1).await;
    }
    rig.settle(|n| n < 2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(rig.disk.remove("cursor.json"));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let rig = Rig::on(rig.crash().await, settings());
    assert_eq!(rig.found(), 2);
}

#[tokio::test]
async fn a_folder_that_is_removed_with_all_that_waits_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::under(dir.path());
    let mut rig = Rig::really(settings.clone());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    std::fs::remove_dir_all(&settings.path).unwrap();
    assert_eq!(rig.end().await.1, 3);
    assert_eq!(Rig::really(settings).found(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_cursor_has_its_folder_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::under(dir.path());
    let mut rig = Rig::really(settings.clone());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    std::fs::remove_dir_all(&settings.path).unwrap();
    rig.settle(|_| true).await;
    for n in 3..5 {
        rig.append(n..n + 1, Ask::Spooled).await;
        rig.receive(1).await;
    }
    rig.settle(|id| id < 4).await;
    rig.end().await;
    let rig = Rig::really(settings);
    assert_eq!(rig.found(), 1);
}
