//! `kinseal key`: wrapping keys in files, for where there is no KMS.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::hardening::CoreDumpArgs;
use crate::seal::rawkey::{KeySize, WrappingKey};

/// Make a wrapping key for where there is no KMS
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(NewArgs),
}

/// Make a random key in a new file of mode 0600
///
/// Messages carry namespace and name, so that a reader knows which key opens them; any AWS Encryption SDK does
/// with a raw AES keyring of the two. A file that exists is never overwritten, and the key is never printed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct NewArgs {
    /// Where it is written; keep a copy in a safe place
    file: PathBuf,
    /// Whose key it is: a company, a team
    #[arg(long, value_name = "NAMESPACE", default_value = "kinseal")]
    namespace: String,
    /// Which of theirs [default: the file's name without its ending]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Its length
    #[arg(long, value_name = "BITS", default_value = "256", value_parser = bits)]
    bits: KeySize,
}

const EXAMPLES: &str = "\
Examples:
  kinseal key new shop.toml
  kinseal key new --namespace my-company --name laptop /etc/kinseal/key.toml
  kinseal agent --stream shop-logs --file '/var/log/shop/*.log' --wrapping-key shop.toml";

pub fn run(args: &KeyArgs) -> anyhow::Result<ExitCode> {
    let Command::New(args) = &args.command;
    CoreDumpArgs::default().apply();
    let name = match &args.name {
        Some(name) => name.clone(),
        None => stem(&args.file)?,
    };
    let key = WrappingKey::create_sized(&args.file, &args.namespace, &name, args.bits)?;
    // A closed pipe is the reader's choice.
    let _ = writeln!(
        std::io::stdout(),
        "{}: a key of {} bits, namespace \"{}\", name \"{}\"; only its owner may read it",
        args.file.display(),
        key.bits(),
        key.namespace(),
        key.key_name()
    );
    Ok(ExitCode::SUCCESS)
}

fn stem(file: &Path) -> anyhow::Result<String> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.map(str::to_owned);
    stem.ok_or_else(|| anyhow::anyhow!("{}: no name in UTF-8; give --name", file.display()))
}

fn bits(text: &str) -> Result<KeySize, String> {
    match text {
        "128" => Ok(KeySize::Bits128),
        "192" => Ok(KeySize::Bits192),
        "256" => Ok(KeySize::Bits256),
        _ => Err("allowed: 128, 192 or 256".into()),
    }
}
