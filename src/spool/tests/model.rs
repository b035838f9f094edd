//! Random work, crashes, power cuts and refusing disks, against what must be true of a spool whatever happens.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rig::{Ask, Rig, settings};
use crate::delivery::Delivery;
use crate::spool::{Settings, Sync};

/// What is known of the records beside the spool.
#[derive(Debug, Default)]
struct Known {
    next: u64,
    /// Handed in, and not known to be settled.
    owed: BTreeSet<u64>,
    /// Of those: whose sender was told that they are on disk.
    promised: BTreeSet<u64>,
    /// Settled, ever.
    settled: BTreeSet<u64>,
    doubles: u64,
    /// A sync was refused: then a power cut may leave a gap in the middle.
    may_have_gaps: bool,
}

/// Runs one history; returns how many records came twice, of how many.
async fn history(seed: u64, sync: Sync) -> (u64, u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let settings = Settings { sync, ..settings() };
    let mut known = Known::default();
    let mut rig = Rig::new(settings.clone());
    for _ in 0..rng.random_range(20..60) {
        match rng.random_range(0..100) {
            0..40 => {
                let count = rng.random_range(1..20);
                let ask = [Ask::Nothing, Ask::Stored, Ask::Spooled][rng.random_range(0..3)];
                rig.large = [10, 1000, 100_000][rng.random_range(0..3)];
                let numbers = known.next..known.next + count;
                known.next += count;
                known.owed.extend(numbers.clone());
                rig.append(numbers, ask).await;
            }
            40..60 => {
                let came = rig.receive_ready();
                known.doubles += came.iter().filter(|n| known.settled.contains(n)).count() as u64;
            }
            60..80 => {
                let share: f64 = rng.random();
                let odd: u64 = rng.random();
                let chosen =
                    |n: u64| (n.wrapping_mul(odd) >> 32) as f64 / f64::from(u32::MAX) < share;
                let settled: Vec<u64> = rig.held.keys().copied().filter(|n| chosen(*n)).collect();
                rig.settle(chosen).await;
                for number in settled {
                    known.owed.remove(&number);
                    known.settled.insert(number);
                }
            }
            80..90 => tokio::time::sleep(Duration::from_millis(rng.random_range(0..3000))).await,
            90..94 => {
                let mut one_in_3 = || rng.random_range(0..3) == 0;
                let syncs = one_in_3();
                known.may_have_gaps |= syncs;
                rig.disk.refuse(one_in_3(), syncs, one_in_3());
                rig.disk.set_room(one_in_3().then_some(5000));
                tokio::time::sleep(Duration::from_secs(3)).await;
                rig.disk.refuse(false, false, false);
                rig.disk.set_room(None);
            }
            94 => {
                rig.disk.remove_all();
                // The writer looks each second, and each two while the disk has refused.
                tokio::time::sleep(Duration::from_millis(2500)).await;
            }
            crash => rig = restart(rig, &mut known, &mut rng, crash >= 97, &settings).await,
        }
        note_promises(&mut rig, &mut known);
    }
    // At the end all that is owed and was promised, or never saw a crash, comes and is settled.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let held: BTreeSet<u64> = rig.held.keys().copied().collect();
    let mut came: BTreeSet<u64> = held;
    loop {
        let more = rig.receive_ready();
        if more.is_empty() && rig.counters.snapshot().spooled as usize == rig.held.len() {
            break;
        }
        came.extend(more);
        rig.settle(|_| true).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let missing: Vec<_> = known.owed.difference(&came).collect();
    assert!(missing.is_empty(), "seed {seed}: {missing:?}");
    let abandoned = rig.counters.snapshot().abandoned;
    assert!(
        abandoned == 0 || known.may_have_gaps,
        "seed {seed}: {abandoned} lost"
    );
    (known.doubles, known.next)
}

/// Kills the process, or the machine.
async fn restart(
    mut rig: Rig,
    known: &mut Known,
    rng: &mut StdRng,
    power: bool,
    settings: &Settings,
) -> Rig {
    // What is in the writer's hands is on disk or not: only what was promised has to be there.
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..2))).await;
    note_promises(&mut rig, known);
    let all_is_on_disk = rig.memory_in_use() == 0 && !power;
    let disk = rig.crash().await;
    let disk = if power {
        disk.after_a_power_cut(rng)
    } else {
        disk
    };
    if !all_is_on_disk {
        // Told to nobody, and so owed to nobody any more.
        let promised = &known.promised;
        known.owed.retain(|n| promised.contains(n));
    }
    Rig::on(disk, settings.clone())
}

fn note_promises(rig: &mut Rig, known: &mut Known) {
    let owed: Vec<u64> = known.owed.iter().copied().collect();
    for number in owed {
        if rig.answer(number) == Some(Delivery::Spooled) {
            known.promised.insert(number);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_all_that_was_promised_comes_and_nothing_is_taken_for_damage() {
    let mut all = (0, 0);
    for seed in 0..60 {
        let sync = match seed % 2 {
            0 => Sync::Always,
            _ => Sync::Interval(Duration::from_millis(500)),
        };
        let (doubles, records) = history(seed, sync).await;
        all = (all.0 + doubles, all.1 + records);
    }
    // A history without work would show nothing.
    assert!(all.1 > 5_000, "{all:?}");
    assert!(all.0 < all.1 / 2, "{all:?}");
}
