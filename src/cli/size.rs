//! `kinseal size`: what encryption adds, told without encrypting and without KMS.

mod told;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, ValueEnum};

use self::told::{KEY, Sizes, key_arn_len, kms_blob_len, longest_in_block, some_key_arn};
use super::connection;
use super::encrypt::MessageArgs;
use super::form::{self, Input, Output};
use super::hardening::CoreDumpArgs;
use super::keys::KeyArgs;
use crate::aggregate::format::{ENVELOPE, Layout};
use crate::batch;
use crate::config::words;
use crate::record::{HashKey, PartitionKey};
use crate::seal::message::{Encoding, EncryptedDataKey};
use crate::seal::{block, rawkey::WrappingKey};

/// Tell how long records are when they are encrypted, without a call to KMS
///
/// Lengths are exact for wrapping keys. For KMS keys the encrypted data key's length is what KMS has always
/// given, which is said beside the result.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SizeArgs {
    /// Lengths of records, like 200 or 50KiB [default: those of the lines of standard input]
    #[arg(value_name = "BYTES", value_parser = length, conflicts_with = "file")]
    pub lengths: Vec<usize>,
    /// Take the lengths of this file's lines
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub keys: KeyArgs,
    /// A pair of the encryption context: it is stored beside each message (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::own_context_pair)]
    pub context: Vec<(String, String)>,
    #[command(flatten)]
    pub message: MessageArgs,
    /// The form of messages in the stream
    #[arg(long, value_name = "FORM", default_value = "binary")]
    pub encoding: EncodingWord,
    /// What is one message
    #[arg(long, value_name = "SCOPE", default_value = "record")]
    pub scope: ScopeWord,
    /// Of KMS keys that are given by id or alias: messages hold the ARN [default: AWS_REGION]
    #[arg(long, value_parser = connection::region)]
    pub region: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EncodingWord {
    Binary,
    Base64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeWord {
    /// Each record
    Record,
    /// Each block of records, of 48 KiB and not compressed
    Block,
}

const EXAMPLES: &str = "\
Examples:
  kinseal size --wrapping-key key.toml --context app=shop 200 1KiB 50KiB
  kinseal size --kms-key alias/shop --region eu-west-1 --file app.log | tail -4
  kinseal size --kms-key alias/shop --region eu-west-1 --scope block --file app.log";

pub fn run(args: SizeArgs) -> anyhow::Result<ExitCode> {
    // It loads wrapping keys for their names.
    CoreDumpArgs::default().apply();
    let sizes = args.sizes()?;
    let lengths = Lengths::of(&args)?;
    let mut out = form::stdout()?;
    let printed = match args.scope {
        ScopeWord::Record => print_records(&sizes, lengths, &mut out),
        ScopeWord::Block => print_blocks(&sizes, lengths, &mut out),
    };
    let Some(total) = printed? else {
        return Ok(ExitCode::SUCCESS);
    };
    form::unless_closed(
        args.summary(&sizes, &total, &mut out)
            .and_then(|()| out.flush()),
    )?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Default)]
struct Total {
    records: u64,
    messages: u64,
    plaintext: u64,
    sealed: u64,
}

impl Total {
    fn add(&mut self, records: u64, plaintext: usize, sealed: usize) {
        self.records += records;
        self.messages += 1;
        self.plaintext += plaintext as u64;
        self.sealed += sealed as u64;
    }
}

/// Those that were given, or those of lines.
#[derive(Debug)]
enum Lengths {
    Given(std::vec::IntoIter<usize>),
    Lines(form::Lines),
}

impl Lengths {
    fn of(args: &SizeArgs) -> anyhow::Result<Self> {
        if !args.lengths.is_empty() {
            return Ok(Self::Given(args.lengths.clone().into_iter()));
        }
        Ok(Self::Lines(Input::open(args.file.as_ref())?.lines()))
    }

    fn next(&mut self) -> anyhow::Result<Option<usize>> {
        match self {
            Self::Given(lengths) => Ok(lengths.next()),
            Self::Lines(lines) => Ok(lines.next()?.map(|(_, line)| line.len())),
        }
    }
}

/// `None`: nobody reads on.
fn print_records(
    sizes: &Sizes,
    mut lengths: Lengths,
    out: &mut Output,
) -> anyhow::Result<Option<Total>> {
    let mut total = Total::default();
    let mut written = writeln!(out, "{:>12} {:>12} {:>9}", "plaintext", "sealed", "added");
    while let Some(plaintext) = lengths.next()? {
        let sealed = sizes.sealed(plaintext);
        total.add(1, plaintext, sealed);
        let added = sealed - plaintext;
        written = written.and_then(|()| writeln!(out, "{plaintext:>12} {sealed:>12} {added:>9}"));
        if written.is_err() {
            break;
        }
    }
    Ok(form::unless_closed(written)?.then_some(total))
}

/// Fills block after block, as a stream of one shard would.
fn print_blocks(
    sizes: &Sizes,
    mut lengths: Lengths,
    out: &mut Output,
) -> anyhow::Result<Option<Total>> {
    let key = PartitionKey::new(KEY).expect("a key of one character");
    let max_size = block::Settings::default().max_size;
    let mut total = Total::default();
    let mut written = writeln!(
        out,
        "{:>8} {:>12} {:>12} {:>17}",
        "records", "plaintext", "sealed", "added to a record"
    );
    let (mut open, mut plaintext) = (Layout::new(), 0);
    loop {
        let next = lengths.next()?;
        let fits = |length| open.wire_len_with(&key, Some(HashKey::MAX), length) <= max_size;
        if open.members() > 0 && !next.is_some_and(fits) {
            let records = open.members();
            let sealed = sizes.sealed(open.wire_len() - ENVELOPE);
            total.add(records as u64, plaintext, sealed);
            let added = (sealed - plaintext) as f64 / records as f64;
            written = written.and_then(|()| {
                writeln!(
                    out,
                    "{records:>8} {plaintext:>12} {sealed:>12} {added:>17.1}"
                )
            });
            (open, plaintext) = (Layout::new(), 0);
        }
        let Some(length) = next.filter(|_| written.is_ok()) else {
            return Ok(form::unless_closed(written)?.then_some(total));
        };
        open.add(&key, Some(HashKey::MAX), length);
        plaintext += length;
    }
}

impl SizeArgs {
    fn sizes(&self) -> anyhow::Result<Sizes> {
        let mut context = connection::context(&self.context)?;
        let mut settings = self.message.settings(match self.encoding {
            EncodingWord::Binary => Encoding::Binary,
            EncodingWord::Base64 => Encoding::Base64,
        });
        if self.scope == ScopeWord::Block {
            if self.message.frame_length.is_some() {
                bail!("with --scope block there is no --frame-length: a frame holds a block");
            }
            let block = block::Settings::default();
            let (key, packing) = block.context_pair();
            settings.check_context(&context, Some((key, packing)))?;
            context.insert(key.to_owned(), packing.to_owned());
            settings.frame_length = block.frame_length();
        }
        settings.check_context(&context, None)?;
        let key_len = settings.suite.key_len();
        let files = self.keys.checked_wrapping_keys()?;
        let of_files = files
            .iter()
            .map(|key: &WrappingKey| key.wrapped_len(key_len));
        let mut keys_len: usize = of_files.sum();
        for key in &self.keys.kms_key {
            let blob = kms_blob_len(settings.suite);
            keys_len += 6 + EncryptedDataKey::KMS.len() + self.arn_len(key)? + blob;
        }
        Ok(Sizes {
            settings,
            context,
            keys_len,
        })
    }

    fn arn_len(&self, key: &str) -> anyhow::Result<usize> {
        if let Some(len) = key_arn_len(key) {
            return Ok(len);
        }
        let assumed = self.assumed_arn();
        assumed.map(|arn| arn.len()).ok_or_else(|| {
            anyhow::anyhow!(
                "--kms-key {key}: a message holds the key's ARN, and how long it is depends on the \
                 region: give --region, or the key as arn:aws:kms:REGION:ACCOUNT:key/ID"
            )
        })
    }

    /// What stands for keys that are given by id or alias. As every AWS tool finds a region, but for profiles.
    fn assumed_arn(&self) -> Option<String> {
        let of_environment = || {
            ["AWS_REGION", "AWS_DEFAULT_REGION"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok().filter(|region| !region.is_empty()))
        };
        let region = self.region.clone().or_else(of_environment)?;
        Some(some_key_arn(&region))
    }

    fn summary(&self, sizes: &Sizes, total: &Total, out: &mut Output) -> io::Result<()> {
        if total.messages > 1 {
            let Total {
                records,
                plaintext,
                sealed,
                ..
            } = total;
            let times = *sealed as f64 / (*plaintext).max(1) as f64;
            writeln!(
                out,
                "{records} records of {plaintext} bytes are {sealed} encrypted: {times:.2} times"
            )?;
        }
        let limit = batch::Limits::LEAST_OF_A_STREAM;
        let of = words::show_bytes(limit as u64);
        // The service counts the partition key.
        let fits = sizes.longest(limit - KEY.len());
        let fits = match (fits, self.scope) {
            (Some(fits), ScopeWord::Block) => longest_in_block(fits),
            (fits, _) => fits,
        };
        match fits {
            Some(fits) => writeln!(
                out,
                "a record of {of}, with a partition key of 1 byte, holds at most {fits} bytes"
            )?,
            None => writeln!(out, "not even an empty record fits into {of}")?,
        }
        if !self.keys.kms_key.is_empty() {
            let blob = kms_blob_len(self.message.suite);
            writeln!(
                out,
                "assumed: what KMS makes of a data key has {blob} bytes"
            )?;
        }
        let mut keys = self.keys.kms_key.iter();
        let is_short = |key: &String| key_arn_len(key).is_none();
        if let (true, Some(arn)) = (keys.any(is_short), self.assumed_arn()) {
            writeln!(out, "assumed: the key's ARN is as long as {arn}")?;
        }
        Ok(())
    }
}

fn length(text: &str) -> Result<usize, String> {
    let bytes = words::bytes(text).map_err(|allowed| format!("allowed: {allowed}"))?;
    // Far above what the service takes, and far from where sums overflow.
    let most = 1 << 40;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes <= most);
    bytes.ok_or_else(|| "allowed: at most 1TiB".into())
}
