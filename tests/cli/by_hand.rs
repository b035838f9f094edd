//! `kinseal encrypt`, `decrypt`, `size` and `key`: what they give, and what they refuse.

mod refused;
mod sizes;
mod stored;
mod vectors;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::agent::kinseal;
use crate::support::process::{self, Ended};
use crate::support::servers::{REGION, StandIn};

const SUITES: [&str; 5] = ["0478", "0578", "0178", "0378", "0114"];

/// A wrapping key in a file.
struct KeyFile {
    dir: TempDir,
    path: String,
}

impl KeyFile {
    fn new() -> Self {
        let key = Self::nowhere();
        let made = run(&["key", "new", key.path()], b"").expect_success();
        assert_eq!(made.stderr, "");
        key
    }

    fn nowhere() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("shop.toml").display().to_string();
        Self { dir, path }
    }

    fn with_text(text: &str) -> Self {
        let key = Self::nowhere();
        fs::write(key.path(), text).expect("room for it");
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(key.path(), owner_only).expect("our own file");
        key
    }

    fn path(&self) -> &str {
        &self.path
    }

    fn encrypt(&self, more: &[&str], plaintext: &[u8]) -> Vec<u8> {
        let args = [&["encrypt", "--wrapping-key", self.path()], more].concat();
        run(&args, plaintext).expect_success().stdout
    }

    fn decrypt(&self, more: &[&str], message: &[u8]) -> Ended {
        let args = [&["decrypt", "--wrapping-key", self.path()], more].concat();
        run(&args, message)
    }
}

fn run(args: &[&str], input: &[u8]) -> Ended {
    process::run(&format!("kinseal {}", args[0]), kinseal().args(args), input)
}

/// That it was refused without a byte of plaintext, in one line; the line.
#[track_caller]
fn refusal(ended: &Ended) -> &str {
    let (code, said) = ended.refusal();
    assert_eq!(code, 1, "{said}");
    assert_eq!(ended.stdout, b"", "{said}");
    assert!(said.starts_with("kinseal: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn every_suite_comes_back_in_every_form() {
    let key = KeyFile::new();
    let plaintext = b"one line\nand another\n";
    for suite in SUITES {
        for format in ["raw", "hex", "base64", "lines"] {
            let how = ["--context", "app=shop", "--format", format];
            let message = key.encrypt(&[&how[..], &["--suite", suite]].concat(), plaintext);
            assert!(format == "raw" || message.is_ascii(), "{suite} {format}");
            let opened = key.decrypt(&how, &message).expect_success();
            assert_eq!(opened.stdout, plaintext, "{suite} {format}");
            assert_eq!(opened.stderr, "", "{suite} {format}");
        }
    }
}

#[test]
fn large_and_empty_inputs_come_back_from_files_too() {
    let key = KeyFile::new();
    let path = key.dir.path().join("plaintext");
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for plaintext in [&large[..], b""] {
        fs::write(&path, plaintext).expect("room for it");
        let message = key.encrypt(
            &[path.to_str().expect("UTF-8"), "--frame-length", "128"],
            b"",
        );
        assert_eq!(
            key.decrypt(&["-"], &message).expect_success().stdout,
            plaintext
        );
    }
}

#[test]
fn each_of_several_keys_opens_the_message() {
    let (first, second) = (KeyFile::new(), KeyFile::new());
    let message = first.encrypt(&["--wrapping-key", second.path()], b"secret");
    for key in [&first, &second] {
        assert_eq!(
            key.decrypt(&[], &message).expect_success().stdout,
            b"secret"
        );
    }
}

#[test]
fn a_kms_key_encrypts_and_decrypts_in_the_region_of_its_arn() {
    let site = StandIn::start();
    let key = site.endpoints.create_key();
    assert!(key.contains(REGION));
    let place = ["--kms-key", &key, "--kms-endpoint-url", &site.endpoints.kms];
    let how = [&place[..], &["--context", "app=shop"]].concat();
    let message = run(&[&["encrypt"], &how[..]].concat(), b"secret").expect_success();
    let opened = run(&[&["decrypt"], &how[..]].concat(), &message.stdout).expect_success();
    assert_eq!(opened.stdout, b"secret");

    let other = site.endpoints.create_key();
    let place = [
        "--kms-key",
        &other,
        "--kms-endpoint-url",
        &site.endpoints.kms,
    ];
    let ended = run(&[&["decrypt"], &place[..]].concat(), &message.stdout);
    let said = refusal(&ended);
    assert!(said.contains("wrong key") && said.contains(&key), "{said}");
}

#[test]
fn kms_keys_and_a_wrapping_key_open_one_message() {
    let site = StandIn::start();
    let kms = [site.endpoints.create_key(), site.endpoints.create_key()];
    let file = KeyFile::new();
    let place = ["--kms-endpoint-url", &site.endpoints.kms];
    let how = ["--kms-key", &kms[0], "--kms-key", &kms[1]];
    let message = file.encrypt(&[&how[..], &place[..]].concat(), b"secret");
    let opened = file.decrypt(&[], &message).expect_success();
    assert_eq!(opened.stdout, b"secret");
    for key in &kms {
        let args = [&["decrypt", "--kms-key", key], &place[..]].concat();
        assert_eq!(run(&args, &message).expect_success().stdout, b"secret");
    }
}

#[test]
fn an_outage_of_kms_is_a_refusal_and_not_a_wait() {
    let key = KeyFile::new();
    let message = key.encrypt(&["--format", "lines"], b"x");
    let arn = format!("arn:aws:kms:{REGION}:111122223333:key/0123abcd-0123-0123-0123-0123456789ab");
    let place = [
        "--kms-key",
        &arn,
        "--kms-endpoint-url",
        "http://127.0.0.1:9",
    ];
    let ended = run(&[&["encrypt"], &place[..]].concat(), b"secret");
    assert!(refusal(&ended).contains("can not be reached"));
    // Not its key, so nobody is asked.
    let args = [&["decrypt", "--format", "lines"], &place[..]].concat();
    assert_eq!(run(&args, &message).refusal().0, 1);
}

#[test]
fn verbose_tells_the_header_and_whether_it_is_verified() {
    let key = KeyFile::new();
    let how = [
        "--suite",
        "0578",
        "--context",
        "app=shop",
        "--frame-length",
        "256",
    ];
    let message = key.encrypt(&how, b"secret");
    let opened = key.decrypt(&["--verbose"], &message).expect_success();
    assert_eq!(opened.stdout, b"secret");
    let facts: Value = serde_json::from_str(&opened.stderr).expect("one line of JSON");
    assert_eq!(facts["suite"], "0578");
    let id: String = message[3..35]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(facts["message_id"], id.as_str());
    assert_eq!(facts["context"]["app"], "shop");
    assert_eq!(facts["frame_length"], 256);
    assert_eq!(facts["plaintext_length"], 6);
    assert_eq!(facts["signed"], true);
    assert_eq!(facts["verified"], true);
    let of_key = &facts["encrypted_data_keys"][0];
    assert_eq!(of_key["provider"], "kinseal");
    assert_eq!(of_key["key"], "shop");
    assert_eq!(of_key["ciphertext_length"], 48);

    let ended = KeyFile::new().decrypt(&["--verbose", "--context", "app=shop"], &message);
    assert_eq!(
        (ended.status.code(), &ended.stdout[..]),
        (Some(1), &b""[..])
    );
    let facts: Value = serde_json::from_str(ended.stderr.lines().next().expect("a line"))
        .expect("a line of JSON before the reason");
    assert_eq!(facts["verified"], false);
}

#[test]
fn of_lines_the_bad_are_told_and_the_others_come_out() {
    let key = KeyFile::new();
    let messages = key.encrypt(&["--format", "lines"], b"one\n\nthree\nfour");
    let messages = String::from_utf8(messages).expect("base64");
    let mut lines: Vec<&str> = messages.lines().collect();
    assert_eq!(lines.len(), 4);
    lines[2] = "AgR4not base64!";
    let input = lines.join("\r\n") + "\n\n";
    let ended = key.decrypt(&["--format", "lines"], input.as_bytes());
    let (code, said) = ended.refusal();
    assert_eq!(code, 1);
    assert_eq!(ended.stdout, b"one\n\nfour\n");
    let said: Vec<&str> = said.lines().collect();
    assert!(
        said[0].starts_with("kinseal: line 3: not base64"),
        "{said:?}"
    );
    assert!(said[1].starts_with("kinseal: line 5: empty"), "{said:?}");
    assert_eq!(said[2], "kinseal: 2 of 5 lines refused; see above");
}

#[test]
fn a_reader_that_has_enough_is_no_failure() {
    let key = KeyFile::new();
    let path = key.dir.path().join("lines");
    fs::write(&path, "a line\n".repeat(20_000)).expect("room for it");
    let mut command = kinseal();
    command
        .args(["encrypt", "--wrapping-key", key.path(), "--format", "lines"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.is_empty(), "{said}");
}

#[test]
fn a_new_key_is_its_owners_alone_and_never_printed() {
    let key = KeyFile::new();
    let written = fs::read_to_string(key.path()).expect("made");
    assert_eq!(
        fs::metadata(key.path()).expect("made").mode() & 0o777,
        0o600
    );
    let digits = written.split("key = \"").nth(1).expect("a key");
    let digits = digits.trim_end().trim_end_matches('"');
    assert_eq!(digits.len(), 64, "256 bits");

    let ended = run(&["key", "new", key.path()], b"");
    assert!(refusal(&ended).contains("not overwritten"));
    assert_eq!(
        fs::read_to_string(key.path()).expect("still there"),
        written
    );

    let other = key.dir.path().join("other");
    let other = other.to_str().expect("UTF-8");
    let how = [
        "--namespace",
        "my-company",
        "--name",
        "laptop",
        "--bits",
        "128",
    ];
    let ended = run(&[&["key", "new", other], &how[..]].concat(), b"").expect_success();
    let said = String::from_utf8(ended.stdout).expect("UTF-8");
    for word in ["128 bits", "my-company", "laptop", other] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    let written = fs::read_to_string(Path::new(other)).expect("made");
    let digits = written.split("key = \"").nth(1).expect("a key");
    assert!(!said.contains(&digits[..32]), "{said}");
    assert!(
        written.contains("namespace = \"my-company\"\nname = \"laptop\"\n"),
        "{written}"
    );
}
