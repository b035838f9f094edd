//! The table of claims names tests that are there.

use std::fs;
use std::path::Path;

/// All tests below a folder, and the modules that have some.
fn tests_of(folder: &str) -> Vec<String> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let tests = tests_in(&fs::read_to_string(&path).expect("UTF-8"));
                if !tests.is_empty() {
                    let module = path.file_stem().expect("a name").to_string_lossy();
                    found.push(module.into_owned());
                }
                found.extend(tests);
            }
        }
    }
    found
}

/// Functions behind an attribute that makes them tests.
fn tests_in(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some((name, _)) = function.and_then(|rest| rest.split_once('('))
            && std::mem::take(&mut is_test)
        {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn every_test_that_the_table_of_claims_names_is_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verification.md");
    let text = fs::read_to_string(path).expect("it is there");
    let (end_to_end, unit) = (tests_of("tests"), tests_of("src"));
    let mut named = 0;
    for piece in text.split('`').skip(1).step_by(2) {
        let (there, name) = match piece.split_once(' ') {
            Some(("e2e", name)) => (&end_to_end, name),
            Some(("lib", name)) => (&unit, name),
            _ => continue,
        };
        let last = name.rsplit("::").next().expect("one at least");
        if last != "NAME" {
            assert!(there.iter().any(|test| test == last), "no test {piece}");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}
