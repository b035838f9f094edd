//! `kinseal decrypt`: a message, lines of them, or the AWS CLI's get-records → plaintext.
//!
//! Promises: not one byte of a message is printed before all of it is verified; a message that is refused
//! has its one line on standard error, and the exit code says so. Waits for nothing: an outage is a refusal.

mod stored;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::connection::{self, ConnectionArgs};
use super::facts::Facts;
use super::form::{self, Input, Line, Output};
use super::hardening::CoreDumpArgs;
use super::keys::KeyArgs;
use super::limits::LimitArgs;
use crate::aggregate::format::UserRecord;
use crate::seal::block::{self, BlockError};
use crate::seal::open::{Opened, Opener, looks_sealed};

/// Decrypt messages by hand: the agent's, or any AWS Encryption SDK's
///
/// The plaintext is on standard output, and none of it before the whole message is verified. Where a message
/// is a block of many records, each is a line. What is refused has its reason on standard error; then the
/// exit code is 1.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DecryptArgs {
    /// The messages [default: standard input]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Refuse messages that are not bound to this pair, stored in them or not (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::context_pair)]
    pub context: Vec<(String, String)>,
    /// What is read
    #[arg(long, value_name = "FORM", default_value = "raw")]
    pub format: FormatWord,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// With --format get-records: let records pass that are not encrypted
    #[arg(long)]
    pub allow_plaintext: bool,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub core_dumps: CoreDumpArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatWord {
    /// One message, as it is
    Raw,
    /// One message in hexadecimal
    Hex,
    /// One message in base64
    Base64,
    /// Each line is a message in base64, and becomes a line (a block: a line for each record)
    Lines,
    /// JSON of aws kinesis get-records: each user record becomes a line
    GetRecords,
}

const EXAMPLES: &str = "\
Examples:
  kinseal decrypt --kms-key alias/shop --context app=shop secret.msg
  kinseal decrypt --wrapping-key key.toml --format lines app.messages > app.log
  kinseal decrypt --wrapping-key key.toml --verbose secret.msg > /dev/null      who wrapped it, and how
  aws kinesis get-records --shard-iterator \"$IT\" | kinseal decrypt --format get-records --kms-key alias/shop";

/// The longest message that `encrypt` writes, in hexadecimal and the shortest frames.
const LONGEST: u64 = 3 << 30;

pub async fn run(args: DecryptArgs, verbose: bool) -> anyhow::Result<ExitCode> {
    args.core_dumps.apply();
    if args.allow_plaintext && args.format != FormatWord::GetRecords {
        anyhow::bail!(
            "--allow-plaintext is about the records of --format get-records; \
             what is not a message needs no decrypting"
        );
    }
    let opener = args.opener().await?;
    let input = Input::open(args.file.as_ref())?;
    let mut out = form::stdout()?;
    let reader = Reader { opener, verbose };
    let tally = match args.format {
        FormatWord::Raw | FormatWord::Hex | FormatWord::Base64 => {
            let message = decoded(args.format, input.whole(LONGEST)?)?;
            let opened = reader.open(None, &message).await.map_err(one_line)?;
            let written = match opened {
                Plain::Whole(plaintext) => out.write_all(&plaintext),
                Plain::Block(records) => write_lines(&records, &mut out),
            };
            form::unless_closed(written.and_then(|()| out.flush()))?;
            return Ok(ExitCode::SUCCESS);
        }
        FormatWord::Lines => reader.open_lines(input, &mut out).await?,
        FormatWord::GetRecords => {
            let pages = input.whole(LONGEST)?;
            stored::open(&pages, reader, args.allow_plaintext, &mut out).await?
        }
    };
    if tally.refused == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    form::say(format_args!(
        "{} of {} {} refused; see above",
        tally.refused, tally.all, tally.what
    ));
    Ok(ExitCode::FAILURE)
}

fn decoded(format: FormatWord, input: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(
        !input.is_empty(),
        "the input is empty: no message is that short"
    );
    let (decoded, what) = match format {
        FormatWord::Hex => (form::from_hex(&input), "hexadecimal"),
        FormatWord::Base64 => (form::from_base64(&input), "base64"),
        FormatWord::Raw if is_text(&input) => anyhow::bail!(
            "the input is a message in base64: give --format base64, or lines where there are several"
        ),
        FormatWord::Raw | FormatWord::Lines | FormatWord::GetRecords => return Ok(input),
    };
    decoded.ok_or_else(|| {
        anyhow::anyhow!("the input is not {what}: see --format, and whether all of it is there")
    })
}

fn is_text(input: &[u8]) -> bool {
    let first = input.trim_ascii().split(|byte| *byte == b'\n').next();
    let first = first.and_then(form::from_base64);
    !looks_sealed(input) && first.is_some_and(|message| looks_sealed(&message))
}

fn one_line(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!(form::one_line(&error.to_string()))
}

/// What became of many.
#[derive(Debug)]
struct Tally {
    what: &'static str,
    all: u64,
    refused: u64,
}

impl Tally {
    fn of(what: &'static str) -> Self {
        Self {
            what,
            all: 0,
            refused: 0,
        }
    }
}

/// What was in a message.
#[derive(Debug)]
enum Plain {
    Whole(Bytes),
    /// As the agent packs many records into one.
    Block(Vec<UserRecord>),
}

impl Plain {
    fn of(opened: Opened) -> Result<Self, BlockError> {
        match opened.context.get(block::CONTEXT_KEY) {
            Some(packing) => block::unpack(packing, &opened.plaintext).map(Self::Block),
            None => Ok(Self::Whole(opened.plaintext)),
        }
    }
}

fn write_lines(records: &[UserRecord], out: &mut Output) -> io::Result<()> {
    for record in records {
        out.write_all(&record.data)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Opens messages, and tells about each what was asked for.
#[derive(Debug)]
struct Reader {
    opener: Opener,
    verbose: bool,
}

impl Reader {
    async fn open(&self, number: Option<u64>, message: &[u8]) -> anyhow::Result<Plain> {
        let parsed = self.opener.parse(message)?;
        let opened = match self.opener.data_key(&parsed).await {
            Ok(key) => self.opener.open_with(&parsed, &key),
            Err(error) => Err(error),
        };
        if self.verbose {
            Facts::of(number, &parsed, opened.is_ok()).say();
        }
        Ok(Plain::of(opened?)?)
    }

    async fn open_line(&self, number: u64, line: Line) -> anyhow::Result<Plain> {
        let line = line?;
        if line.trim_ascii().is_empty() {
            anyhow::bail!("empty, where a message in base64 belongs");
        }
        let message = form::from_base64(&line);
        let message = message.ok_or_else(|| anyhow::anyhow!("not base64"))?;
        self.open(Some(number), &message).await
    }

    async fn open_lines(&self, input: Input, out: &mut Output) -> anyhow::Result<Tally> {
        let mut tally = Tally::of("lines");
        let mut lines = input.lines();
        while let Some((number, line)) = lines.next_even_if_too_long()? {
            tally.all += 1;
            let mut written = match self.open_line(number, line).await {
                Ok(Plain::Whole(plaintext)) => out
                    .write_all(&plaintext)
                    .and_then(|()| out.write_all(b"\n")),
                Ok(Plain::Block(records)) => write_lines(&records, out),
                Err(error) => {
                    tally.refused += 1;
                    // Behind what was read before it, where both go to one terminal.
                    let flushed = out.flush();
                    form::say(format_args!("line {number}: {error}"));
                    flushed
                }
            };
            if lines.is_drained() {
                written = written.and_then(|()| out.flush());
            }
            if !form::unless_closed(written)? {
                return Ok(tally);
            }
        }
        form::unless_closed(out.flush())?;
        Ok(tally)
    }
}

impl DecryptArgs {
    async fn opener(&self) -> anyhow::Result<Opener> {
        let context = connection::context(&self.context)?;
        let keys = self.keys.openers(&self.connection).await?;
        Ok(Opener::new(keys, context, self.limits.settings())?)
    }
}
