//! What must not be opened is not, and not one byte of it is shown.

use std::fs::File;

use super::{KeyFile, refusal, run};

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
        (&[], b"", "not an AWS Encryption SDK message"),
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
