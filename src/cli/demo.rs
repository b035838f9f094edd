//! `kinseal demo`: the whole journey on one machine.

mod account;
mod journey;
mod progress;
mod reader;
mod report;
#[cfg(test)]
mod tests;
mod ticker;
mod way;
mod writer;

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use self::journey::ALIAS;
use self::progress::Progress;
use self::report::Report;
use self::way::Way;
use self::writer::Pace;
use super::hardening::CoreDumpArgs;
use super::local::{LocalArgs, Reach, say_goodbye, until_told_to_stop};
use crate::consume::ConsumedBatch;
use crate::fake::{self, Fake};
use crate::metrics::report::{Count, Thousands};

/// Show the whole journey on this machine, without an AWS account
///
/// Starts stand-ins for Kinesis and KMS on loopback, writes a file of stock-sale tickers that grows, tails
/// it, encrypts, aggregates, sends, reads the stream back, decrypts and compares; twice at once, with
/// scope = "record" and with preset = "compact", to show what each costs. Exits with 0 only if every record
/// came back equal in both ways.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// Records to write [default: about 10 seconds of work]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub records: Option<u64>,
    /// Shards of each stream
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub shards: u32,
    /// Leave the stand-ins running, and print how to reach them
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub core_dumps: CoreDumpArgs,
}

const EXAMPLES: &str = "\
Examples:
  kinseal demo
  kinseal demo --records 1000000 --shards 16
  kinseal demo --keep            then look around with kinseal consume, the AWS CLI or boto3";

/// As a shell tells of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    args.core_dumps.apply();
    tell(&args, &mut std::io::stdout(), |_, _| {}).await
}

/// `meddle` sees each batch before it is compared: a test's way to spoil one.
async fn tell(
    args: &DemoArgs,
    out: &mut impl Write,
    meddle: impl FnMut(Way, &mut ConsumedBatch) + Send,
) -> anyhow::Result<ExitCode> {
    let (fake, key_arn) = args.stand_ins().await?;
    let pace = args.pace();
    // A closed pipe is the reader's choice, here and below.
    let _ = writeln!(out, "{}", args.opening_words(pace));
    let mut progress = Progress::new(pace.records);
    let outcome = tokio::select! {
        outcome = journey::travel(&fake, pace, &mut progress, meddle) => Some(outcome),
        stopped = until_told_to_stop() => {
            stopped?;
            None
        }
    };
    progress.done();
    let Some(outcome) = outcome else {
        let _ = writeln!(std::io::stderr(), "kinseal: interrupted");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let outcome = outcome?;
    let told = write!(out, "{}", Report(&outcome)).and_then(|()| out.flush());
    if args.keep {
        let reach = args.reach(&fake, key_arn);
        let _ = write!(
            out,
            "\nThe stand-ins go on, with all records in memory. Ctrl-C ends them.\n\n{reach}"
        );
        until_told_to_stop().await?;
        say_goodbye(&fake);
    }
    fake.shutdown().await;
    match told {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(error).context("the result cannot be written to standard output");
        }
        _ => {}
    }
    match outcome.is_success() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}

impl DemoArgs {
    const SECONDS: u64 = 10;
    /// Three quarters of what the quota lets through: 1 MiB/s a shard are 2,000 sealed tickers.
    const PER_SHARD: u64 = 1500;
    /// A pace that two cores keep with ease, both ends and the stand-ins on them.
    const MOST: u64 = 24_000;

    fn pace(&self) -> Pace {
        let per_second = (u64::from(self.shards) * Self::PER_SHARD).min(Self::MOST);
        Pace {
            records: self.records.unwrap_or(per_second * Self::SECONDS),
            per_second,
        }
    }

    fn opening_words(&self, pace: Pace) -> String {
        format!(
            "{} at {} a second: file → agent → {} → consumer, in two ways:\n\
             \x20 record    each sale encrypted by itself          scope = \"record\"\n\
             \x20 compact   blocks of them, compressed with zstd   preset = \"compact\" (48 KiB or 5 s)",
            Count(pace.records, "stock sale"),
            Thousands(pace.per_second),
            Count(self.shards.into(), "shard"),
        )
    }

    /// With two streams and a key, whose ARN is told.
    async fn stand_ins(&self) -> anyhow::Result<(Fake, String)> {
        let fake = self.listen().await.context("cannot start the stand-ins")?;
        let refused = |error: fake::ApiError| anyhow::anyhow!(error.message);
        for way in Way::ALL {
            fake.create_stream(way.stream(), self.shards as usize)
                .map_err(refused)?;
        }
        let key_arn = fake.create_key();
        fake.create_alias(ALIAS, &key_arn).map_err(refused)?;
        Ok((fake, key_arn))
    }

    /// With `--keep` where `kinseal local` would answer, if nobody does there.
    async fn listen(&self) -> std::io::Result<Fake> {
        let well_known = SocketAddr::from((Ipv4Addr::LOCALHOST, LocalArgs::PORT));
        if self.keep {
            match Fake::builder().addr(well_known).start().await {
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                ended => return ended,
            }
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Fake::builder().addr(any).start().await
    }

    fn reach(&self, fake: &Fake, key_arn: String) -> Reach {
        Reach {
            kinesis_url: fake.kinesis_url(),
            kms_url: fake.kms_url(),
            region: fake::DEFAULT_REGION.into(),
            credential: fake::DEFAULT_CREDENTIAL.into(),
            any_credentials: true,
            ca_bundle: None,
            streams: Way::ALL
                .map(|way| (way.stream().into(), self.shards))
                .to_vec(),
            keys: vec![(ALIAS.into(), key_arn)],
        }
    }
}
