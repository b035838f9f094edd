//! `kinseal local`: the stand-ins as a server for local development.

mod reach;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

pub(super) use self::reach::Reach;
use super::connection;
use crate::fake::{self, Counters, Fake, Faults, Service};
use crate::metrics::report::{Bytes, Thousands};
use crate::record::StreamName;

/// Run stand-ins for Kinesis and KMS on this machine, for local development
///
/// They keep their records in memory, bounded, and forget them at the end. Reached only from this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LocalArgs {
    /// Where Kinesis answers on 127.0.0.1; 0: any free port
    #[arg(long, default_value_t = LocalArgs::PORT)]
    pub port: u16,
    /// Where KMS answers [default: the same port]
    #[arg(long, value_name = "PORT")]
    pub kms_port: Option<u16>,
    /// Make a stream at the start (repeatable) [default: shop-logs:4]
    #[arg(long = "stream", value_name = "NAME:SHARDS", value_parser = stream_and_shards)]
    pub streams: Vec<(StreamName, u32)>,
    /// Make a KMS key with this alias at the start (repeatable) [default: alias/shop]
    #[arg(long, value_name = "ALIAS", value_parser = alias)]
    pub kms_key: Vec<String>,
    /// Serve https with a certificate made for this run
    #[arg(long)]
    pub tls: bool,
    /// Refuse what the service would refuse: signatures, limits, shard throughput
    #[arg(long)]
    pub strict: bool,
    /// Answer as this script of faults says
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  kinseal local
  kinseal local --stream orders:2 --stream clicks:8 --kms-key alias/orders
  kinseal local --strict --faults throttle.toml
  aws --endpoint-url http://127.0.0.1:4567 kinesis list-streams

A faults file, here for a tenth of all entries of PutRecords:
  [[rule]]
  operation = \"PutRecords\"
  do = \"throttle\"
  entries = \"10%\"";

pub async fn run(args: LocalArgs) -> anyhow::Result<ExitCode> {
    let fake = args.start().await?;
    let ca = CaFile::of(&fake)?;
    let reach = Reach {
        ca_bundle: ca.as_ref().map(|ca| ca.path.clone()),
        ..args.furnish(&fake)?
    };
    // A closed pipe is the reader's choice, here and below.
    let _ = write!(
        std::io::stdout(),
        "Stand-ins for Kinesis and KMS, in memory. Ctrl-C ends them.\n\n{reach}"
    );
    until_told_to_stop().await?;
    say_goodbye(&fake);
    fake.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

impl LocalArgs {
    /// Where kinesalite and other stand-ins answer, so that people's scripts fit.
    pub(super) const PORT: u16 = 4567;

    async fn start(&self) -> anyhow::Result<Fake> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut builder = Fake::builder().tls(self.tls).strict(self.strict);
        builder = match self.kms_port {
            Some(port) => builder.kinesis_addr(at(self.port)).kms_addr(at(port)),
            None => builder.addr(at(self.port)),
        };
        if let Some(path) = &self.faults {
            builder = builder.faults(faults(path)?);
        }
        match builder.start().await {
            Ok(fake) => Ok(fake),
            Err(error) => Err(self.not_started(error)),
        }
    }

    fn not_started(&self, error: std::io::Error) -> anyhow::Error {
        let kms_port = self.kms_port.map(|port| ("--kms-port", port));
        let asked = [Some(("--port", self.port)), kms_port];
        let refused = asked.into_iter().flatten().find(|(_, port)| {
            // Port 0 is never refused, and what is refused once is refused again.
            *port != 0 && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err()
        });
        match (error.kind(), refused) {
            (ErrorKind::AddrInUse, Some((option, port))) => anyhow::anyhow!(
                "port {port} of 127.0.0.1 is in use; end what listens there, or give another: {option} {}, \
                 or 0 for any that is free",
                port.wrapping_add(1).max(1024)
            ),
            (ErrorKind::PermissionDenied, Some((option, port))) => anyhow::anyhow!(
                "port {port} is not allowed to this user; give one from 1024 up, like {option} {}",
                Self::PORT
            ),
            _ => anyhow::Error::new(error).context("cannot start the stand-ins"),
        }
    }

    /// Makes the streams and the keys.
    fn furnish(&self, fake: &Fake) -> anyhow::Result<Reach> {
        let mut streams: Vec<(String, u32)> = self
            .streams
            .iter()
            .map(|(name, shards)| (name.name().to_owned(), *shards))
            .collect();
        if streams.is_empty() {
            streams.push(("shop-logs".into(), 4));
        }
        for (name, shards) in &streams {
            fake.create_stream(name, *shards as usize)
                .map_err(|error| anyhow::anyhow!("--stream {name}:{shards}: {}", error.message))?;
        }
        let mut aliases = self.kms_key.clone();
        if aliases.is_empty() {
            aliases.push("alias/shop".into());
        }
        let mut keys = Vec::new();
        for alias in aliases {
            let arn = fake.create_key();
            fake.create_alias(&alias, &arn)
                .map_err(|error| anyhow::anyhow!("--kms-key {alias}: {}", error.message))?;
            keys.push((alias, arn));
        }
        Ok(Reach {
            kinesis_url: fake.kinesis_url(),
            kms_url: fake.kms_url(),
            region: fake::DEFAULT_REGION.into(),
            credential: fake::DEFAULT_CREDENTIAL.into(),
            any_credentials: !self.strict,
            ca_bundle: None,
            streams,
            keys,
        })
    }
}

/// Resolves at the first SIGINT or SIGTERM.
pub(super) async fn until_told_to_stop() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// What the stand-ins did, on a line of its own.
pub(super) fn say_goodbye(fake: &Fake) {
    let mut out = std::io::stdout();
    // The terminal has just shown a ^C there.
    let line_end = if out.is_terminal() { "\n" } else { "" };
    let _ = writeln!(out, "{line_end}{}", Answered(&fake.counters()));
}

/// The certificate authority as a file, for as long as the stand-ins run.
struct CaFile {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl CaFile {
    fn of(fake: &Fake) -> anyhow::Result<Option<Self>> {
        let Some(pem) = fake.ca_pem() else {
            return Ok(None);
        };
        let dir = tempfile::Builder::new()
            .prefix("kinseal-local-")
            .tempdir()
            .context("cannot make a directory for the certificate; set TMPDIR to one that can be written to")?;
        let path = dir.path().join("ca.pem");
        std::fs::write(&path, pem).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Some(Self { path, _dir: dir }))
    }
}

/// What the stand-ins did, in one line.
struct Answered<'a>(&'a Counters);

impl std::fmt::Display for Answered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counters = self.0;
        let calls = |service, operation| Thousands(counters.calls_of(service, operation));
        write!(
            f,
            "stored {} Kinesis records ({}), read {}; answered {} PutRecords, {} GetRecords, {} GenerateDataKey, {} Decrypt",
            Thousands(counters.records_stored),
            Bytes(counters.bytes_stored),
            Thousands(counters.records_read),
            calls(Service::Kinesis, "PutRecords"),
            calls(Service::Kinesis, "GetRecords"),
            calls(Service::Kms, "GenerateDataKey"),
            calls(Service::Kms, "Decrypt"),
        )?;
        let refused = counters.throttled_entries + counters.faulted_entries;
        if refused + counters.faulted_calls + counters.refused_signatures > 0 {
            write!(
                f,
                "; refused {} entries, faults in {} calls, {} bad signatures",
                Thousands(refused),
                Thousands(counters.faulted_calls),
                Thousands(counters.refused_signatures),
            )?;
        }
        Ok(())
    }
}

fn faults(path: &Path) -> anyhow::Result<Faults> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        anyhow::anyhow!("--faults {shown}: {error}; the README tells what stands in such a file")
    })?;
    Faults::from_toml(&text).map_err(|error| {
        let mistakes = error.mistakes().iter().map(|m| format!("{shown}: {m}"));
        anyhow::anyhow!(
            "the faults file has mistakes:\n{}",
            mistakes.collect::<Vec<_>>().join("\n")
        )
    })
}

/// `shop-logs:4`; `shop-logs` alone has one shard.
fn stream_and_shards(text: &str) -> Result<(StreamName, u32), String> {
    let (name, shards) = text.split_once(':').unwrap_or((text, "1"));
    let shards = shards.parse().ok().filter(|n| (1..=10_000).contains(n));
    match (StreamName::new(name), shards) {
        (Ok(name), Some(shards)) => Ok((name, shards)),
        _ => Err("allowed: NAME:SHARDS with 1 to 10000 shards, like shop-logs:4".into()),
    }
}

fn alias(text: &str) -> Result<String, String> {
    match connection::kms_key(text) {
        Ok(alias) if alias.starts_with("alias/") => Ok(alias),
        _ => Err("allowed: an alias, like alias/shop".into()),
    }
}
