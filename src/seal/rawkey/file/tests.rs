use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

const HEX: &str = "000102030405060708090a0b0c0d0e0f";

fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key.toml");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
    (directory, path)
}

fn refusal(text: &str) -> String {
    let (_directory, path) = written(text, 0o600);
    WrappingKey::load(&path).expect_err("refused").to_string()
}

#[test]
fn a_created_key_loads_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key.toml");
    let name = r#"a "quoted" \ ключ"#;
    let created = WrappingKey::create(&path, "shop", name).expect("created");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    let loaded = WrappingKey::load(&path).expect("loads");
    assert_eq!(loaded.key, created.key);
    assert_eq!(loaded.key_name, name);
}

#[test]
fn a_created_key_has_the_length_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    for (size, bits) in [
        (KeySize::Bits128, 128),
        (KeySize::Bits192, 192),
        (KeySize::Bits256, 256),
    ] {
        let path = directory.path().join(format!("{bits}.toml"));
        let created = WrappingKey::create_sized(&path, "shop", "orders", size);
        assert_eq!(created.expect("created").bits(), bits);
        assert_eq!(WrappingKey::load(&path).expect("loads").bits(), bits);
    }
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let (_directory, path) = written("precious", 0o600);
    let error = WrappingKey::create(&path, "shop", "orders").expect_err("refused");
    assert!(
        matches!(error, WrappingKeyFileError::Exists { .. }),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
}

#[test]
fn a_file_that_others_may_read_is_refused_with_the_fix() {
    let text = format!("namespace = \"a\"\nname = \"b\"\nkey = \"{HEX}\"\n");
    for mode in [0o640, 0o604, 0o620, 0o644] {
        let (_directory, path) = written(&text, mode);
        let error = WrappingKey::load(&path).expect_err("refused").to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", path.display())),
            "{error}"
        );
    }
    let (_directory, path) = written(&text, 0o400);
    assert!(WrappingKey::load(&path).is_ok());
}

#[test]
fn every_mistake_is_named_and_no_key_is_printed() {
    let fields = "namespace = \"a\"\nname = \"b\"\n";
    for (text, named) in [
        (format!("{fields}key = \"{HEX}"), "line 3"),
        (format!("{fields}key = {HEX}"), "line 3"),
        (format!("{fields}key = \"{HEX}x\""), "hexadecimal"),
        (format!("{fields}key = \"{HEX}zz\""), "hexadecimal"),
        (format!("{fields}key = \"{HEX}00\""), "17 bytes"),
        (format!("{fields}key = 12"), "key is missing"),
        (
            format!("name = \"b\"\nkey = \"{HEX}\""),
            "namespace is missing",
        ),
        (format!("{fields}kez = \"{HEX}\""), "unknown key \"kez\""),
        (format!("{fields}aaaabbbbccccddddeeee = \"x\""), "line 3"),
        (
            format!("namespace = \"a\"\nname = \"{HEX}\"\nkey = \"{HEX}\""),
            "choose another name",
        ),
        (
            format!("namespace = \"x-{HEX}\"\nname = \"b\"\nkey = \"{HEX}\""),
            "choose another namespace",
        ),
        (format!("{fields}{HEX} = \"key\""), "line 3"),
        (format!("{fields}\"{HEX}\" = \"key\""), "line 3"),
        (
            format!("namespace = \"aws-kms-shop\"\nname = \"b\"\nkey = \"{HEX}\""),
            "aws-kms",
        ),
        (
            format!("namespace = \"aws-kms\"\nname = \"b\"\nkey = \"{HEX}\""),
            "aws-kms",
        ),
    ] {
        let error = refusal(&text);
        assert!(error.contains(named), "{error}");
        assert!(!error.contains(&HEX[..8]), "{error}");
        assert!(!error.contains("aaaabbbb"), "{error}");
    }
}

#[test]
fn a_file_without_an_end_is_no_key() {
    let error = refusal(&"#".repeat(LARGEST));
    assert!(error.contains("which is no wrapping key"), "{error}");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let (_directory, paths) = secretfile::tests::no_files();
    for path in paths {
        let error = WrappingKey::load(&path).expect_err("refused");
        let said = error.to_string();
        assert!(
            matches!(error, WrappingKeyFileError::NoFile { .. }),
            "{said}"
        );
        assert!(said.contains(&*path.to_string_lossy()), "{said}");
    }
}

#[test]
fn a_key_in_place_of_its_file_is_not_repeated() {
    for key in [HEX, &HEX.repeat(2).to_uppercase()] {
        let error = WrappingKey::load(Path::new(key)).expect_err("refused");
        let said = error.to_string();
        assert!(
            said.contains("not shown") && !said.contains("0102"),
            "{said}"
        );
    }
    assert_eq!(redacted("a-0123456789/é-beef"), "a-0123456789/é-beef");
}

#[test]
fn a_missing_file_is_named() {
    let error = WrappingKey::load(Path::new("/nowhere/key.toml")).expect_err("refused");
    assert!(error.to_string().contains("/nowhere/key.toml"), "{error}");
}
