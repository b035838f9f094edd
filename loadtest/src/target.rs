//! Where lines are sent: to a stand-in of each run's own, or to a stream that somebody names.
//!
//! A named stream is at AWS, or where `--endpoint` says. What is not on this machine costs money, and has to be meant
//! ([`Bill`]). It has shards, faults and latencies of its own, and what arrives there is not known here.

mod bill;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use kinseal::consume::{KinesisStream, ListStream as _};
use kinseal::record::StreamName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use self::bill::Bill;
use crate::report::Prices;
use crate::scenario::{Case, Encryption};
use crate::{reader, sink};

#[derive(Debug, Default, clap::Args)]
// Its name would be that of the arguments that it is among.
#[group(skip)]
pub(crate) struct Args {
    /// Send to this stream, a name or an ARN, instead of a stand-in: at AWS, unless --endpoint says where
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Where Kinesis answers: whatever speaks its protocol
    #[arg(long, value_name = "URL", requires = "stream")]
    endpoint: Option<String>,
    /// Where KMS answers
    #[arg(long, value_name = "URL", requires = "stream")]
    kms_endpoint: Option<String>,
    /// The KMS key of runs that encrypt: an ARN, an id, or alias/…
    #[arg(long, value_name = "ID", requires = "stream")]
    kms_key: Option<String>,
    /// Send to a stream, or ask a KMS, that is not on this machine
    #[arg(long, requires = "stream")]
    yes_this_costs_money: bool,
}

/// Where the runs of a scenario send their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Each run has its own, which counts what arrives.
    StandIn,
    Named(Place),
}

/// A stream, and how it is reached. What is `None` is found as every AWS tool finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) stream: String,
    pub(crate) kms_key: Option<String>,
    pub(crate) kinesis_url: Option<String>,
    pub(crate) kms_url: Option<String>,
    /// Whether it is a stand-in of a run's own: region and credentials are its own too.
    pub(crate) is_stand_in: bool,
}

/// For an answer, before anything is run.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was asked for cannot be run like this: a mistake of usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Args {
    /// The target, and the runs as it takes them.
    pub(crate) fn target(
        &self,
        cases: Vec<Case>,
        prices: &Prices,
    ) -> Result<(Target, Vec<Case>), Refusal> {
        let Some(stream) = &self.stream else {
            return Ok((Target::StandIn, cases));
        };
        let stream = StreamName::new(stream).map_err(|why| Refusal(format!("--stream: {why}")))?;
        let place = Place {
            stream: stream.to_string(),
            kms_key: self.kms_key.clone(),
            kinesis_url: self.endpoint.clone(),
            kms_url: self.kms_endpoint.clone(),
            is_stand_in: false,
        };
        let cases = place.take(&cases)?;
        if place.costs_money(&cases) && !self.yes_this_costs_money {
            let bill = Bill::of(&cases, prices);
            return Err(Refusal(format!(
                "{place}: not all of that is on this machine, and this costs money.\n{bill}\n\
                 Give --yes-this-costs-money to send them all the same"
            )));
        }
        Ok((Target::Named(place), cases))
    }
}

impl Target {
    /// Whether it answers, before anything is run.
    pub(crate) fn check(&self, cases: &[Case]) -> anyhow::Result<()> {
        match self {
            Self::StandIn => Ok(()),
            Self::Named(place) => place.check(encrypts(cases)),
        }
    }
}

fn encrypts(cases: &[Case]) -> bool {
    cases.iter().any(|case| case.encryption != Encryption::Off)
}

impl Place {
    /// Has the stream named its shards, as the agent has it do; and has somebody listen where KMS is said to answer. What a key
    /// allows is known when it is used.
    #[tokio::main(flavor = "current_thread")]
    async fn check(&self, encrypts: bool) -> anyhow::Result<()> {
        let client = reader::clients(self).await?.kinesis;
        let stream = KinesisStream::new(client, StreamName::new(&self.stream)?);
        let shards = tokio::time::timeout(PATIENCE, stream.shards()).await;
        let shards = shards
            .with_context(|| format!("{self}: no answer in {PATIENCE:?}"))?
            .with_context(|| format!("{self}: cannot list its shards"))?;
        anyhow::ensure!(!shards.is_empty(), "{self}: it has no shards");
        match &self.kms_url {
            Some(url) if encrypts => {
                let (host, port) =
                    address(url).with_context(|| format!("--kms-endpoint: {url} is no URL"))?;
                let connected = TcpStream::connect((host, port));
                let connected = tokio::time::timeout(PATIENCE, connected).await;
                connected
                    .context("no answer")
                    .and_then(|connected| Ok(connected?))
                    .with_context(|| format!("--kms-endpoint: cannot connect to {url}"))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// One that is not asked for anything.
    pub(crate) fn nowhere() -> Self {
        Self {
            stream: "loadtest".to_owned(),
            kms_key: Some("alias/loadtest".to_owned()),
            kinesis_url: None,
            kms_url: None,
            is_stand_in: true,
        }
    }

    /// The runs without what only a stand-in does, each once.
    fn take(&self, cases: &[Case]) -> Result<Vec<Case>, Refusal> {
        let mut taken: Vec<Case> = Vec::new();
        for case in cases {
            if case.failing.is_some_and(|percent| percent > 0)
                || case.shards > 1
                || case.streams > 1
                || case.shard_limits
            {
                return Err(Refusal(format!(
                    "run \"{case}\": shards, refused entries and further streams are a stand-in's; a stream that you name \
                     has its own. Give a scenario without shards, shard_limits, streams and failing_percent"
                )));
            }
            if case.source.is_shipper() {
                return Err(Refusal(format!(
                    "run \"{case}\": whether all has arrived only a stand-in tells; leave it out by --only"
                )));
            }
            if case.encryption != Encryption::Off && self.kms_key.is_none() {
                return Err(Refusal(format!(
                    "run \"{case}\" encrypts, and no key is named: give --kms-key ID, or --only \"off,\""
                )));
            }
            let case = Case {
                kms_ms: 0,
                sink_ms: 0,
                failing: None,
                read_back: false,
                keep: false,
                // As its URL says.
                tls: true,
                ..case.clone()
            };
            if !taken.contains(&case) {
                taken.push(case);
            }
        }
        Ok(taken)
    }

    fn costs_money(&self, cases: &[Case]) -> bool {
        let is_near = |url: &Option<String>| url.as_deref().is_some_and(is_loopback);
        !is_near(&self.kinesis_url) || encrypts(cases) && !is_near(&self.kms_url)
    }

    /// Has a process that calls it trust it. `ca` is a stand-in's.
    pub(crate) fn admit(&self, command: &mut Command, ca: Option<&Path>) {
        if self.is_stand_in {
            sink::trust(command, ca);
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.kinesis_url.as_deref().unwrap_or("AWS");
        write!(f, "stream {} at {at}", self.stream)?;
        match (&self.kms_key, &self.kms_url) {
            (None, _) => Ok(()),
            (Some(key), None) => write!(f, ", under {key} of AWS"),
            (Some(key), Some(at)) => write!(f, ", under {key} at {at}"),
        }
    }
}

/// Whether a URL's host is this machine's own interface, and surely so: `localhost`, or an address of it in digits.
fn is_loopback(url: &str) -> bool {
    let (host, _) = host_and_port(url);
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Where a connection is made for a URL.
fn address(url: &str) -> Option<(&str, u16)> {
    let (host, port) = host_and_port(url);
    let port = match port {
        Some(port) => port.parse().ok()?,
        None if url.starts_with("https:") => 443,
        None => 80,
    };
    Some((host, port)).filter(|(host, _)| !host.is_empty())
}

fn host_and_port(url: &str) -> (&str, Option<&str>) {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#', '\\']).next();
    let authority = authority.unwrap_or_default();
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let (host, rest) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']').unwrap_or_default(),
        None => {
            let colon = authority.find(':').unwrap_or(authority.len());
            authority.split_at(colon)
        }
    };
    (host, rest.strip_prefix(':'))
}
