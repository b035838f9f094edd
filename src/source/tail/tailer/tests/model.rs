//! Against a model: whatever happens to the files and the agent, and in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::packed::gz;
use super::*;

/// What may happen to a log, and to who reads it.
#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    /// Bytes that become a line with whatever is appended next.
    AppendPart,
    Rotate,
    /// And it is compressed at once; the compressor may have removed the file, or not yet.
    Compress {
        removed: bool,
    },
    Read,
    Settle,
    Restart,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..40).prop_map(Step::Append),
        2 => Just(Step::AppendPart),
        2 => Just(Step::Rotate),
        2 => any::<bool>().prop_map(|removed| Step::Compress { removed }),
        4 => Just(Step::Read),
        3 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

/// Plays `steps`; with `matching`, rotated files match the glob still. Returns how often each line came, and
/// whether there was a moment when lines were read and abandoned.
fn play(
    steps: &[Step],
    matching: bool,
    kept: usize,
    closes: bool,
) -> (BTreeMap<String, u32>, u32, bool) {
    let mut rig = Rig::new(&[if matching { "a.log*" } else { "a.log" }]);
    rig.kept = kept;
    if closes {
        rig.settings.close_inactive = Duration::from_secs(1);
        rig.settings.max_open_files = 1;
    }
    rig.start();
    // The least that a budget has goes to somebody else.
    let _unit = (kept == 0).then(|| rig.run().tailer.outlet.unfinished.try_reserve(1));
    let (mut seen, mut abandoned, mut next, mut rotations) = (BTreeMap::new(), false, 0, 0);
    let (mut has_part, mut is_known) = (false, false);
    let mut note = |lines: Vec<String>| {
        for line in lines {
            let line = line.trim_start_matches('p').to_owned();
            *seen.entry(line).or_insert(0u32) += 1;
        }
    };
    rig.read();
    for step in steps {
        match step {
            Step::Append(lines) => {
                for _ in 0..*lines {
                    rig.append("a.log", &format!("{next}\n"));
                    next += 1;
                }
                has_part = false;
            }
            Step::AppendPart => {
                rig.append("a.log", "p");
                has_part = true;
            }
            Step::Rotate | Step::Compress { .. } if !rig.path("a.log").exists() => {}
            // Without a glob that matches it, a file is only known once it has been seen.
            Step::Rotate | Step::Compress { .. } if !matching && !is_known => {}
            // And its copy is not asked for.
            Step::Compress { removed: true } if !matching => {}
            // One that was closed, and grew and went before a look, is not known in a copy that holds more.
            Step::Compress { removed: true } if closes => {}
            Step::Rotate | Step::Compress { .. } => {
                // The line it ends with is another story: it becomes a record, or waits for ever.
                if has_part {
                    rig.append("a.log", &format!("{next}\n"));
                    next += 1;
                    has_part = false;
                }
                let name = format!("a.log.{rotations}");
                rig.rename("a.log", &name);
                match step {
                    Step::Compress { removed: true } => {
                        rig.compress(&name, &(name.clone() + ".gz"), gz)
                    }
                    Step::Compress { removed: false } => {
                        rig.pack(&name, &(name.clone() + ".gz"), gz)
                    }
                    _ => {}
                }
                rotations += 1;
                is_known = false;
            }
            Step::Read => {
                note(rig.read());
                is_known = rig.path("a.log").exists();
            }
            Step::Settle => rig.settle(),
            Step::Restart | Step::Kill => {
                abandoned |= !rig.held.is_empty() || matches!(step, Step::Kill);
                match step {
                    Step::Restart => rig.stop(),
                    _ => rig.kill(),
                }
                rig.start();
                note(rig.read());
                is_known = rig.path("a.log").exists();
            }
        }
    }
    rig.append("a.log", &format!("{next}\n"));
    next += 1;
    // One copy at a time, and each once what is read of its file is settled.
    for _ in 0..rotations + 2 {
        note(rig.read());
        rig.settle();
    }
    rig.stop();
    rig.start();
    let again = rig.read();
    assert!(again.is_empty(), "settled, and read again: {again:?}");
    (seen, next, abandoned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_line_is_read_exactly_once_unless_a_restart_abandons_it(
        steps in prop::collection::vec(step(), 1..40),
        matching: bool,
        keeps: bool,
        closes: bool,
    ) {
        let kept = if keeps { UNFINISHED_KEPT } else { 0 };
        let (seen, written, abandoned) = play(&steps, matching, kept, closes);
        let want: BTreeMap<String, u32> = (0..written).map(|n| (n.to_string(), 1)).collect();
        if abandoned {
            prop_assert!(seen.keys().eq(want.keys()), "{seen:?} of {written}");
        } else {
            prop_assert_eq!(seen, want);
        }
    }
}
