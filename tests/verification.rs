//! The table of claims names tests that are there.

use std::fs;
use std::path::Path;

/// All functions of the tests and of the crate.
fn functions() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(
                    path.file_stem()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned(),
                );
                let text = fs::read_to_string(&path).expect("UTF-8");
                let names = text.lines().filter_map(|line| {
                    let line = line.trim_start().trim_start_matches("async ");
                    Some(line.strip_prefix("fn ")?.split_once('(')?.0.to_owned())
                });
                found.extend(names);
            }
        }
    }
    found
}

#[test]
fn every_test_that_the_table_of_claims_names_is_there() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verification.md");
    let text = fs::read_to_string(path).expect("it is there");
    let there = functions();
    let mut named = 0;
    for piece in text.split('`').skip(1).step_by(2) {
        let Some(name) = piece.strip_prefix("e2e ").or(piece.strip_prefix("lib ")) else {
            continue;
        };
        let last = name.rsplit("::").next().expect("one at least");
        if last != "NAME" {
            assert!(there.iter().any(|test| test == last), "no test {name}");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}
