//! There is no room: on the disk, or within the spool's own bound.

use std::time::Duration;

use super::rig::{Ask, Rig, settings};
use crate::delivery::Delivery;
use crate::spool::{Settings, Sync};

fn small() -> Settings {
    Settings {
        max_bytes: 16 << 20,
        ..settings()
    }
}

#[tokio::test(start_paused = true)]
async fn of_what_finds_no_room_as_much_as_fits_is_spooled_and_no_more_is_called_lost() {
    for room in [450_000, 1_000_000] {
        let mut rig = Rig::new(settings());
        rig.large = 100_000;
        rig.disk.set_room(Some(room));
        rig.append(0..20, Ask::Spooled).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let fits = room as u64 / 100_100;
        assert_eq!(rig.answer(fits - 1), Some(Delivery::Spooled));
        assert_eq!(rig.answer(fits), None);
        let counters = std::sync::Arc::clone(&rig.counters);
        rig.stop_writing().await;
        rig.disk.set_room(None);
        let (disk, left) = rig.end().await;
        assert_eq!(left, fits);
        assert_eq!(counters.snapshot().abandoned, 20 - fits);
        let mut rig = Rig::on(disk, settings());
        assert_eq!(rig.found(), fits);
        assert_eq!(
            rig.receive(fits as usize).await,
            (0..fits).collect::<Vec<_>>()
        );
        assert_eq!(rig.counters.snapshot().abandoned, 0);
    }
}

/// A disk that is full to its last byte has no room for a cursor either, without which nothing is deleted.
#[tokio::test(start_paused = true)]
async fn a_disk_without_a_byte_of_room_goes_on_once_records_are_stored() {
    for room in [300_000, 1_250_000, 3_000_000] {
        let mut rig = Rig::new(small());
        rig.large = 100_000;
        rig.disk.set_room(Some(room));
        for n in 0..60 {
            rig.append(n..n + 1, Ask::Nothing).await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut received = Vec::new();
        for _ in 0..200 {
            received.extend(rig.receive_ready());
            rig.settle(|_| true).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(received, (0..60).collect::<Vec<_>>(), "{room}");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let rig = Rig::on(rig.crash().await, small());
        let counts = rig.counters.snapshot();
        assert_eq!((rig.found(), counts.abandoned), (0, 0), "{room}");
        assert_eq!(rig.disk.names(), ["cursor.json"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_says_what_is_settled_counts_for_its_own_spool_until_a_cursor_says_the_same() {
    for is_ours in [true, false] {
        let mut rig = Rig::new(small());
        rig.large = 110_000;
        for n in 0..30 {
            rig.append(n..n + 1, Ask::Nothing).await;
            rig.receive(1).await;
        }
        let id = rig.id() ^ u32::from(!is_ours);
        let disk = rig.crash().await;
        let (disk, _) = Rig::on(disk, small()).end().await;
        disk.remove_nth(0);
        disk.put(&format!("{id:08x}-{:020}.settled", 10), b"");
        let mut rig = Rig::on(disk, small());
        assert_eq!(rig.found(), if is_ours { 20 } else { 30 });
        assert_eq!(rig.receive(20).await, (10..30).collect::<Vec<_>>());
        rig.settle(|_| true).await;
        let lost = rig.counters.snapshot().abandoned;
        assert_eq!(lost, if is_ours { 0 } else { 10 });
        let (disk, _) = rig.end().await;
        assert_eq!(disk.names(), ["cursor.json"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_on_disk_is_synced_in_time_though_there_is_no_room_for_more() {
    let interval = Settings {
        max_bytes: 4 << 20,
        sync: Sync::Interval(Duration::from_secs(1)),
        ..settings()
    };
    for room in [None, Some(900_000)] {
        let mut rig = Rig::new(interval.clone());
        rig.large = 400_000;
        rig.disk.set_room(room);
        for n in 0..12 {
            rig.append(n..n + 1, Ask::Spooled).await;
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(rig.answer(0), Some(Delivery::Spooled), "{room:?}");
        assert_eq!(rig.answer(11), None);
    }
}
