//! The program as its users run it: a configuration, a process, signals.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::process::{Ended, Running};
use super::servers::{Endpoints, REGION};

pub(crate) const STREAM: &str = "shop-logs";
/// `nobody`, where there is one; any user without rights does.
const NOBODY: u32 = 65_534;

/// Where an agent lives: its logs, its state, its configuration.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    /// With a configuration that sends `logs/*.log` to [`STREAM`].
    pub(crate) fn new(endpoints: &Endpoints, encryption: &str, more: &str) -> Self {
        Self::with_files_and(endpoints, "", encryption, more)
    }

    /// The same, with more to say of the source.
    pub(crate) fn with_files_and(
        endpoints: &Endpoints,
        source: &str,
        encryption: &str,
        more: &str,
    ) -> Self {
        let home = Self::empty();
        let source = format!(
            "type = \"file\"\ninclude = [\"{}/*.log\"]\nstart_position = \"beginning\"\n{source}",
            home.logs().display()
        );
        home.write_config(endpoints, &source, encryption, more);
        home
    }

    /// The same, with a rule for partition keys.
    pub(crate) fn keyed(endpoints: &Endpoints, rule: &str, encryption: &str) -> Self {
        let source = format!("partition_key = {rule}");
        Self::with_files_and(endpoints, &source, encryption, "")
    }

    /// With a configuration that sends what comes to [`socket`](Self::socket).
    pub(crate) fn with_socket(endpoints: &Endpoints, encryption: &str, more: &str) -> Self {
        Self::with_socket_and(endpoints, "", encryption, more)
    }

    /// The same, with more to say of the source.
    pub(crate) fn with_socket_and(
        endpoints: &Endpoints,
        source: &str,
        encryption: &str,
        more: &str,
    ) -> Self {
        let source = format!("type = \"unix\"\npath = \"SOCKET\"\n{source}");
        Self::with_source(endpoints, &source, encryption, more)
    }

    /// With this source, in which `SOCKET` stands for [`socket`](Self::socket).
    pub(crate) fn with_source(
        endpoints: &Endpoints,
        source: &str,
        encryption: &str,
        more: &str,
    ) -> Self {
        let home = Self::empty();
        let source = source.replace("SOCKET", &home.socket().display().to_string());
        home.write_config(endpoints, &source, encryption, more);
        home
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Self { dir };
        fs::create_dir(home.logs()).expect("a new folder");
        home
    }

    fn write_config(&self, endpoints: &Endpoints, source: &str, encryption: &str, more: &str) {
        let config = format!(
            r#"
state_dir = "{state}"
[aws]
region = "{REGION}"
kinesis_endpoint_url = "{kinesis}"
kms_endpoint_url = "{kms}"
[[source]]
{source}
stream = "{STREAM}"
[encryption]
{encryption}
{more}
"#,
            state = self.state().display(),
            kinesis = endpoints.kinesis,
            kms = endpoints.kms,
        );
        fs::write(self.config(), config).expect("room for it");
    }

    /// The next agent that is started is told nothing of this key.
    pub(crate) fn forget(&self, key: &str) {
        let config = fs::read_to_string(self.config()).expect("written");
        let is_other = |line: &&str| !line.starts_with(&format!("{key} ="));
        let lines: Vec<_> = config.lines().filter(is_other).collect();
        fs::write(self.config(), lines.join("\n")).expect("room for it");
    }

    /// What the next agent reads: globs of names in [`logs`](Self::logs).
    pub(crate) fn set_include(&self, globs: &[&str]) {
        let config = fs::read_to_string(self.config()).expect("written");
        let logs = self.logs();
        let globs: Vec<_> = globs.iter().map(|glob| logs.join(glob)).collect();
        let line = format!("include = {globs:?}");
        let is_include = |line: &str| line.starts_with("include = ");
        let lines: Vec<_> = (config.lines())
            .map(|old| if is_include(old) { &*line } else { old })
            .collect();
        fs::write(self.config(), lines.join("\n")).expect("room for it");
    }

    /// Of the next agent that is started.
    pub(crate) fn set_memory_limit(&self, limit: &str) {
        let config = fs::read_to_string(self.config()).expect("written");
        let config = format!("memory_limit = \"{limit}\"\n{config}");
        fs::write(self.config(), config).expect("room for it");
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("agent.toml")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path().join("logs")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.logs().join("sales.log")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("agent.sock")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Starts `kinseal agent --config`, and waits until it says that it runs.
    pub(crate) fn start_agent(&self) -> Running {
        self.start_agent_as(kinseal())
    }

    /// The same, with the program as `command` starts it.
    pub(crate) fn start_agent_as(&self, command: Command) -> Running {
        let mut agent = self.spawn(command);
        agent.until("the agent has started", |agent| {
            agent.stderr().contains("agent: started ").then_some(())
        });
        agent
    }

    /// Starts it, whatever comes of it.
    pub(crate) fn spawn_agent(&self) -> Running {
        self.spawn(kinseal())
    }

    /// The program as it is run by a user who may not read everything; this one, where that is not root.
    pub(crate) fn kinseal_without_rights(&self) -> Command {
        let program = kinseal();
        if !rustix::process::geteuid().is_root() {
            return program;
        }
        // The build's folder may be closed to others. Another process copies: what this one has open to write, a child that another
        // test starts just then has too for a moment, and what is open to be written cannot be run.
        let copy = self.path().join("kinseal");
        let copied = Command::new("cp")
            .arg(program.get_program())
            .arg(&copy)
            .status();
        assert!(copied.expect("cp").success());
        for path in [self.path(), &self.logs(), &self.log(), &self.config()] {
            if path.exists() {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
        }
        let mut command = Command::new(copy);
        command.env_clear().uid(NOBODY).gid(NOBODY);
        for (name, value) in program.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command
    }

    /// Who owns this home.
    pub(crate) fn owner(&self) -> u32 {
        fs::metadata(self.path()).expect("ours").uid()
    }

    fn spawn(&self, mut command: Command) -> Running {
        command.args(["agent", "--config"]).arg(self.config());
        Running::start("kinseal agent", &mut command)
    }

    /// How far `file` has been stored, as the checkpoint on disk says.
    pub(crate) fn settled(&self, file: &Path) -> Option<u64> {
        let path = file.to_str().expect("UTF-8");
        let files = self.saved_files();
        // Others had its name before it.
        let inode = fs::metadata(file).ok().map(|about| about.ino());
        let is_it = |entry: &&Value| {
            entry["path"] == path && inode.is_none_or(|inode| entry["inode"] == inode)
        };
        let entry = files.iter().find(is_it)?;
        Some(entry["offset"].as_u64().expect("an offset"))
    }

    /// The files that the checkpoint on disk knows.
    pub(crate) fn inodes_saved(&self) -> Vec<u64> {
        let inode = |entry: &Value| entry["inode"].as_u64().expect("an inode");
        self.saved_files().iter().map(inode).collect()
    }

    fn saved_files(&self) -> Vec<Value> {
        let Ok(text) = fs::read(self.state().join("checkpoint.json")) else {
            return Vec::new();
        };
        let mut saved: Value =
            serde_json::from_slice(&text).expect("a checkpoint is whole at any moment");
        match saved["files"].take() {
            Value::Array(files) => files,
            other => panic!("no files but {other}"),
        }
    }

    /// Waits until all of `file` is stored.
    pub(crate) fn until_settled(&self, agent: &mut Running, file: &Path) {
        let bytes = fs::metadata(file).expect("written").len();
        agent.until("the checkpoint has reached the end of the file", |_| {
            (self.settled(file)? == bytes).then_some(())
        });
    }

    /// The lines of all dead letter files of [`STREAM`], the oldest first.
    pub(crate) fn dead_letters(&self) -> Vec<Value> {
        let files = self.dead_letter_files().into_iter();
        let text = files.map(|file| fs::read_to_string(file).expect("text"));
        let text: String = text.collect();
        let lines = text.lines().map(serde_json::from_str);
        // What a crash has cut short is no letter.
        lines.filter_map(Result::ok).collect()
    }

    pub(crate) fn dead_letter_files(&self) -> Vec<PathBuf> {
        let folder = self.state().join("dead_letter").join(STREAM);
        let Ok(entries) = fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries.map(|e| e.expect("readable").path()).collect();
        files.sort();
        files
    }

    /// What `kinseal consume` reads from the stream, a record each.
    pub(crate) fn consume(&self, more: &[&str]) -> Vec<Vec<u8>> {
        let stdout = self.try_consume(more).expect_success().stdout;
        let mut lines: Vec<_> = stdout
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect();
        assert_eq!(lines.pop(), Some(Vec::new()), "each line has its newline");
        lines
    }

    pub(crate) fn try_consume(&self, more: &[&str]) -> Ended {
        let mut command = kinseal();
        command.args(["consume", "--stream", STREAM, "--until-empty", "--config"]);
        command.arg(self.config()).args(more);
        Running::start("kinseal consume", &mut command).wait()
    }
}

/// `kinseal`, with nothing of this machine's AWS set-up.
pub(crate) fn kinseal() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kinseal"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("RUST_BACKTRACE", "1");
    command
}

/// What an agent says when it ends.
#[derive(Debug)]
pub(crate) struct FinalReport {
    text: String,
}

impl FinalReport {
    /// Asks an agent to stop, and waits for its end.
    pub(crate) fn of(agent: Running) -> Self {
        agent.signal("TERM");
        Self::said_in(agent.wait().expect_success())
    }

    pub(crate) fn said_in(ended: Ended) -> Self {
        Self { text: ended.stderr }
    }

    /// All that it said, from its start.
    pub(crate) fn said(&self) -> &str {
        &self.text
    }

    /// The number before these words, as in `3 throttled`. The last one said.
    pub(crate) fn number(&self, words: &str) -> u64 {
        let found = self.text.rsplit_once(&format!(" {words}"));
        let number = found.and_then(|(before, _)| before.rsplit([' ', '\n']).next());
        let number = number.and_then(|digits| digits.replace(',', "").parse().ok());
        number.unwrap_or_else(|| panic!("no number of {words:?} in the report:\n{}", self.text))
    }

    /// What may double records: calls after which nobody knows, and reshards.
    pub(crate) fn causes_of_doubles(&self) -> u64 {
        self.number("of unknown outcome") + self.number("misplaced by a reshard")
    }

    /// Every record accounted for, and none left.
    pub(crate) fn expect_stored(&self, records: u64) {
        assert_eq!(
            self.account(),
            [records, records, 0, 0, 0, 0, 0],
            "{}",
            self.text
        );
    }

    /// Records accepted, stored, dead-lettered, failed, dropped, abandoned and pending: the first is the sum of the rest.
    pub(crate) fn account(&self) -> [u64; 7] {
        let line = self
            .text
            .lines()
            .rev()
            .find(|line| line.contains("accepted "));
        let line = line.unwrap_or_else(|| panic!("no account in the report:\n{}", self.text));
        let words = [
            "accepted",
            "stored",
            "dead-lettered",
            "failed",
            "dropped",
            "abandoned",
            "pending",
        ];
        let account = words.map(|word| {
            let after = line
                .split_once(&format!("{word} "))
                .expect("in the account")
                .1;
            let number = after.split_whitespace().next().expect("a number");
            number.replace(',', "").parse().expect("a number")
        });
        assert_eq!(account[0], account[1..].iter().sum::<u64>(), "{line}");
        account
    }
}
