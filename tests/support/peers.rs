//! Python software that we did not write, through the scripts in `tests/peers`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64_simd::STANDARD;
use serde::Deserialize;

use super::process;
use super::servers::Endpoints;

/// A record as boto3 and aws-kinesis-agg see it.
#[derive(Debug, Deserialize)]
pub(crate) struct PeerRecord {
    pub(crate) aggregated: bool,
    data: String,
}

/// What AWS's Encryption SDK says to a message.
#[derive(Debug, Deserialize)]
pub(crate) struct Opened {
    plaintext: Option<String>,
    #[serde(default)]
    pub(crate) context: BTreeMap<String, String>,
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) suite: String,
    #[serde(default)]
    pub(crate) key: String,
    /// Of a block.
    #[serde(default)]
    records: Vec<String>,
}

/// The key of a peer's keyring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PeerKey<'a> {
    Kms {
        endpoint: &'a str,
        arn: &'a str,
    },
    /// `NAMESPACE:NAME:HEX`
    Raw(&'a str),
}

impl PeerRecord {
    pub(crate) fn data(&self) -> Vec<u8> {
        decode(&self.data)
    }
}

impl Opened {
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        self.records.iter().map(|record| decode(record)).collect()
    }

    pub(crate) fn plaintext(&self) -> Vec<u8> {
        let plaintext = self.plaintext.as_deref();
        decode(plaintext.unwrap_or_else(|| panic!("refused: {:?}", self.error)))
    }
}

/// `tests/peers/SCRIPT` under the pinned interpreter.
pub(crate) fn script(name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    python(&folder.join(name))
}

/// Where the interpreter and the programs are that were installed with it, such as `aws`.
pub(crate) fn bin() -> PathBuf {
    let folder = interpreter().parent().map(Path::to_owned);
    folder.expect("an interpreter lies in a folder")
}

fn interpreter() -> PathBuf {
    let Some(python) = std::env::var_os("KINSEAL_PEERS_PYTHON") else {
        panic!(
            "this test holds kinseal against Python software; run it through `cargo xtask ci`, or \
             `cargo xtask e2e NAME`, which install that and set KINSEAL_PEERS_PYTHON"
        );
    };
    python.into()
}

/// Any script under the pinned interpreter.
pub(crate) fn python(script: &Path) -> Command {
    let mut command = Command::new(interpreter());
    command
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Reads a stream to its tip, without any code of ours.
pub(crate) fn read_stream(endpoints: &Endpoints, stream: &str) -> Vec<PeerRecord> {
    let mut command = script("read_stream.py");
    command.args(["--endpoint", &endpoints.kinesis, "--stream", stream]);
    json_lines(
        &process::run("read_stream.py", &mut command, &[])
            .expect_success()
            .stdout,
    )
}

/// Opens messages with AWS's Encryption SDK, each of which must be bound to `context`.
pub(crate) fn open_messages(
    key: PeerKey<'_>,
    context: &[(&str, &str)],
    messages: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Vec<Opened> {
    open_messages_with(key, context, &[], messages)
}

/// The same, with more arguments for the script.
pub(crate) fn open_messages_with(
    key: PeerKey<'_>,
    context: &[(&str, &str)],
    more: &[&str],
    messages: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Vec<Opened> {
    let mut command = script("open_messages.py");
    command.args(more);
    key.add_to(&mut command, context);
    let input = base64_lines(messages);
    let ended = process::run("open_messages.py", &mut command, input.as_bytes());
    json_lines(&ended.expect_success().stdout)
}

/// Seals messages with AWS's Encryption SDK; `more` names the suite.
pub(crate) fn seal_messages(
    key: PeerKey<'_>,
    context: &[(&str, &str)],
    more: &[&str],
    plaintexts: impl IntoIterator<Item = impl AsRef<[u8]>>,
) -> Vec<Vec<u8>> {
    let mut command = script("seal_messages.py");
    command.args(more);
    key.add_to(&mut command, context);
    let input = base64_lines(plaintexts);
    let ended = process::run("seal_messages.py", &mut command, input.as_bytes());
    let output = ended.expect_success().stdout;
    let lines = std::str::from_utf8(&output).expect("base64").lines();
    lines.map(decode).collect()
}

fn base64_lines(all: impl IntoIterator<Item = impl AsRef<[u8]>>) -> String {
    let mut lines = String::new();
    for bytes in all {
        lines += &STANDARD.encode_to_string(bytes);
        lines.push('\n');
    }
    lines
}

/// Puts lines as another producer would, sealed and aggregated.
pub(crate) fn put_sealed(
    endpoints: &Endpoints,
    stream: &str,
    key: PeerKey<'_>,
    context: &[(&str, &str)],
    lines: &[String],
) {
    let mut command = script("put_sealed.py");
    command.args(["--endpoint", &endpoints.kinesis, "--stream", stream]);
    key.add_to(&mut command, context);
    let input = lines.join("\n");
    process::run("put_sealed.py", &mut command, input.as_bytes()).expect_success();
}

/// A wrapping key file in the words of [`PeerKey::Raw`].
pub(crate) fn raw_key(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("a wrapping key file");
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().trim_matches('"'))
        });
        values
            .next()
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    format!("{}:{}:{}", value("namespace"), value("name"), value("key"))
}

impl PeerKey<'_> {
    fn add_to(self, command: &mut Command, context: &[(&str, &str)]) {
        match self {
            Self::Kms { endpoint, arn } => {
                command.args(["--kms-endpoint", endpoint, "--kms-key", arn])
            }
            Self::Raw(key) => command.args(["--raw-key", key]),
        };
        for (name, value) in context {
            command.args(["--context", &format!("{name}={value}")]);
        }
    }
}

fn json_lines<T: for<'a> Deserialize<'a>>(output: &[u8]) -> Vec<T> {
    let lines = output.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("a JSON object a line"))
        .collect()
}

fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode_to_vec(text).expect("base64")
}
