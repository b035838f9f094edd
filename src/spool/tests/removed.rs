//! Somebody removes the spool's files while it is at work.

use std::time::Duration;

use super::rig::{Ask, Rig, settings};
use crate::delivery::Delivery;
use crate::spool::{Settings, Sync};

#[tokio::test(start_paused = true)]
async fn what_comes_after_the_removal_is_on_disk_again_and_what_was_there_is_told_as_lost() {
    let mut rig = Rig::new(settings());
    rig.append(0..3, Ask::Nothing).await;
    rig.receive(3).await;
    // Appended, and not read yet: the reader waits for its turn.
    rig.disk.refuse(false, false, true);
    rig.append(3..6, Ask::Stored).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    rig.disk.remove_all();
    rig.disk.refuse(false, false, false);
    rig.append(6..9, Ask::Spooled).await;
    assert_eq!(rig.receive(3).await, [6, 7, 8]);
    assert_eq!(rig.answer(7), Some(Delivery::Spooled));
    assert!(
        rig.answer(4).is_some_and(|answer| !answer.is_stored()),
        "{:?}",
        rig.answer(4)
    );
    assert_eq!(rig.counters.snapshot().abandoned, 3);

    let mut rig = Rig::on(rig.crash().await, settings());
    assert_eq!(rig.receive(3).await, [6, 7, 8]);
    rig.settle(|_| true).await;
    assert_eq!(rig.end().await.1, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_that_a_removed_file_survives_a_power_cut() {
    let mut rig = Rig::new(Settings {
        sync: Sync::Interval(Duration::from_secs(5)),
        ..settings()
    });
    rig.append(0..3, Ask::Spooled).await;
    rig.receive(3).await;
    rig.disk.remove_all();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let answer = rig.answer(1);
    assert!(
        matches!(answer, Some(Delivery::Failed { .. })),
        "{answer:?}"
    );
    rig.append(3..4, Ask::Spooled).await;
    assert_eq!(rig.receive(1).await, [3]);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(rig.answer(3), Some(Delivery::Spooled));
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
