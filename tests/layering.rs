//! Who may use whom: the paths that the code names, held against the table of tiers.
//!
//! Only code that ships counts: what is compiled for tests alone is left out. Comments are not code.

mod code;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use code::SourceFile;

/// A module and what it stands on. A module is found by the longest name here that its path begins with.
struct Module {
    name: &'static str,
    tier: u8,
    /// Modules of its own tier that it may use: each the output of the stage before, or an assembled part.
    beside: &'static [&'static str],
}

const fn module(tier: u8, name: &'static str, beside: &'static [&'static str]) -> Module {
    Module { name, tier, beside }
}

/// In the design's order.
const TIERS: &[Module] = &[
    // 0 words: one another
    module(0, "record", WORDS),
    module(0, "delivery", WORDS),
    module(0, "retry", WORDS),
    module(0, "metrics", WORDS),
    module(0, "shutdown", WORDS),
    module(0, "readat", &[]),
    module(0, "recurring", &[]),
    module(0, "hex", &[]),
    module(0, "near", &[]),
    module(0, "secretfile", &[]),
    module(0, "statedir", &[]),
    module(0, "durable", &[]),
    // 1 codecs: words
    module(1, "seal::message", &[]),
    module(1, "aggregate::format", &[]),
    // That a message is a block stands in its context.
    module(1, "seal::block", &["aggregate::format", "seal::message"]),
    module(1, "daemon::message", &[]),
    module(1, "cbor", &[]),
    module(1, "source::frame", &[]),
    module(1, "source::framing", &["source::frame"]),
    module(1, "source::join", &["source::frame"]),
    module(1, "source::shape", &["source::frame"]),
    // 2 stages: words, codecs, and the output of the stage before
    // Where a file was read up to is the source's word; how far that is settled is the checkpoint's.
    module(2, "source", &["checkpoint"]),
    module(2, "seal", &["source"]),
    module(2, "aggregate", &["seal", "shard"]),
    // Calls the same service: failures are told apart in one place.
    module(2, "shard", &["send"]),
    module(2, "batch", &["aggregate"]),
    // A batch is made of aggregates, and an answer is for each of them.
    module(2, "send", &["batch", "aggregate"]),
    module(2, "checkpoint", &[]),
    // Holds what was sealed; what is settled is kept as for files, and what it reads costs what a source's records do.
    module(2, "spool", &["seal", "checkpoint", "source"]),
    module(2, "deadletter", &["seal"]),
    // 3 assembly
    module(3, "pipeline", &[]),
    module(3, "producer", &["pipeline", "aws"]),
    module(3, "consume", &["aws"]),
    module(3, "aws", &[]),
    // 4 doors
    module(4, "admin", &[]),
    // Each knows what there is to see of it, and so starts who is asked.
    module(4, "agent", &["admin"]),
    module(4, "daemon", &["admin"]),
    module(4, "multilang", &[]),
    // 5 shell
    module(5, "config", &[]),
    module(5, "cli", &["config"]),
];

const WORDS: &[&str] = &["record", "delivery", "retry", "metrics", "shutdown"];

/// Beside the tiers: shares the codecs, never a stage.
const FAKE: &str = "fake";
const FAKE_REACHES: u8 = 1;

/// The only files that name the AWS SDK, each behind a small trait.
const AWS_SDK: &[&str] = &[
    "aws.rs",
    "aws/renewal.rs",
    "seal/kms/client.rs",
    "seal/kms/error.rs",
    "seal/kms/generate.rs",
    "seal/kms/unwrap.rs",
    "send/kinesis.rs",
    "send/kinesis/answers.rs",
    "shard/kinesis.rs",
    "consume/shards.rs",
    "consume/fanout.rs",
    "consume/fanout/register.rs",
    "daemon/clients.rs",
    "daemon/clients/unverified.rs",
    "daemon/upload.rs",
    // What the SDK is handed of answers that are read before.
    "consume/page.rs",
    "send/reading.rs",
    // Frames alone.
    "fake/eventstream.rs",
    // What of it is not to be logged.
    "cli/log.rs",
];

#[test]
fn no_module_uses_one_above_it() {
    let mut wrong = BTreeSet::new();
    for file in SourceFile::all() {
        for path in file.paths() {
            if let Err(why) = allowed(&file.module, &path) {
                wrong.insert(format!("src/{} uses {path}: {why}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", lines(&wrong));
}

#[test]
fn every_module_has_its_tier() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(root).expect("src is there") {
        let name = entry.expect("readable").file_name();
        let name = name.to_string_lossy();
        let module = name.strip_suffix(".rs").unwrap_or(&name);
        if !["lib", "main", FAKE].contains(&module) {
            assert!(tier_of(module).is_some(), "src/{name} has no line in TIERS");
        }
    }
}

#[test]
fn the_aws_sdk_is_named_behind_its_traits_only() {
    let mut wrong = BTreeSet::new();
    for file in SourceFile::all() {
        // Its crates as paths: the log filters them by name too.
        for path in file.crate_paths(&["aws_sdk_", "aws_config", "aws_smithy_", "aws_credential_"])
        {
            if !AWS_SDK.contains(&file.name.as_str()) {
                wrong.insert(format!("src/{} names {path}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", lines(&wrong));
}

#[test]
fn codecs_do_no_input_or_output() {
    let mut wrong = BTreeSet::new();
    for file in SourceFile::all() {
        if tier_of(&file.module).is_some_and(|module| module.tier == 1) {
            let names = [
                "tokio",
                "std::fs",
                "std::net",
                "std::io",
                "std::time::Instant",
            ];
            for name in names.iter().filter(|name| file.code.contains(**name)) {
                wrong.insert(format!("src/{} names {name}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", lines(&wrong));
}

/// Whether code in module `user` may name `path`.
fn allowed(user: &str, path: &str) -> Result<(), String> {
    let Some(used) = tier_of(path) else {
        return if is_within(user, FAKE) && is_within(path, FAKE) {
            Ok(())
        } else if is_within(path, FAKE) {
            // `demo` and `local` run the stand-ins.
            is_within(user, "cli")
                .then_some(())
                .ok_or_else(|| "only the shell does".into())
        } else {
            Err("it has no tier".into())
        };
    };
    if is_within(user, FAKE) {
        let within = used.tier <= FAKE_REACHES;
        return within.then_some(()).ok_or_else(|| {
            format!(
                "a stand-in reaches tier {FAKE_REACHES}, it is of tier {}",
                used.tier
            )
        });
    }
    let Some(user) = tier_of(user) else {
        return Err("the user has no tier".into());
    };
    let same = user.name == used.name || user.beside.contains(&used.name);
    if used.tier < user.tier || same {
        return Ok(());
    }
    Err(format!(
        "{} is of tier {}, {} of tier {}",
        user.name, user.tier, used.name, used.tier
    ))
}

fn tier_of(path: &str) -> Option<&'static Module> {
    TIERS
        .iter()
        .filter(|module| is_within(path, module.name))
        .max_by_key(|module| module.name.len())
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn lines(wrong: &BTreeSet<String>) -> String {
    let lines: Vec<_> = wrong.iter().map(|line| format!("\n  {line}")).collect();
    lines.concat()
}
