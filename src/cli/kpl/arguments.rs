//! The command line of the KPL's native program, and how its secrets leave it.
//!
//! Configuration and credentials are on it, for all users of the host to see. So the program starts itself anew, in the
//! same process, without them: they are handed over in a file that is only in memory, and emptied once it was read.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use clap::Args;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::daemon::configuration::{Configuration, ConfigurationError};
use crate::daemon::message::{Credentials, Request};
use crate::hex::from_hex;

// As the KPL's client gives them; the pipes are named from its side. (No doc comment: it would be the command's help.)
#[derive(Args)]
pub struct KplArgs {
    /// The pipe that this program reads from
    #[arg(short = 'o', long, value_name = "PATH")]
    pub output_pipe: PathBuf,
    /// The pipe that this program writes to
    #[arg(short = 'i', long, value_name = "PATH")]
    pub input_pipe: PathBuf,
    /// A Message of the KPL's protocol with a Configuration, in hexadecimal digits
    #[arg(short = 'c', long, value_name = "HEX")]
    configuration: String,
    /// A Message with SetCredentials; without, records wait until one comes over the pipe
    #[arg(short = 'k', long, value_name = "HEX")]
    kinesis_credentials: Option<String>,
    /// The same for CloudWatch, where it has credentials of its own
    #[arg(short = 'w', long, value_name = "HEX")]
    cloudwatch_credentials: Option<String>,
    /// trace, debug, info, warn, error, fatal or off
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
    /// Accepted, and without effect: a panic leaves its trace anyway
    #[arg(short = 't', long)]
    enable_stack_trace: bool,
    /// A directory of certificates that are trusted, in PEM [default: CA_DIR]
    #[arg(long, value_name = "PATH")]
    pub ca_path: Option<PathBuf>,
}

impl fmt::Debug for KplArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KplArgs")
            .field("output_pipe", &self.output_pipe)
            .field("input_pipe", &self.input_pipe)
            .finish_non_exhaustive()
    }
}

/// What the client says.
pub(super) struct Said {
    pub(super) configuration: Configuration,
    pub(super) credentials: Option<Credentials>,
    pub(super) metrics_credentials: Option<Credentials>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ArgumentsError {
    #[error("option {option}: {why}")]
    Option {
        option: &'static str,
        why: &'static str,
    },
    #[error("option -c: {0}")]
    Configuration(#[from] ConfigurationError),
    #[error("the arguments that were handed over cannot be read: {0}")]
    HandedOver(std::io::Error),
}

const NAME: &str = "kinesis_producer";
const SUBCOMMAND: &str = "kpl-daemon";
const HANDED_OVER: &str = "--handed-over";
const LONG: [&str; 8] = [
    "--input-pipe",
    "--output-pipe",
    "--configuration",
    "--kinesis-credentials",
    "--cloudwatch-credentials",
    "--log-level",
    "--enable-stack-trace",
    "--ca-path",
];

/// Whether the KPL's client, or a person in its place, means the daemon: by the program's name, by the subcommand, or by
/// an option that only it has.
pub fn is_kpl(args: &[OsString]) -> bool {
    let name = args.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name.as_bytes().starts_with(NAME.as_bytes())) {
        return true;
    }
    let Some(first) = args.get(1).and_then(|arg| arg.to_str()) else {
        return false;
    };
    let is_short = matches!(
        first.as_bytes(),
        [b'-', b'o' | b'i' | b'c' | b'k' | b't' | b'w' | b'l', ..]
    );
    let long = first.split('=').next().unwrap_or(first);
    first == SUBCOMMAND || is_short || LONG.contains(&long)
}

pub(super) fn without_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|arg| arg == SUBCOMMAND) {
        args.remove(1);
    }
    args
}

/// The arguments that the client gave. Where they are still on the command line, does not return, if it can: the program
/// is started anew without them.
pub(super) fn taken_over(args: Vec<OsString>) -> Result<Vec<OsString>, ArgumentsError> {
    if let Some(at) = args.iter().position(|arg| arg == HANDED_OVER) {
        let path = args.get(at + 1).map(PathBuf::from).unwrap_or_default();
        return read(&path).map_err(ArgumentsError::HandedOver);
    }
    // A proxy's password is in the configuration.
    let is_said = |arg: &OsString| {
        ["-c", "-k", "-w", "--con", "--kin", "--clo"]
            .iter()
            .any(|option| arg.as_bytes().starts_with(option.as_bytes()))
    };
    if args.iter().skip(1).any(is_said)
        && let Err(error) = hand_over(&args)
    {
        crate::daemon::log::say(
            "warning",
            &format!("credentials stay visible on the command line: {error}"),
        );
    }
    Ok(args)
}

/// Returns only where it fails.
fn hand_over(args: &[OsString]) -> std::io::Result<()> {
    let program = std::env::current_exe()?;
    // Inherited: only so does it outlive this program.
    let file = File::from(memfd_create("arguments", MemfdFlags::empty())?);
    let mut writing = &file;
    for arg in args {
        writing.write_all(arg.as_bytes())?;
        // No argument has one.
        writing.write_all(&[0])?;
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    // It can be read again on the other side.
    File::open(&path)?;
    let name = args.first().map_or(OsStr::new(NAME), OsString::as_os_str);
    let mut anew = Command::new(program);
    anew.arg0(name).args([SUBCOMMAND, HANDED_OVER, &path]);
    Err(anew.exec())
}

fn read(path: &Path) -> std::io::Result<Vec<OsString>> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut bytes = zeroize::Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)?;
    file.set_len(0)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    let args = bytes.split(|byte| *byte == 0);
    Ok(args.map(|arg| OsString::from_vec(arg.to_vec())).collect())
}

/// An error of clap's without the digits that it quotes.
pub(super) fn without_blobs(text: &str) -> String {
    let is_blob = |word: &str| word.len() >= 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let mut shown = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
        let digits = piece.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
        match is_blob(digits) {
            true => {
                shown.push('…');
                shown.push_str(&piece[digits.len()..]);
            }
            false => shown.push_str(piece),
        }
    }
    shown
}

impl KplArgs {
    pub(super) fn decode(&self) -> Result<Said, ArgumentsError> {
        let Request::Configuration(bytes) = message("-c", &self.configuration)? else {
            let (option, why) = ("-c", "its Message is no Configuration");
            return Err(ArgumentsError::Option { option, why });
        };
        let credentials = |option, hex: &Option<String>| {
            let hex = hex.as_ref();
            hex.map(|hex| credentials(option, hex)).transpose()
        };
        Ok(Said {
            configuration: Configuration::decode(bytes)?,
            credentials: credentials("-k", &self.kinesis_credentials)?,
            metrics_credentials: credentials("-w", &self.cloudwatch_credentials)?,
        })
    }
}

fn credentials(option: &'static str, hex: &str) -> Result<Credentials, ArgumentsError> {
    match message(option, hex)? {
        Request::Credentials(set) => Ok(set.credentials),
        _ => Err(ArgumentsError::Option {
            option,
            why: "its Message is no SetCredentials",
        }),
    }
}

fn message(option: &'static str, hex: &str) -> Result<Request, ArgumentsError> {
    let why = "not in hexadecimal digits, two for each byte";
    let bytes = from_hex(hex.as_bytes()).ok_or(ArgumentsError::Option { option, why })?;
    Request::decode(Bytes::from_owner(bytes)).map_err(|_| ArgumentsError::Option {
        option,
        why: "not a Message of the KPL's protocol",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_clients_own_options_mean_the_daemon_and_ours_do_not() {
        for kpl in [
            "/opt/kinseal -o a -i b -c 00 -k 00 -t -w 00 -l info",
            "kinseal --output-pipe=a -i b",
            "kinseal --input-pipe a",
            "/tmp/kinesis_producer_0123ABCD -x",
            "kinseal kpl-daemon --help",
            "kinseal -t",
        ] {
            assert!(is_kpl(&args(kpl)), "{kpl}");
        }
        for other in [
            "kinseal",
            "kinseal agent -o x",
            "kinseal -v agent",
            "kinseal --log debug agent",
            "kinseal --help",
            "kinseal --version",
        ] {
            assert!(!is_kpl(&args(other)), "{other}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_what_may_be_a_secret() {
        let secret = "08ffffffffffffffff7f4a1e0800121a0a0b41";
        let text = format!("error: unexpected argument '{secret}' found\n");
        let shown = without_blobs(&text);
        assert!(!shown.contains("7f4a1e"), "{shown}");
        assert!(
            shown.starts_with("error: unexpected argument '…' found"),
            "{shown}"
        );
    }
}
