//! What must not be opened is not, and not one byte of it is shown.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use super::{KeyFile, refusal, run};
use crate::support::process::Ended;

const SECRET: &[u8] =
    b"a secret of some words, and long enough for two frames of the shortest length that \
    other implementations take, which is one hundred and twenty-eight bytes";

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let key = KeyFile::new();
    for suite in ["0478", "0578", "0178"] {
        let how = [
            "--suite",
            suite,
            "--context",
            "app=shop",
            "--frame-length",
            "128",
        ];
        let message = key.encrypt(&how, SECRET);
        let mutants = (0..message.len()).map(|at| {
            let mut mutant = message.clone();
            mutant[at] ^= 1 << (at % 8);
            mutant
        });
        // One process for all of them.
        let lines: Vec<_> = mutants.map(|mutant| base64(&mutant)).collect();
        let ended = key.decrypt(&["--format", "lines"], lines.join("\n").as_bytes());
        let (code, said) = ended.refusal();
        assert_eq!(code, 1, "{said}");
        assert_eq!(ended.stdout, b"", "{suite}");
        // A line for each, and the sum.
        assert_eq!(said.lines().count(), message.len() + 1, "{suite}:\n{said}");
        for (number, line) in (1..).zip(said.lines()).take(message.len()) {
            assert!(
                line.starts_with(&format!("kinseal: line {number}: ")),
                "{line}"
            );
        }
    }
}

#[test]
fn each_refusal_names_its_reason_and_shows_no_plaintext() {
    let key = KeyFile::new();
    let message = key.encrypt(&["--context", "app=shop", "--frame-length", "128"], SECRET);
    let signed = key.encrypt(&["--suite", "0578"], SECRET);
    let uncommitted = key.encrypt(&["--suite", "0178"], SECRET);
    let of_two = key.encrypt(&["--wrapping-key", KeyFile::new().path()], SECRET);
    let flipped = |at: usize| {
        let mut mutant = message.clone();
        mutant[at] ^= 1;
        mutant
    };
    let last = message.len() - 1;
    let text = base64(&message);
    let trailing = [&message[..], b"\n"].concat();
    let cases: &[(&[&str], &[u8], &str)] = &[
        (
            &["--context", "app=other"],
            &message,
            "wrong encryption context: \"app\"",
        ),
        (
            &["--context", "team=x"],
            &message,
            "wrong encryption context",
        ),
        (&[], &trailing, "1 bytes follow the end"),
        (&[], &message[..last], "it was cut"),
        (&[], &message[..20], "it was cut"),
        (&[], &signed[..signed.len() - 1], "it was cut"),
        (&[], &flipped(last), "tag of frame 2"),
        (&[], &flipped(last - 40), "tag of frame 2"),
        (&[], b"", "is empty"),
        (&[], b"plain text", "not an AWS Encryption SDK message"),
        (&[], text.as_bytes(), "--format base64"),
        (&["--format", "hex"], b"0g", "not hexadecimal"),
        (&["--format", "base64"], b"!", "not base64"),
        (
            &["--policy", "require-encrypt-require-decrypt"],
            &uncommitted,
            "require-encrypt-allow-decrypt reads it",
        ),
        (
            &["--max-encrypted-data-keys", "1"],
            &of_two,
            "the reader's limit is 1",
        ),
        (&["--allow-plaintext"], &message, "get-records"),
    ];
    for (how, input, reason) in cases {
        let ended = key.decrypt(how, input);
        let said = refusal(&ended);
        assert!(said.contains(reason), "{reason:?} is not in {said}");
    }
    let stranger = KeyFile::with_text(
        "namespace = \"kinseal\"\nname = \"shop\"\nkey = \"000102030405060708090a0b0c0d0e0f\"\n",
    );
    let ended = stranger.decrypt(&[], &message);
    assert!(refusal(&ended).contains("another key of the same namespace"));
    let stranger = KeyFile::with_text(
        "namespace = \"kinseal\"\nname = \"x\"\nkey = \"000102030405060708090a0b0c0d0e0f\"\n",
    );
    let ended = stranger.decrypt(&[], &message);
    assert!(refusal(&ended).contains("wrapped by kinseal/shop"));
}

#[test]
fn a_policy_that_forbids_the_suite_names_the_way_out() {
    let key = KeyFile::new();
    for (suite, policy, way_out) in [
        ("0178", "require-encrypt-allow-decrypt", "--suite 0478"),
        (
            "0178",
            "require-encrypt-require-decrypt",
            "forbid-encrypt-allow-decrypt",
        ),
        ("0478", "forbid-encrypt-allow-decrypt", "--suite 0178"),
    ] {
        let how = ["--suite", suite, "--policy", policy];
        let args = [&["encrypt", "--wrapping-key", key.path()], &how[..]].concat();
        let ended = run(&args, SECRET);
        assert!(refusal(&ended).contains(way_out), "{}", ended.stderr);
    }
    let how = [
        "--suite",
        "0378",
        "--policy",
        "forbid-encrypt-allow-decrypt",
    ];
    let message = key.encrypt(&how, SECRET);
    assert_eq!(key.decrypt(&[], &message).expect_success().stdout, SECRET);
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let key = KeyFile::new();
    let message = key.encrypt(&[], SECRET);
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    std::fs::set_permissions(key.path(), readable).expect("our own file");
    let ended = key.decrypt(&[], &message);
    assert!(refusal(&ended).contains("chmod 600"));
}

#[test]
fn more_than_fits_in_memory_is_refused_before_it_is_read() {
    let key = KeyFile::new();
    let path = key.dir.path().join("large");
    // Without a block on the disk.
    let file = File::create(&path).expect("a new file");
    file.set_len((1 << 30) + 1).expect("it has holes");
    let path = path.to_str().expect("UTF-8");
    let ended = run(&["encrypt", "--wrapping-key", key.path(), path], b"");
    let said = refusal(&ended);
    assert!(
        said.contains("1GiB") && said.contains("--format lines"),
        "{said}"
    );
}

#[test]
fn a_line_that_is_too_long_is_told_and_the_others_come_out() {
    let key = KeyFile::new();
    let path = key.dir.path().join("lines");
    let message = key.encrypt(&["--format", "lines"], b"after it");
    // Without a block on the disk.
    let mut file = File::create(&path).expect("a new file");
    file.set_len(65 << 20).expect("it has holes");
    file.seek(SeekFrom::End(0)).expect("a file");
    file.write_all(&[b"\n", &message[..]].concat())
        .expect("room for it");
    let path = path.to_str().expect("UTF-8");
    let ended = key.decrypt(&["--format", "lines", path], b"");
    let (code, said) = ended.refusal();
    assert_eq!(code, 1);
    assert_eq!(ended.stdout, b"after it\n");
    assert!(said.contains("line 1: longer than 64MiB"), "{said}");
    assert!(said.contains("1 of 2 lines refused"), "{said}");
}

#[test]
fn what_only_the_agent_may_say_of_a_message_is_refused() {
    let key = KeyFile::new();
    for command in ["encrypt", "size"] {
        let pair = ["--context", "kinseal-block=kpl"];
        let args = [&[command, "--wrapping-key", key.path()], &pair[..]].concat();
        let said = usage(&run(&args, b"")).to_owned();
        assert!(said.contains("do not begin with"), "{said}");
    }
}

#[test]
fn more_keys_than_readers_take_or_one_twice_are_refused() {
    let keys: Vec<KeyFile> = (0..6).map(|_| KeyFile::new()).collect();
    let encrypt = |files: &[&str], more: &[&str]| {
        let files = files.iter().flat_map(|file| ["--wrapping-key", *file]);
        let args: Vec<&str> = ["encrypt"].into_iter().chain(files).collect();
        run(&[&args, more].concat(), SECRET)
    };
    let paths: Vec<&str> = keys.iter().map(KeyFile::path).collect();
    encrypt(&paths[..5], &[]).expect_success();
    assert!(refusal(&encrypt(&paths, &[])).contains("up to 5"));
    let alias = ["--kms-key", "alias/shop"];
    assert!(refusal(&encrypt(&paths[..5], &alias)).contains("up to 5"));
    let copy = keys[0].dir.path().join("copy.toml");
    std::fs::copy(keys[0].path(), &copy).expect("room for it");
    let copy = copy.to_str().expect("UTF-8");
    assert!(refusal(&encrypt(&[paths[0], copy], &[])).contains("each key once"));
    let twice = [&alias[..], &alias].concat();
    assert!(refusal(&encrypt(&[], &twice)).contains("each key once"));
}

#[test]
fn a_key_in_the_wrong_place_is_not_repeated() {
    let key = "000102030405060708090a0b0c0d0e0f".repeat(2);
    for args in [
        ["encrypt", "--kms-key", &key],
        ["decrypt", "--kms-key", &key],
        ["encrypt", "--wrapping-key", &key],
        ["decrypt", "--wrapping-key", &key],
        ["decrypt", "--key", &key],
    ] {
        let ended = run(&args, b"");
        assert!(!ended.status.success());
        assert!(!ended.stderr.contains("0102"), "{}", ended.stderr);
    }
}

#[track_caller]
fn usage(ended: &Ended) -> &str {
    let (code, said) = ended.refusal();
    assert_eq!(code, 64, "{said}");
    said
}

#[test]
fn an_input_without_a_byte_is_said_to_be_empty() {
    let key = KeyFile::new();
    for format in ["raw", "hex", "base64"] {
        let ended = key.decrypt(&["--format", format], b"");
        assert!(refusal(&ended).contains("is empty"), "{format}");
    }
}

/// Names in a message are a stranger's words until it is verified.
#[test]
fn a_strangers_words_stay_on_one_line() {
    let key = KeyFile::with_text(
        "namespace = \"shop\"\nname = \"AAAA\"\nkey = \"000102030405060708090a0b0c0d0e0f\"\n",
    );
    let mut message = key.encrypt(&[], SECRET);
    let at = message
        .windows(4)
        .position(|w| w == b"AAAA")
        .expect("its name");
    message[at..at + 4].copy_from_slice(b"\n\x1b[m");
    let ended = key.decrypt(&[], &message);
    let said = refusal(&ended);
    assert!(said.contains("shop/\\n\\u{1b}[m"), "{said}");
}

pub(super) fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}
