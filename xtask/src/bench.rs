//! All benches and one table of what they say, beside the committed one.
//!
//! Clocks of shared machines are noisy, so two things count: what a bench takes beside the floor or rival of its own
//! group, measured in the same run; and instructions, counted by callgrind (`benches/instructions.rs`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::step::{self, Step};

/// What is committed.
const TABLE: &str = "benches/RESULTS.md";
const RESULTS: &str = "benches/results.json";

/// More is worth a word, of a ratio to the floor: medians of two runs lie so far apart.
const NOISE: f64 = 0.15;
/// The same of instructions, which are counted.
const DRIFT: f64 = 0.02;

/// What a run came to, by the benches' names.
#[derive(Debug, Default)]
struct Results {
    benches: BTreeMap<String, Bench>,
    /// Of one element.
    instructions: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy)]
struct Bench {
    nanoseconds: f64,
    elements: Option<f64>,
    bytes: Option<f64>,
}

/// Runs those of which the name contains `filter`, or all, and writes the table in place of the committed one.
pub(crate) fn all(filter: Option<&str>) -> anyhow::Result<bool> {
    let old = fs::read_to_string(RESULTS).ok();
    let old = old.and_then(|text| serde_json::from_str(&text).ok());
    let old: Value = old.unwrap_or_default();
    let criterion = step::target_dir()?.join("criterion");
    if filter.is_none() && criterion.exists() {
        // What benches of other names once said.
        fs::remove_dir_all(&criterion).context("cannot remove old results")?;
    }
    let mut args = vec!["bench", "--package", "kinseal"];
    for bench in ["frame", "seal", "aggregate", "keys", "pipeline", "send"] {
        args.extend(["--bench", bench]);
    }
    args.extend(["--", "--noplot"]);
    args.extend(filter);
    let (status, _) = Step::cargo("benches", &args).run()?;
    ensure!(status.success(), "a bench failed");
    let results = Results {
        benches: collect(&criterion)?,
        instructions: instructions()?,
    };
    for told in results.beside(&old) {
        println!("{told}");
    }
    if filter.is_none() {
        fs::write(TABLE, results.to_string()).context(TABLE)?;
        let json = serde_json::to_string_pretty(&results.json())?;
        fs::write(RESULTS, json + "\n").context(RESULTS)?;
        println!(
            "written: {TABLE} and {RESULTS}; commit them if they are to be the ones to compare with"
        );
    } else {
        println!("{results}");
    }
    Ok(true)
}

/// From what criterion leaves: `GROUP/BENCH/new/{benchmark,estimates}.json`, at any depth.
fn collect(criterion: &Path) -> anyhow::Result<BTreeMap<String, Bench>> {
    let mut benches = BTreeMap::new();
    let mut folders = vec![criterion.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.ends_with("new") {
                let about = read(&path.join("benchmark.json"))?;
                let estimates = read(&path.join("estimates.json"))?;
                let name = about["full_id"].as_str().context("no full_id")?;
                let median = estimates["median"]["point_estimate"].as_f64();
                let throughput = &about["throughput"];
                let both = &throughput["ElementsAndBytes"];
                let of = |key: &str| throughput[key].as_f64();
                let bench = Bench {
                    nanoseconds: median.context("no median")?,
                    elements: of("Elements").or(both["elements"].as_f64()),
                    bytes: of("Bytes").or(both["bytes"].as_f64()),
                };
                benches.insert(name.to_owned(), bench);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(benches)
}

fn read(path: &PathBuf) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Of each loop, one element; empty where there is no valgrind.
fn instructions() -> anyhow::Result<BTreeMap<String, f64>> {
    let mut counted = BTreeMap::new();
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("no valgrind: instructions are not counted; install it to have them");
        return Ok(counted);
    }
    let built = Command::new(env!("CARGO"))
        .args(["bench", "--package", "kinseal", "--bench", "instructions"])
        .args(["--no-run", "--message-format", "json"])
        .output()
        .context("cannot start cargo")?;
    ensure!(
        built.status.success(),
        "the bench of instructions cannot be built"
    );
    let messages = String::from_utf8(built.stdout)?;
    let program = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "instructions")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo does not say what it built")?;
    let list = Command::new(&program).arg("--list").output()?;
    for line in String::from_utf8(list.stdout)?.lines() {
        let (elements, name) = line.split_once(' ').context("no name in the list")?;
        let elements: f64 = elements.parse()?;
        let few = callgrind(&program, name, 10)?;
        let more = callgrind(&program, name, 30)?;
        counted.insert(name.to_owned(), (more - few) / 20.0 / elements);
    }
    Ok(counted)
}

fn callgrind(program: &Path, name: &str, times: u32) -> anyhow::Result<f64> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &times.to_string()])
        .output()
        .context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&run.stderr);
    let line = said.lines().find(|line| line.contains("Collected :"));
    let count = line.and_then(|line| line.rsplit(' ').next());
    let count = count.and_then(|count| count.parse().ok());
    count.with_context(|| format!("callgrind counted nothing of \"{name}\":\n{said}"))
}

impl Bench {
    /// Millions of elements, and gigabytes, a second.
    fn rate(self) -> String {
        let per_second = |count: f64| count / self.nanoseconds * 1e9;
        let rates = [
            self.elements
                .map(|elements| format!("{:.2} M/s", per_second(elements) / 1e6)),
            self.bytes
                .map(|bytes| format!("{:.2} GB/s", per_second(bytes) / 1e9)),
        ];
        let rates: Vec<String> = rates.into_iter().flatten().collect();
        match rates[..] {
            [] => format!("{:.2} µs", self.nanoseconds / 1e3),
            _ => rates.join(", "),
        }
    }
}

impl Results {
    /// The floor of a bench: the one of that name in its group, or in the whole file of its kind, by what they are called.
    fn floor_of(&self, name: &str) -> Option<&Bench> {
        let mut group = name;
        while let Some((outer, last)) = group.rsplit_once('/') {
            if last == "floor" {
                return None;
            }
            let inner = name.strip_prefix(outer)?.trim_start_matches('/');
            let size = inner.split_once('/').map(|(_, size)| size);
            let with_size =
                size.and_then(|size| self.benches.get(&format!("{outer}/floor/{size}")));
            if let Some(floor) = with_size.or_else(|| self.benches.get(&format!("{outer}/floor"))) {
                return Some(floor);
            }
            group = outer;
        }
        None
    }

    /// How many times the floor's time one element takes.
    fn ratio(&self, name: &str) -> Option<f64> {
        let (bench, floor) = (self.benches.get(name)?, self.floor_of(name)?);
        let per = |bench: &Bench| bench.nanoseconds / bench.elements.or(bench.bytes).unwrap_or(1.0);
        Some(per(bench) / per(floor))
    }

    fn json(&self) -> Value {
        let benches: BTreeMap<_, _> = self
            .benches
            .iter()
            .map(|(name, bench)| {
                let ratio = self.ratio(name);
                (
                    name,
                    json!({ "nanoseconds": bench.nanoseconds, "to_floor": ratio }),
                )
            })
            .collect();
        json!({ "benches": benches, "instructions": self.instructions })
    }

    /// What has moved, of what does not depend on the clock.
    fn beside(&self, old: &Value) -> Vec<String> {
        let mut told = Vec::new();
        for name in self.benches.keys() {
            let before = old["benches"][name]["to_floor"].as_f64();
            if let (Some(now), Some(before)) = (self.ratio(name), before)
                && (now / before - 1.0).abs() > NOISE
            {
                told.push(format!(
                    "moved: {name}: {now:.2} times its floor, {before:.2} before"
                ));
            }
        }
        for (name, now) in &self.instructions {
            if let Some(before) = old["instructions"][name].as_f64()
                && (now / before - 1.0).abs() > DRIFT
            {
                told.push(format!(
                    "moved: {name}: {now:.0} instructions, {before:.0} before"
                ));
            }
        }
        if told.is_empty() && !old.is_null() {
            told.push("nothing has moved beyond the noise".to_owned());
        }
        told
    }
}

/// What the table's names mean.
const LEGEND: &str = "\
Made by `cargo xtask bench`: medians of one run, and beside each what it takes of its group's floor.

A name is a group, and what is done in it. `floor` is what nobody can do without: `memchr`, the bare AEAD, MD5, or base64 and SHA-256. What each
of the others is stands at the top of the file that it is of: `frame`, `keys`, `aggregate` and `pipeline` in files of these names, `seal`, `open` and
blocks in [seal](seal/main.rs), requests of so many entries in [send.rs](send.rs). There `body` writes and hashes what is signed, and
writes it once more to be sent; `body by the SDK` is its serialiser alone, which hashes nothing: set `call` beside `call by the SDK`, and for what a
call costs with its connection and its answer, [`loadtest sender`](../README.md#benchmarks).
";

impl std::fmt::Display for Results {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = String::new();
        let _ = writeln!(table, "# What the benches said\n");
        let _ = writeln!(table, "{LEGEND}");
        let _ = writeln!(
            table,
            "| bench | median | time of its floor |\n|---|--:|--:|"
        );
        for (name, bench) in &self.benches {
            let ratio = self
                .ratio(name)
                .map_or(String::new(), |ratio| format!("{ratio:.2} x"));
            let _ = writeln!(table, "| {name} | {} | {ratio} |", bench.rate());
        }
        if !self.instructions.is_empty() {
            let _ = writeln!(
                table,
                "\nInstructions, counted by callgrind, which knows no AVX-512:\n"
            );
            let _ = writeln!(table, "| loop | instructions |\n|---|--:|");
            for (name, count) in &self.instructions {
                let _ = writeln!(table, "| {name} | {count:.0} |");
            }
        }
        f.write_str(&table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(benches: &[(&str, f64, f64)], instructions: &[(&str, f64)]) -> Results {
        let bench = |nanoseconds, elements| Bench {
            nanoseconds,
            elements: Some(elements),
            bytes: None,
        };
        Results {
            benches: benches
                .iter()
                .map(|(name, ns, n)| ((*name).to_owned(), bench(*ns, *n)))
                .collect(),
            instructions: instructions
                .iter()
                .map(|(name, n)| ((*name).to_owned(), *n))
                .collect(),
        }
    }

    #[test]
    fn a_bench_stands_beside_the_floor_of_its_group_and_size() {
        let all = [
            ("a/200/floor", 100.0, 10.0),
            ("a/200/ours", 150.0, 10.0),
            ("a/200/ours, twice", 150.0, 20.0),
            ("b/floor/1000", 10.0, 1.0),
            ("b/frame/1000", 25.0, 1.0),
            ("c/alone", 1.0, 1.0),
        ];
        let results = results(&all, &[]);
        assert_eq!(results.ratio("a/200/ours"), Some(1.5));
        assert_eq!(results.ratio("a/200/ours, twice"), Some(0.75));
        assert_eq!(results.ratio("b/frame/1000"), Some(2.5));
        assert_eq!(results.ratio("a/200/floor"), None);
        assert_eq!(results.ratio("c/alone"), None);
    }

    #[test]
    fn what_moved_is_told_and_noise_is_not() {
        let all = |ours| [("a/floor", 100.0, 1.0), ("a/ours", ours, 1.0)];
        let old = results(&all(200.0), &[("loop", 1000.0)]).json();
        let noise = results(&all(220.0), &[("loop", 1010.0)]).beside(&old);
        assert_eq!(noise, ["nothing has moved beyond the noise"]);
        let moved = results(&all(300.0), &[("loop", 1100.0)]).beside(&old);
        assert_eq!(
            moved,
            [
                "moved: a/ours: 3.00 times its floor, 2.00 before",
                "moved: loop: 1100 instructions, 1000 before",
            ]
        );
    }
}
