//! `kinseal multilang`: before a record processor of the KCL's MultiLangDaemon.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

use clap::Args;

use super::connection::{self, ConnectionArgs};
use super::files;
use super::hardening::CoreDumpArgs;
use super::keys::KeyArgs;
use super::limits::LimitArgs;
use crate::consume::letters::LetterFile;
use crate::consume::{Plaintext, Unpacker, Unreadable};
use crate::multilang::{self, Letters};
use crate::seal::open::Opener;

/// Open records between the KCL's MultiLangDaemon and a record processor in any language
///
/// In the daemon's properties, put it before the processor's command:
///
///   executableName = kinseal multilang --kms-key alias/shop --context app=shop -- python3 processor.py
///
/// The processor is not changed, and has each record in clear; a block is its records.
#[derive(Debug, Args)]
pub struct MultilangArgs {
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Refuse records that are not bound to this pair (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = connection::context_pair)]
    pub context: Vec<(String, String)>,
    /// Let records pass that are not encrypted
    #[arg(long)]
    pub allow_plaintext: bool,
    /// Keep records that cannot be opened here, with the reason (JSON Lines, appended), and go on; without it such a
    /// record stops its shard, once the processor has those before it
    #[arg(long, value_name = "FILE")]
    pub dead_letter: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(
        flatten,
        next_help_heading = "AWS (default: as every AWS tool finds it)"
    )]
    pub connection: ConnectionArgs,
    #[command(flatten)]
    pub core_dumps: CoreDumpArgs,
    /// The record processor
    #[arg(value_name = "COMMAND", required = true, last = true, help_heading = None)]
    pub command: Vec<String>,
}

pub async fn run(args: MultilangArgs) -> anyhow::Result<ExitCode> {
    args.core_dumps.apply();
    let keys = args.keys.openers(&args.connection).await?;
    let context = connection::context(&args.context)?;
    let opener = Opener::new(keys, context, args.limits.settings())?;
    let plaintext = match args.allow_plaintext {
        true => Plaintext::Allowed,
        false => Plaintext::Refused,
    };
    let threads = available_parallelism().map_or(1, usize::from);
    let unpacker = Unpacker::opening(Arc::new(opener), plaintext, threads)?;
    let letters = files::dead_letters(args.dead_letter.as_deref())?;
    let code = multilang::run(args.command, unpacker, letters).await?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

impl Letters for LetterFile {
    fn keep(&mut self, unreadable: &Unreadable) -> io::Result<()> {
        Self::keep(self, unreadable)?;
        self.sync()
    }
}
