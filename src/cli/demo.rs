//! `kinseal demo`: the whole journey on one machine.

use std::process::ExitCode;

use clap::Args;

/// Show the whole journey on this machine, without an AWS account
///
/// Starts stand-ins for Kinesis and KMS on loopback, writes a file of stock-sale tickers that grows, tails
/// it, encrypts, aggregates, sends, reads the stream back, decrypts and compares. Exits with 0 only if
/// every record came back equal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Records to write [default: about 10 seconds of work]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub records: Option<u64>,
    /// Shards of the stream
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,
    /// Leave the stand-ins running, and print how to reach them
    #[arg(long)]
    pub keep: bool,
}

const EXAMPLES: &str = "\
Examples:
  kinseal demo
  kinseal demo --records 1000000 --shards 8
  kinseal demo --keep            then look around with kinseal consume, the AWS CLI or boto3";

pub async fn run(_args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no demo yet")
}
