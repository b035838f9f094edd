//! `kinseal local`: the stand-ins as a server for local development.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::record::StreamName;

/// Run stand-ins for Kinesis and KMS on this machine, for local development
///
/// They keep their records in memory, bounded, and forget them at the end. Reached only from this machine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LocalArgs {
    /// Where Kinesis answers on 127.0.0.1; 0: any free port
    #[arg(long, default_value_t = 4567)]
    pub port: u16,
    /// Where KMS answers [default: the same port]
    #[arg(long, value_name = "PORT")]
    pub kms_port: Option<u16>,
    /// Make a stream at the start (repeatable)
    #[arg(long = "stream", value_name = "NAME:SHARDS", value_parser = stream_and_shards)]
    pub streams: Vec<(StreamName, u32)>,
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
  kinseal local --stream shop-logs:4
  kinseal local --port 4567 --strict --faults throttle.json
  aws --endpoint-url http://127.0.0.1:4567 kinesis list-streams";

pub async fn run(_args: LocalArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no stand-ins yet")
}

/// `shop-logs:4`; `shop-logs` alone has one shard.
fn stream_and_shards(text: &str) -> Result<(StreamName, u32), String> {
    let (name, shards) = text.split_once(':').unwrap_or((text, "1"));
    let shards = shards.parse().ok().filter(|n| (1..=1000).contains(n));
    match (StreamName::new(name), shards) {
        (Ok(name), Some(shards)) => Ok((name, shards)),
        _ => Err("allowed: NAME:SHARDS with 1 to 1000 shards, like shop-logs:4".into()),
    }
}
