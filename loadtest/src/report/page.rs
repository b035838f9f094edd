//! One page that answers the question in its first lines, and shows what the answer rests on.

use std::collections::BTreeMap;
use std::fmt::Write;

use kinseal::metrics::report::Thousands;

use super::answer::{self, Answer};
use super::compare::{self, Comparison, FIGURES};
use super::plot::{self, Axis, Bar, Scale, Series};
use super::{Report, Run};
use crate::agent::Sample;
use crate::scenario::Encryption;

const STYLE: &str = include_str!("page.css");

pub(super) fn page(report: &Report, old: Option<&Report>) -> String {
    let mut body = String::new();
    head(&mut body, report);
    latency(&mut body, report);
    over_time(&mut body, report);
    cpu(&mut body, report);
    bytes(&mut body, report);
    reading(&mut body, report);
    money(&mut body, report);
    all_runs(&mut body, report);
    if let Some(old) = old {
        comparison(&mut body, &Comparison::of(old, report));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>What client-side encryption costs</title><style>{STYLE}</style></head>\
         <body><main>{body}</main></body></html>\n"
    )
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn head(out: &mut String, report: &Report) {
    out.push_str("<h1>What client-side encryption costs</h1>");
    let answers = report.answers();
    out.push_str("<div class=\"answers\">");
    for answer in &answers {
        card(out, answer);
    }
    out.push_str("</div>");
    if answers.is_empty() {
        out.push_str("<p>This scenario has no run to compare with one without encryption.</p>");
    }
    let (machine, workload) = (&report.machine, &report.prices.workload);
    let violated = match report.violations() {
        0 => format!("Of the lines: {}.", report.verdict()),
        n => format!("<strong>{n} invariants were violated: see the table.</strong>"),
    };
    let target = report.target.as_ref();
    let target = target.map_or(String::new(), |target| format!(", to {target}"));
    let rough = report.roughness().unwrap_or_default();
    let debug = if report.optimized {
        ""
    } else {
        " <strong>A debug build: its figures mean nothing.</strong>"
    };
    let _ = write!(
        out,
        "<p class=\"small\">Against the same lines sent in clear. Shards and dollars for {} lines a second of {} hosts, at \
         prices of {}. {violated} {rough}{debug}<br>Scenario {}{}, {}; {} cores of {}{}, each of which hashes \
         {} MB/s (SHA-256), Linux {}; kinseal {}.</p>",
        Thousands(workload.lines_per_second),
        workload.hosts,
        escaped(&report.prices.as_of),
        escaped(&report.scenario),
        escaped(&target),
        escaped(&report.made),
        machine.cores,
        escaped(&machine.processor),
        if machine.avx512 { " with AVX-512" } else { "" },
        Thousands(machine.sha256_mb_per_s as u64),
        escaped(&machine.kernel),
        escaped(&machine.kinseal),
    );
}

fn card(out: &mut String, answer: &Answer<'_>) {
    let case = &answer.encrypted.case;
    let (class, way) = match case.encryption {
        Encryption::Off => ("off", "Nothing encrypted"),
        Encryption::Record => ("record", "Each record encrypted"),
        Encryption::Block => ("block", "Blocks encrypted"),
        Encryption::BlockZstd => ("block_zstd", "Blocks compressed, then encrypted"),
    };
    let _ = write!(
        out,
        "<section class=\"card\"><h2><i class=\"{class}\"></i>{way}</h2><p class=\"small\">lines of {}</p><dl>",
        case.length()
    );
    let mut figure = |name: &str, value: String| {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    figure("CPU", answer::signed(answer.cpu, "%"));
    figure("bytes", answer::signed(answer.bytes, "%"));
    if let Some(ms) = answer.p99_ms {
        figure("at p99", answer::signed_fine(ms, "ms"));
    }
    figure("shards", answer::signed(answer.shards, ""));
    figure("a month", answer::signed_dollars(answer.dollars));
    out.push_str("</dl></section>");
}

/// Runs that differ in how they are encrypted only.
fn places(report: &Report, wanted: impl Fn(&Run) -> bool) -> Vec<(String, Vec<&Run>)> {
    let mut places: Vec<(_, Vec<&Run>)> = Vec::new();
    for run in report.runs.iter().filter(|run| wanted(run)) {
        let place = run.case.without_encryption();
        match places.iter_mut().find(|(other, _)| *other == place) {
            Some((_, runs)) => runs.push(run),
            None => places.push((place, vec![run])),
        }
    }
    let title = |place: &crate::scenario::Case| {
        let name = place.to_string();
        name.strip_prefix("off, ").unwrap_or(&name).to_owned()
    };
    places
        .into_iter()
        .map(|(place, runs)| (title(&place), runs))
        .collect()
}

/// What is said of a run among those of its place.
fn short(run: &Run) -> String {
    let plain = run.case.without_encryption().to_string();
    let mut words: Vec<&str> = run.name.split(", ").collect();
    let of_place: Vec<&str> = plain.split(", ").skip(1).collect();
    words.retain(|word| !of_place.contains(word));
    words.join(", ")
}

/// Of the encryption; of further runs that encrypt alike, one after the other.
fn classes(runs: &[&Run]) -> Vec<String> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut class = |run: &&Run| {
        let name = match run.case.encryption {
            Encryption::Off => "off",
            Encryption::Record => "record",
            Encryption::Block => "block",
            Encryption::BlockZstd => "block_zstd",
        };
        let nth = seen.entry(name).or_default();
        *nth += 1;
        match *nth {
            1 => name.to_owned(),
            n => format!("{name} dash{}", (n - 1).min(4)),
        }
    };
    runs.iter().map(&mut class).collect()
}

fn figures(out: &mut String, title: &str, says: &str, figures: Vec<(String, String)>) {
    if figures.is_empty() {
        return;
    }
    let _ = write!(out, "<h2>{title}</h2><p>{says}</p><div class=\"figures\">");
    for (name, figure) in figures {
        let _ = write!(
            out,
            "<figure><figcaption>{}</figcaption>{figure}</figure>",
            escaped(&name)
        );
    }
    out.push_str("</div>");
}

fn lines_of(
    report: &Report,
    wanted: impl Fn(&Run) -> bool,
    (x, y): (&Axis, &Axis),
    points: impl Fn(&Run) -> Vec<(f64, f64)>,
) -> Vec<(String, String)> {
    let plot = |(title, runs): (String, Vec<&Run>)| {
        let series = runs.iter().zip(classes(&runs)).map(|(run, class)| Series {
            name: short(run),
            class,
            points: points(run),
        });
        let series: Vec<_> = series.filter(|s| !s.points.is_empty()).collect();
        (title, plot::lines(x, y, &series))
    };
    places(report, wanted).into_iter().map(plot).collect()
}

fn latency(out: &mut String, report: &Report) {
    let x = Axis {
        label: "percentile",
        scale: Scale::Nines,
    };
    let y = Axis {
        label: "milliseconds",
        scale: Scale::Log,
    };
    let whole = |run: &Run| {
        let curve = run.outcome.due_to_arrived.clone();
        curve.map(|curve| curve.points).unwrap_or_default()
    };
    let says = "At a steady pace: from when a line was due to when the request that held it had arrived, so that a line which \
                waits for a stalled writer counts too.";
    let has_arrivals = |run: &Run| run.outcome.due_to_arrived.is_some();
    let plots = lines_of(report, has_arrivals, (&x, &y), whole);
    figures(out, "Latency by percentile", says, plots);
}

fn over_time(out: &mut String, report: &Report) {
    let seconds = || Axis {
        label: "seconds since the start",
        scale: Scale::Linear,
    };
    let per_second = Axis {
        label: "lines stored a second",
        scale: Scale::Linear,
    };
    let has_samples = |run: &Run| !run.is_paced() && run.case.source.has_agent();
    let rate = |run: &Run| {
        let samples = from_the_start(run);
        let pairs = samples
            .windows(2)
            .filter(|pair| pair[1].seconds > pair[0].seconds);
        let rate = |pair: &[Sample]| {
            let stored = pair[1].stored - pair[0].stored;
            (
                pair[1].seconds,
                stored as f64 / (pair[1].seconds - pair[0].seconds),
            )
        };
        pairs.map(rate).collect()
    };
    let plots = lines_of(report, has_samples, (&seconds(), &per_second), rate);
    let says = "As fast as it goes. A run that ends earlier was faster.";
    figures(out, "Throughput over time", says, plots);
    let mebibytes = Axis {
        label: "MiB resident",
        scale: Scale::Linear,
    };
    let memory = |run: &Run| {
        let samples = run.outcome.agent.samples.iter();
        samples
            .map(|s| (s.seconds, s.memory as f64 / f64::from(1 << 20)))
            .collect()
    };
    let plots = lines_of(report, has_samples, (&seconds(), &mebibytes), memory);
    let says = "Of the whole agent, whose <code>memory_limit</code> is the default, 64 MiB, where its name gives no other.";
    figures(out, "Memory over time", says, plots);
}

/// With the moment at which nothing was stored yet: a short run has no other.
fn from_the_start(run: &Run) -> Vec<Sample> {
    let samples = &run.outcome.agent.samples;
    let start = Sample {
        seconds: 0.0,
        stored: 0,
        cpu_seconds: 0.0,
        memory: 0,
    };
    std::iter::once(start)
        .chain(samples.iter().copied())
        .collect()
}

/// Threads of the agent, by what they do, and the class of their colour.
const STAGES: [(&str, &str, &[&str]); 3] = [
    ("read and split", "s1", &["tail", "stdin"]),
    ("pack, encrypt, aggregate", "s2", &["seal"]),
    ("batch, sign, send (TLS), all else", "s3", &[]),
];

fn cpu(out: &mut String, report: &Report) {
    let bar = |run: &&Run| {
        let (agent, megabytes) = (&run.outcome.agent, run.megabytes());
        let of = |names: &[&str]| -> f64 {
            let named = agent.cpu_by_thread.iter();
            named
                .filter(|(name, _)| names.contains(&name.as_str()))
                .map(|(_, seconds)| seconds)
                .sum()
        };
        let named: f64 = STAGES.iter().map(|(_, _, names)| of(names)).sum();
        let part = |(_, class, names): &(&str, &str, &[&str])| {
            let seconds = match names.is_empty() {
                true => agent.cpu_seconds - named,
                false => of(names),
            };
            (seconds.max(0.0) * 1e3 / megabytes, (*class).to_owned())
        };
        Bar {
            name: short(run),
            parts: STAGES.iter().map(part).collect(),
            label: format!("{:.1} ms", run.cpu_per_megabyte() * 1e3),
        }
    };
    let parts = STAGES.map(|(name, class, _)| (name, class));
    let plot = |(title, runs): (String, Vec<&Run>)| {
        let bars: Vec<Bar> = runs.iter().map(bar).collect();
        (title, plot::bars(&bars, &parts))
    };
    let has_threads = |run: &Run| !run.is_paced() && run.case.source.has_agent();
    let plots = places(report, has_threads).into_iter().map(plot);
    let says = "Milliseconds of the agent's processor time for a megabyte of lines, by the threads that took it.";
    figures(out, "CPU per MB by stage", says, plots.collect());
}

fn bytes(out: &mut String, report: &Report) {
    let plot = |(title, runs): (String, Vec<&Run>)| {
        let bars = runs.iter().zip(classes(&runs)).map(|(run, class)| Bar {
            name: short(run),
            parts: vec![(run.bytes_per_line(), class)],
            label: format!("{:.0} B", run.bytes_per_line()),
        });
        let ratio = runs.first().map_or(1.0, |run| run.outcome.zstd_ratio);
        let title = format!("{title} (zstd makes 48 KiB of them {ratio:.1} times smaller)");
        (title, plot::bars(&bars.collect::<Vec<_>>(), &[]))
    };
    let plots = places(report, |run| !run.is_paced()).into_iter().map(plot);
    let says = "In the stream, partition keys included: what shards are sized and billed by.";
    figures(out, "Bytes per line", says, plots.collect());
}

fn reading(out: &mut String, report: &Report) {
    let rows = report.runs.iter().filter_map(|run| {
        let back = run.outcome.read_back.as_ref()?;
        let gigabytes = back.log_bytes as f64 / 1e9;
        Some(vec![
            run.name.clone(),
            format!("{:.1}", back.read.cpu_seconds / gigabytes),
            format!("{:.1}", run.cpu_per_megabyte() * 1e3),
            Thousands(back.read.kms_calls).to_string(),
        ])
    });
    let head = [
        "run",
        "reader, CPU-s/GB",
        "agent, CPU-s/GB",
        "Decrypt calls",
    ];
    table(
        out,
        "Reading it back",
        "With GetRecords, taken apart and opened by <code>kinseal</code>'s own reader.",
        &head,
        rows,
    );
}

fn money(out: &mut String, report: &Report) {
    let rows = report.runs.iter().filter(|run| !run.is_paced()).map(|run| {
        let cost = report.prices.of(run);
        vec![
            run.name.clone(),
            format!("{:.0}", cost.shards),
            format!("{:.2}", cost.vcpus),
            format!("${:.0}", cost.stream),
            format!("${:.2}", cost.kms),
            format!("${:.2}", cost.cpu),
            format!("${:.0}", cost.dollars()),
        ]
    });
    let head = ["run", "shards", "vCPUs", "stream", "KMS", "CPU", "a month"];
    let workload = &report.prices.workload;
    let says = format!(
        "{} lines a second of {} hosts, provisioned shards, entries as full as they were here; prices of {}, to be put right in \
         <code>loadtest/prices.toml</code>.",
        Thousands(workload.lines_per_second),
        workload.hosts,
        escaped(&report.prices.as_of)
    );
    table(out, "What that is in money", &says, &head, rows);
}

fn all_runs(out: &mut String, report: &Report) {
    let rows = report.runs.iter().map(|run| {
        let agent = &run.outcome.agent;
        let violations: Vec<String> = run
            .outcome
            .violations
            .iter()
            .map(ToString::to_string)
            .collect();
        let verdict = match violations.is_empty() {
            true => "held".to_owned(),
            false => violations.join("; "),
        };
        vec![
            run.name.clone(),
            Thousands(run.lines_per_second() as u64).to_string(),
            Thousands(run.lines_per_cpu_second() as u64).to_string(),
            format!("{:.0}", run.bytes_per_line()),
            run.latency_shown(0.5),
            run.latency_shown(0.99),
            format!("{}", agent.peak_memory >> 20),
            Thousands(agent.counts.calls).to_string(),
            agent.counts.data_keys.to_string(),
            run.sink_cpu(),
            verdict,
        ]
    });
    let head = [
        "run",
        "lines/s",
        "lines/CPU-s",
        "B/line",
        "p50 ms",
        "p99 ms",
        "RSS MiB",
        "calls",
        "data keys",
        "sink CPU s",
        "invariants",
    ];
    let says = "The sink is a process of its own, and its CPU is its own. Latencies of runs without a pace are those of a full \
                pipeline: they tell how much is under way.";
    table(out, "All runs", says, &head, rows);
}

fn comparison(out: &mut String, comparison: &Comparison<'_>) {
    let rows = comparison.rows.iter().map(|(old, new)| {
        let figures = FIGURES.iter().map(|figure| {
            let (old, new) = ((figure.of)(old), (figure.of)(new));
            let digits = figure.digits;
            let is_better = (new > old) == figure.more_is_better;
            let mark = match (new / old - 1.0).abs() > 0.05 {
                true if is_better => "▲ ",
                true => "▼ ",
                false => "",
            };
            format!(
                "{old:.digits$} → {new:.digits$} ({mark}{})",
                compare::change(old, new)
            )
        });
        std::iter::once(new.name.clone()).chain(figures).collect()
    });
    let mut head = vec!["run"];
    head.extend(FIGURES.iter().map(|figure| figure.name));
    let alone = [&comparison.only_old, &comparison.only_new].map(|names| names.len());
    let warnings = comparison.warnings.iter();
    let warnings = warnings.map(|warning| format!(" <strong>{}.</strong>", escaped(warning)));
    let says = format!(
        "Since {}. ▲ better, ▼ worse by more than 5 %. {} runs are only in the old one, {} only in this.{}",
        escaped(&comparison.old.made),
        alone[0],
        alone[1],
        warnings.collect::<String>()
    );
    table(out, "Beside an earlier report", &says, &head, rows);
}

/// Numbers to the right, the first column to the left.
fn table(
    out: &mut String,
    title: &str,
    says: &str,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = write!(
        out,
        "<h2>{title}</h2><p>{says}</p><div class=\"scroll\"><table><thead><tr>"
    );
    for cell in head {
        let _ = write!(out, "<th>{}</th>", escaped(cell));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escaped(&cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table></div>");
}
