//! `kinseal encrypt`: plaintext → a message, or a message for each line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::connection::{self, ConnectionArgs};
use super::facts::Facts;
use super::form::{self, Input, Output};
use super::hardening::CoreDumpArgs;
use super::keys::KeyArgs;
use crate::hex::to_hex;
use crate::seal::CacheSettings;
use crate::seal::message::{CommitmentPolicy, Encoding, Message, ReadLimits, Settings, Suite};
use crate::seal::sealer::Sealer;

/// Encrypt a file or lines by hand, as the agent would
///
/// The message is one of the AWS Encryption SDK's, on standard output. A single message is held in memory;
/// lines are not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EncryptArgs {
    /// The plaintext [default: standard input]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Bind the message to this pair, which stays readable beside it (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::own_context_pair)]
    pub context: Vec<(String, String)>,
    /// What is written
    #[arg(long, value_name = "FORM", default_value = "raw")]
    pub format: FormatWord,
    #[command(flatten)]
    pub message: MessageArgs,
    /// Which suites may be written [default: those that commit to their key, or the one that --suite names]
    #[arg(long, value_name = "POLICY", value_parser = policy_words())]
    pub policy: Option<CommitmentPolicy>,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub core_dumps: CoreDumpArgs,
}

/// How messages are written, for those who do not want the agent's default.
#[derive(Debug, Args)]
pub struct MessageArgs {
    /// 0478; 0578, which signs; or for old readers 0178, 0378 (signed), 0114
    #[arg(long, value_name = "SUITE", default_value = "0478", value_parser = suite)]
    pub suite: Suite,
    /// Bytes of plaintext that are authenticated as one: a multiple of 128 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = frame_length)]
    pub frame_length: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatWord {
    /// One message, as it is
    Raw,
    /// One message in hexadecimal
    Hex,
    /// One message in base64
    Base64,
    /// Each line becomes a message in base64, on a line
    Lines,
}

const EXAMPLES: &str = "\
Examples:
  kinseal encrypt --kms-key alias/shop --context app=shop secret.txt > secret.msg
  kinseal encrypt --wrapping-key key.toml --format base64 < secret.txt
  kinseal encrypt --wrapping-key key.toml --suite 0178 --format lines app.log > app.messages";

/// It is twice in memory, and four times with --format hex.
const LONGEST: u64 = 1 << 30;

pub async fn run(args: EncryptArgs, verbose: bool) -> anyhow::Result<ExitCode> {
    args.core_dumps.apply();
    args.check_policy()?;
    if args.format == FormatWord::Raw && form::stdout_is_terminal() {
        bail!("a message is not for a terminal: redirect it to a file, or give --format base64");
    }
    let sealer = args.sealer().await?;
    let input = Input::open(args.file.as_ref())?;
    let mut out = form::stdout()?;
    if args.format == FormatWord::Lines {
        encrypt_lines(input, &sealer, verbose, &mut out).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let plaintext = input.whole(LONGEST)?;
    let message = sealer.seal(&plaintext).await?;
    if verbose {
        say_facts(None, &message);
    }
    let written = match args.format {
        FormatWord::Hex => writeln!(out, "{}", to_hex(&message)),
        FormatWord::Base64 | FormatWord::Lines => write_base64(&message, &mut out),
        FormatWord::Raw => out.write_all(&message),
    };
    form::unless_closed(written.and_then(|()| out.flush()))?;
    Ok(ExitCode::SUCCESS)
}

/// Under one data key, for as long as the agent would use it.
async fn encrypt_lines(
    input: Input,
    sealer: &Sealer,
    verbose: bool,
    out: &mut Output,
) -> anyhow::Result<()> {
    let mut lines = input.lines();
    while let Some((number, line)) = lines.next()? {
        let message = sealer.seal(&line).await?;
        if verbose {
            say_facts(Some(number), &message);
        }
        let mut written = write_base64(&message, out);
        if lines.is_drained() {
            written = written.and_then(|()| out.flush());
        }
        if !form::unless_closed(written)? {
            return Ok(());
        }
    }
    form::unless_closed(out.flush())?;
    Ok(())
}

fn write_base64(message: &[u8], out: &mut Output) -> io::Result<()> {
    let text = base64_simd::STANDARD.encode_to_string(message);
    writeln!(out, "{text}")
}

fn say_facts(number: Option<u64>, message: &[u8]) {
    let limits = ReadLimits {
        max_encrypted_data_keys: usize::from(u16::MAX),
        ..ReadLimits::default()
    };
    let message = Message::parse(message, &limits).expect("written just now");
    Facts::of(number, &message, true).say();
}

impl EncryptArgs {
    /// A policy that was asked for by name must be kept; without one, naming the suite is enough.
    fn check_policy(&self) -> anyhow::Result<()> {
        let suite = self.message.suite;
        let Some(policy) = self.policy.filter(|policy| !policy.may_write(suite)) else {
            return Ok(());
        };
        if suite.commits() {
            bail!(
                "suite {suite} commits to its key, and --policy {policy} forbids that: \
                 give --suite 0178, or another policy"
            );
        }
        bail!(
            "suite {suite} does not commit to its key, and --policy {policy} requires that: \
             give --suite 0478, or --policy {}",
            CommitmentPolicy::ForbidEncryptAllowDecrypt
        );
    }

    async fn sealer(&self) -> anyhow::Result<Sealer> {
        let context = connection::context(&self.context)?;
        let settings = self.message.settings(Encoding::Binary);
        settings.check_context(&context, None)?;
        let maker = self.keys.maker(&self.connection).await?;
        Ok(Sealer::new(
            maker,
            context,
            CacheSettings::default(),
            settings,
        )?)
    }
}

impl MessageArgs {
    pub(super) fn settings(&self, encoding: Encoding) -> Settings {
        let default = Settings::default();
        Settings {
            suite: self.suite,
            frame_length: self.frame_length.unwrap_or(default.frame_length),
            encoding,
            ..default
        }
    }
}

fn suite(text: &str) -> Result<Suite, String> {
    let suite = text.parse::<Suite>().ok().filter(Suite::is_written);
    suite.ok_or_else(|| "allowed: 0478, 0578, 0178, 0378 or 0114".into())
}

fn frame_length(text: &str) -> Result<u32, String> {
    let settings = |frame_length| Settings {
        frame_length,
        ..Settings::default()
    };
    let given = text.parse().ok();
    let checked = given.filter(|given| settings(*given).check().is_ok());
    checked.ok_or_else(|| "allowed: a multiple of 128 from 128 to 2147483520, like 4096".into())
}

/// The words of the AWS Encryption SDK's own command line.
pub(super) fn policy_words() -> impl clap::builder::TypedValueParser<Value = CommitmentPolicy> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    let names = CommitmentPolicy::ALL.map(CommitmentPolicy::name);
    PossibleValuesParser::new(names).map(|name| {
        let named = |policy: &CommitmentPolicy| policy.name() == name;
        let found = CommitmentPolicy::ALL.into_iter().find(named);
        found.expect("one of the names")
    })
}
