//! One run: a folder, a file of lines, a sink, an agent, and what came of it.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::agent::{self, Work};
use crate::invariants::{self, Violation};
use crate::lines;
use crate::scenario::{Case, Encryption};
use crate::sink::{self, Arrived, Place, Sink};

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub(crate) agent: Work,
    pub(crate) sink: Arrived,
    pub(crate) log_bytes: u64,
    /// Kinesis records that arrived beyond those acknowledged.
    pub(crate) duplicates: u64,
    pub(crate) violations: Vec<Violation>,
}

/// The folder goes with the run, and with it the file, the state and the certificate.
pub(crate) fn run(case: &Case) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let folder = folder.path();
    let log = folder.join("lines.log");
    // Just written, so it is in the page cache: the disk is not what is measured.
    let log_bytes = lines::write(&log, case.lines, case.line_bytes)?;
    let state = folder.join("state");
    fs::create_dir(&state)?;

    let ca = case.tls.then(|| folder.join("ca.pem"));
    let mut sink = Sink::start(case, ca.as_deref())?;
    let config = folder.join("agent.toml");
    fs::write(
        &config,
        configuration(case, &sink.place, folder).to_string(),
    )?;
    let work = agent::run(&config, case.lines, ca.as_deref())?;
    let arrived = sink.arrived()?;

    let saved = fs::read_to_string(state.join("checkpoint.json"));
    let saved = saved.context("the agent left no checkpoint")?;
    let violations = invariants::check(case, &work, &arrived, log_bytes, &saved);
    Ok(Outcome {
        duplicates: arrived.entries.saturating_sub(work.counts.entries_stored),
        agent: work,
        sink: arrived,
        log_bytes,
        violations,
    })
}

/// The agent's configuration: defaults, but for what the case says; and for the quota of shards, which the sink
/// does not have, unless what failing entries cost is the question.
fn configuration<'a>(
    case: &'a Case,
    place: &'a Place,
    folder: &'a Path,
) -> impl fmt::Display + use<'a> {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let encryption = match case.encryption {
        Encryption::Off => "scope = \"off\"".to_owned(),
        Encryption::Record => format!(
            "scope = \"record\"\nkms_key = \"{}\"\ncontext = {{ app = \"loadtest\" }}",
            sink::KEY
        ),
    };
    format!(
        "state_dir = {state}\n\
         [aws]\nregion = \"{region}\"\nkinesis_endpoint_url = \"{kinesis}\"\nkms_endpoint_url = \"{kms}\"\n\
         [[source]]\ntype = \"file\"\ninclude = [{log}]\nstart_position = \"beginning\"\nstream = \"{stream}\"\n\
         [encryption]\n{encryption}\n\
         [aggregation]\nenabled = {aggregation}\n{delivery}",
        state = quoted(&folder.join("state")),
        region = kinseal::fake::DEFAULT_REGION,
        kinesis = place.kinesis_url,
        kms = place.kms_url,
        log = quoted(&folder.join("lines.log")),
        stream = sink::STREAM,
        aggregation = case.aggregation,
        delivery = match case.failing {
            Some(_) => "",
            None => "[delivery]\nrate_limit = 1000000\n",
        },
    )
}
