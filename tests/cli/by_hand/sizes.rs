//! `kinseal size` tells what `kinseal encrypt` makes.

use super::{KeyFile, SUITES, run};
use crate::support::servers::StandIn;

#[test]
fn a_length_that_is_told_is_the_length_that_is_made() {
    let key = KeyFile::new();
    let lengths = [0, 1, 4096, 4097, 10_000];
    for suite in SUITES {
        let how = [
            "--wrapping-key",
            key.path(),
            "--suite",
            suite,
            "--context",
            "app=shop",
        ];
        for encoding in ["binary", "base64"] {
            let told = told(&[&how[..], &["--encoding", encoding]].concat(), &lengths);
            for (length, told) in lengths.iter().zip(told) {
                let message = key.encrypt(&how[2..], &vec![7; *length]).len();
                let made = match encoding {
                    "binary" => message,
                    _ => message.div_ceil(3) * 4,
                };
                assert_eq!(told, made, "{suite} {encoding} {length}");
            }
        }
    }
}

#[test]
fn a_length_under_a_kms_key_is_told_without_kms() {
    let site = StandIn::start();
    let key = site.endpoints.create_key();
    let calls = site.fake.counters().kms_calls_total();
    let told = told(&["--kms-key", &key], &[1000]);
    assert_eq!(site.fake.counters().kms_calls_total(), calls);
    let how = ["--kms-key", &key, "--kms-endpoint-url", &site.endpoints.kms];
    let made = run(&[&["encrypt"], &how[..]].concat(), &[7; 1000]).expect_success();
    assert_eq!(told, [made.stdout.len()]);
}

#[test]
fn an_alias_is_taken_for_a_key_of_its_region() {
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/0123abcd-0123-0123-0123-0123456789ab";
    let exact = said(&["--kms-key", arn], &[200]);
    let short = ["--kms-key", "alias/shop", "--region", "eu-west-1"];
    let assumed = said(&short, &[200]);
    let (table, more) = assumed.split_at(exact.len());
    assert_eq!(table, exact);
    assert!(more.starts_with("assumed: the key's ARN is as long as arn:aws:kms:eu-west-1:"));
}

#[test]
fn what_fits_into_a_record_is_the_most_that_fits() {
    let key = KeyFile::new();
    let how = ["--wrapping-key", key.path()];
    let said = said(&how, &[1]);
    let (_, after) = said.split_once("holds at most ").expect("the largest");
    let most = after.split(' ').next().expect("a number");
    let most: usize = most.parse().expect("a number");
    let limit = (1 << 20) - 1;
    let told = told(&how, &[most, most + 1]);
    assert!(told[0] <= limit && told[1] > limit, "{told:?}");
}

#[test]
fn blocks_are_told_with_what_they_add_to_a_record() {
    let key = KeyFile::new();
    let lines = "a line of some thirty characters\n".repeat(5_000);
    let args = ["size", "--wrapping-key", key.path(), "--scope", "block"];
    let ended = run(&args, lines.as_bytes()).expect_success();
    let said = String::from_utf8(ended.stdout).expect("UTF-8");
    let blocks: Vec<Vec<f64>> = said
        .lines()
        .skip(1)
        .map_while(|line| {
            line.split_whitespace()
                .map(|word| word.parse().ok())
                .collect()
        })
        .collect();
    let sum = |column: usize| blocks.iter().map(|block| block[column]).sum::<f64>();
    assert_eq!((sum(0), sum(1)), (5_000.0, 160_000.0), "{said}");
    assert!(blocks.len() > 3, "{said}");
    assert!(blocks.iter().all(|block| block[2] < 50_000.0), "{said}");
    assert!(said.contains("5000 records of 160000 bytes"), "{said}");
}

/// The second column of the table.
fn told(how: &[&str], lengths: &[usize]) -> Vec<usize> {
    let said = said(how, lengths);
    let rows = said.lines().skip(1).take(lengths.len());
    let sealed = rows.map(|row| row.split_whitespace().nth(1).expect("three columns"));
    sealed
        .map(|number| number.parse().expect("a number"))
        .collect()
}

fn said(how: &[&str], lengths: &[usize]) -> String {
    let lengths: Vec<String> = lengths.iter().map(usize::to_string).collect();
    let lengths: Vec<&str> = lengths.iter().map(String::as_str).collect();
    let ended = run(&[&["size"], how, &lengths].concat(), b"").expect_success();
    assert_eq!(ended.stderr, "");
    String::from_utf8(ended.stdout).expect("UTF-8")
}
