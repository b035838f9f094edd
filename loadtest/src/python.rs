//! No agent, but what a Python program would do today: a script that reads the same file, encrypts with AWS's Encryption
//! SDK, packs with aws-kinesis-agg and sends by boto3 (`rivals/python.py`). It is found in this program, its interpreter where
//! [`interpreter`] says.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use kinseal::fake::DEFAULT_REGION;
use kinseal::record::StreamName;
use serde::Deserialize;

use crate::agent::{Counts, Work};
use crate::cleanup::{Folder, Group};
use crate::other::{Other, PATIENCE};
use crate::process;
use crate::scenario::{Cache, Case, Encryption, Source};
use crate::target::Place;

const SCRIPT: &str = include_str!("../rivals/python.py");
/// The interpreter's name for whoever has it already.
const INTERPRETER: &str = "KINSEAL_PEERS_PYTHON";

/// What the script says of its work.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    /// From when its clients are made until the last line is stored.
    seconds: f64,
    /// User and system, in the same time.
    cpu_seconds: f64,
    peak_memory: u64,
    lines: u64,
    data_keys: u64,
    entries: u64,
    entries_retried: u64,
    /// Of entries, with their partition keys.
    bytes: u64,
    calls: u64,
}

/// What runs the script, if one of `cases` needs it: asked before any of them is run.
pub(crate) fn interpreter(cases: &[Case]) -> anyhow::Result<Option<PathBuf>> {
    match cases.iter().any(|case| case.source == Source::Python) {
        true => found(env::var_os(INTERPRETER), made).map(Some),
        false => Ok(None),
    }
}

/// That which is `named`, or else that which is made.
fn found(
    named: Option<OsString>,
    make: impl FnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<PathBuf> {
    let named = named.filter(|name| !name.is_empty()).map(PathBuf::from);
    let python = named.map_or_else(make, |named| has_what_it_needs(&named).map(|()| named));
    python.with_context(|| {
        format!(
            "source \"python\" needs an interpreter with what tests/peers/requirements.txt lists: name it in \
             {INTERPRETER}, or have `cargo xtask peers` make it"
        )
    })
}

fn has_what_it_needs(python: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(python);
    command.args(["-c", "import aws_encryption_sdk, aws_kinesis_agg, boto3"]);
    let shown = python.display();
    let output = command
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let why = said.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{shown}: {why}");
    Ok(())
}

/// By `cargo xtask peers`, in this program's own sources.
fn made() -> anyhow::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!(
        "source \"python\": making its environment (cargo xtask peers), which may take minutes"
    );
    // What pip leaves behind when it is interrupted goes with this.
    let folder = Folder::make()?;
    let mut command = Command::new(cargo);
    process::apart(&mut command)
        .args(["xtask", "peers"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped());
    let child = command.spawn().context("cannot start cargo")?;
    let group = Group::of(&child);
    let output = child.wait_with_output()?;
    drop(group);
    let printed = String::from_utf8_lossy(&output.stdout);
    match printed.lines().last() {
        Some(python) if output.status.success() => Ok(PathBuf::from(python)),
        _ => bail!("cargo xtask peers: {}", output.status),
    }
}

/// Runs it to its end on the lines of `log`, in whose folder it is put. `ca` is what it is to trust.
pub(crate) fn run(
    interpreter: &Path,
    case: &Case,
    place: &Place,
    log: &Path,
    ca: Option<&Path>,
) -> anyhow::Result<Work> {
    let script = log.with_file_name("python.py");
    fs::write(&script, SCRIPT)?;
    let mut command = Command::new(interpreter);
    command.arg(script).args(arguments(case, place)?).arg(log);
    place.admit(&mut command, ca);
    for (name, url) in [("KINESIS", &place.kinesis_url), ("KMS", &place.kms_url)] {
        if let Some(url) = url {
            command.env(format!("AWS_ENDPOINT_URL_{name}"), url);
        }
    }
    // boto3 has no ear for AWS_REGION.
    let region = match place.is_stand_in {
        true => Some(DEFAULT_REGION.into()),
        false => env::var_os("AWS_REGION"),
    };
    if let Some(region) = region {
        command.env("AWS_DEFAULT_REGION", region);
    }
    let said: Said = Other::start(&mut command, "the Python program")?.answer(PATIENCE)?;
    Ok(said.work())
}

/// As the script has them, but for the file.
fn arguments(case: &Case, place: &Place) -> anyhow::Result<Vec<String>> {
    let stream = StreamName::new(&place.stream)?;
    let mut arguments = vec!["--stream".to_owned(), stream.name().to_owned()];
    if case.encryption != Encryption::Off {
        let key = place.kms_key.clone().context("no KMS key is named")?;
        arguments.extend(["--kms-key".to_owned(), key]);
    }
    if let Cache::Messages(messages) = case.cache {
        arguments.extend(["--max-messages".to_owned(), messages.to_string()]);
    }
    if !case.aggregation {
        arguments.push("--single".to_owned());
    }
    Ok(arguments)
}

impl Said {
    fn work(self) -> Work {
        let counts = Counts {
            entries_stored: self.entries,
            entries_retried: self.entries_retried,
            calls: self.calls,
            data_keys: self.data_keys,
            ..Counts::of_single_lines(self.lines, self.bytes)
        };
        Work::of_another(self.seconds, self.cpu_seconds, self.peak_memory, counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn case(more: &str) -> Case {
        let text = format!("line_bytes = [200]\nlines = 10\nsource = ['python']\n{more}");
        Scenario::parse("s", &text).unwrap().cases(None).remove(0)
    }

    #[test]
    fn an_interpreter_that_is_named_is_taken_and_else_one_is_made_or_the_way_to_one_is_told() {
        let made = || Ok(PathBuf::from("made"));
        let of = |name: &str| found(Some(name.into()), made);
        assert_eq!(of("true").unwrap(), Path::new("true"));
        assert_eq!(of("").unwrap(), Path::new("made"));
        assert_eq!(found(None, made).unwrap(), Path::new("made"));
        let told = format!("{:#}", of("false").unwrap_err());
        assert!(told.contains("false: "), "it has not what it needs: {told}");
        let told = format!("{:#}", found(None, || bail!("no cargo")).unwrap_err());
        for word in [INTERPRETER, "`cargo xtask peers`", "no cargo"] {
            assert!(told.contains(word), "{told}");
        }
        let cases = Scenario::smoke().cases(None);
        assert_eq!(interpreter(&cases).unwrap(), None, "nothing needs it");
    }

    #[test]
    fn the_script_is_told_only_what_differs_from_its_own_ways() {
        let place = Place {
            stream: "arn:aws:kinesis:eu-west-1:123456789012:stream/shop".to_owned(),
            kms_key: Some("alias/shop".to_owned()),
            kinesis_url: None,
            kms_url: None,
            is_stand_in: false,
        };
        let told = |more: &str| arguments(&case(more), &place).unwrap().join(" ");
        assert_eq!(told("encryption = ['off']"), "--stream shop");
        assert_eq!(
            told("encryption = ['record']\ncache = [100]\naggregation = [false]"),
            "--stream shop --kms-key alias/shop --max-messages 100 --single"
        );
    }

    #[test]
    fn what_the_script_says_is_an_agents_account() {
        let said = r#"{"seconds": 2.0, "cpu_seconds": 1.5, "peak_memory": 9, "lines": 10,
            "data_keys": 1, "entries": 3, "entries_retried": 1, "bytes": 2400, "calls": 2}"#;
        let work = serde_json::from_str::<Said>(said).unwrap().work();
        let counts = &work.counts;
        assert_eq!(
            (counts.accepted, counts.stored, counts.pending),
            (10, 10, 0)
        );
        assert_eq!(
            (counts.entries_stored, counts.calls, counts.data_keys),
            (3, 2, 1)
        );
        assert_eq!((counts.bytes_stored, counts.entries_retried), (2400, 1));
    }
}
