//! No agent of ours, but another shipper that catches up with the same file: fluent-bit, or Vector, where its program is on the
//! PATH. It is configured as its documentation has it for a file and a stream, with all else its default; so its promises
//! are not kinseal's (README, Beside other programs).
//!
//! Neither says when it is done. It is when as many records have arrived as there are lines, or, where several lines are
//! one record, when none came for a while; its time and CPU are those of the last arrival. One that has lost lines is waited for
//! for longer: what is read back tells then.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kinseal::fake::DEFAULT_REGION;

use crate::agent::{Counts, Sample, Work};
use crate::cleanup::Group;
use crate::process;
use crate::scenario::{Case, Source};
use crate::sink::{Arrived, Sink};
use crate::target::Place;

/// How often to look whether all has arrived.
const LOOK: Duration = Duration::from_millis(50);
/// Where it is not known how many records are to come. fluent-bit flushes once a second, and Vector's batches wait as long.
const NO_MORE: Duration = Duration::from_secs(5);
/// Before anything has arrived, or before all has that is to.
const STUCK: Duration = Duration::from_secs(60);

/// Those of `cases` whose program is there; and the names of programs that are not, or do not start.
pub(crate) fn on_the_path(cases: Vec<Case>) -> (Vec<Case>, Vec<&'static str>) {
    let mut absent = Vec::new();
    for program in [Source::FluentBit, Source::Vector]
        .into_iter()
        .filter_map(program)
    {
        let needs = |case: &Case| self::program(case.source) == Some(program);
        if cases.iter().any(needs) && !starts(program) {
            absent.push(program);
        }
    }
    let is_there = |case: &Case| program(case.source).is_none_or(|name| !absent.contains(&name));
    (cases.into_iter().filter(is_there).collect(), absent)
}

fn starts(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn program(source: Source) -> Option<&'static str> {
    match source {
        Source::FluentBit => Some("fluent-bit"),
        Source::Vector => Some("vector"),
        _ => None,
    }
}

/// Runs it on the lines of `log`, in whose folder its configuration is put, until they are at `sink`. `ca` is what it is to trust.
pub(crate) fn run(
    case: &Case,
    place: &Place,
    log: &Path,
    ca: &Path,
    sink: &mut Sink,
    mut told: impl FnMut(Sample),
) -> anyhow::Result<Work> {
    let program = program(case.source).context("another program's source")?;
    let folder = log.parent().context("a file in a folder")?;
    let (name, text, arguments) = match case.source {
        Source::FluentBit => {
            let text = fluent_bit(case, place, log, ca)?;
            ("fluent-bit.conf", text, ["-q", "-c"])
        }
        _ => {
            let text = vector(place, log, ca, folder)?;
            ("vector.yaml", text, ["-qq", "--config"])
        }
    };
    let path = folder.join(name);
    fs::write(&path, text)?;
    let mut command = Command::new(program);
    command.args(arguments).arg(&path);
    place.admit(&mut command, Some(ca));
    process::apart(&mut command);
    let began = Instant::now();
    let process = command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut shipper = Shipper {
        _group: Group::of(&process),
        process,
    };
    let mut last = Last::at(began);
    loop {
        std::thread::sleep(LOOK);
        let arrived = sink.arrived()?;
        if arrived.entries > last.arrived {
            last = shipper.moment(began, arrived.entries)?;
            told(last.sample);
        }
        let waited = last.when.elapsed();
        let is_over = match case.aggregation {
            true => arrived.entries > 0 && waited >= NO_MORE,
            false => arrived.entries >= case.lines || arrived.entries > 0 && waited >= STUCK,
        };
        if is_over {
            return Ok(last.work(case, &arrived));
        }
        let so_far = || {
            let entries = arrived.entries;
            format!("{entries} records had arrived; what it says of that stands above")
        };
        if let Some(status) = shipper.process.try_wait()? {
            bail!("{program} has ended ({status}) when {}", so_far());
        }
        ensure!(
            waited < STUCK,
            "{program} has sent nothing for {} s, when {}",
            STUCK.as_secs(),
            so_far()
        );
    }
}

/// Ends with this.
struct Shipper {
    process: Child,
    /// Also where this program is interrupted.
    _group: Group,
}

/// What it had come to when something had arrived.
struct Last {
    arrived: u64,
    when: Instant,
    peak_memory: u64,
    sample: Sample,
}

impl Shipper {
    fn moment(&self, began: Instant, arrived: u64) -> anyhow::Result<Last> {
        let id = self.process.id();
        let memory = process::memory_of(id)?;
        Ok(Last {
            arrived,
            when: Instant::now(),
            peak_memory: memory.peak,
            sample: Sample {
                seconds: began.elapsed().as_secs_f64(),
                stored: arrived,
                cpu_seconds: process::cpu_of_process(id)?.as_secs_f64(),
                memory: memory.now,
            },
        })
    }
}

impl Last {
    fn at(when: Instant) -> Self {
        Self {
            arrived: 0,
            when,
            peak_memory: 0,
            sample: Sample {
                seconds: 0.0,
                stored: 0,
                cpu_seconds: 0.0,
                memory: 0,
            },
        }
    }

    /// What it says of records is what arrived: it keeps no account of its own.
    fn work(self, case: &Case, sink: &Arrived) -> Work {
        let counts = Counts {
            entries_stored: sink.entries,
            calls: sink.put_records_calls,
            ..Counts::of_single_lines(case.lines, sink.bytes_stored)
        };
        let Sample {
            seconds,
            cpu_seconds,
            ..
        } = self.sample;
        Work {
            samples: vec![self.sample],
            ..Work::of_another(seconds, cpu_seconds, self.peak_memory, counts)
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Its classic format. `log_key` has it send the line itself, and not JSON with the line in it; several are one record where
/// lines are aggregated, each with a newline behind it.
fn fluent_bit(case: &Case, place: &Place, log: &Path, ca: &Path) -> anyhow::Result<String> {
    let (log, ca, port, stream) = (log.display(), ca.display(), port(place)?, &place.stream);
    let aggregation = case.aggregation;
    Ok(format!(
        "[SERVICE]\n    Flush 1\n    Log_Level warn\n\
         [INPUT]\n    Name tail\n    Path {log}\n    Read_from_Head true\n\
         [OUTPUT]\n    Name kinesis_streams\n    Match *\n    region {DEFAULT_REGION}\n    stream {stream}\n    \
         endpoint localhost\n    port {port}\n    tls.ca_file {ca}\n    log_key log\n    simple_aggregation {aggregation}\n"
    ))
}

fn vector(place: &Place, log: &Path, ca: &Path, folder: &Path) -> anyhow::Result<String> {
    let data = folder.join("vector");
    fs::create_dir(&data)?;
    let (log, ca, data) = (log.display(), ca.display(), data.display());
    let (port, stream) = (port(place)?, &place.stream);
    Ok(format!(
        "data_dir: {data}\n\
         sources:\n  in: {{type: file, include: [{log}], read_from: beginning}}\n\
         sinks:\n  out:\n    type: aws_kinesis_streams\n    inputs: [in]\n    stream_name: {stream}\n    \
         region: {DEFAULT_REGION}\n    endpoint: https://localhost:{port}\n    tls: {{ca_file: {ca}}}\n    \
         encoding: {{codec: text}}\n    acknowledgements: {{enabled: true}}\n    healthcheck: {{enabled: false}}\n"
    ))
}

/// Of a stand-in, which they call by the name that its certificate has.
fn port(place: &Place) -> anyhow::Result<&str> {
    let url = place.kinesis_url.as_deref().unwrap_or_default();
    let (_, port) = url.rsplit_once(':').context("a stand-in has a port")?;
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn case(text: &str) -> Case {
        let text = format!("encryption = ['off']\nline_bytes = [200]\nlines = 10\n{text}");
        Scenario::parse("s", &text).unwrap().cases(None).remove(0)
    }

    #[test]
    fn runs_of_a_program_that_is_not_there_are_left_out_and_it_is_named() {
        let all = Scenario::smoke().cases(None);
        assert_eq!(on_the_path(all.clone()), (all, Vec::new()));
        let needs = case("source = ['vector']\naggregation = [false]\nkeep = true");
        let expected = match starts("vector") {
            true => (vec![needs.clone()], Vec::new()),
            false => (Vec::new(), vec!["vector"]),
        };
        assert_eq!(on_the_path(vec![needs]), expected);
    }

    #[test]
    fn what_they_are_told_is_where_lines_are_and_where_they_go() {
        let place = Place {
            kinesis_url: Some("https://127.0.0.1:7443".to_owned()),
            ..Place::nowhere()
        };
        let folder = tempfile::tempdir().unwrap();
        let (log, ca) = (Path::new("/t/lines.log"), Path::new("/t/ca.pem"));
        let of_fluent_bit = |text: &str| fluent_bit(&case(text), &place, log, ca).unwrap();
        let told = of_fluent_bit("source = ['fluent_bit']\nkeep = true");
        for word in [
            "Path /t/lines.log",
            "port 7443",
            "tls.ca_file /t/ca.pem",
            "simple_aggregation true",
        ] {
            assert!(told.contains(word), "{word} in {told}");
        }
        let told = vector(&place, log, ca, folder.path()).unwrap();
        for word in [
            "include: [/t/lines.log]",
            "https://localhost:7443",
            "ca_file: /t/ca.pem",
        ] {
            assert!(told.contains(word), "{word} in {told}");
        }
    }
}
