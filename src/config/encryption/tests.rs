use std::time::Duration;

use crate::config::environment::tests::Fixed;
use crate::config::parse;
use crate::seal::block::{self, Packing};
use crate::seal::message::{Backend, Encoding, Lanes, Suite};
use crate::seal::{KeyChoice, Scope, Settings};

/// Five lines; what a test is about begins on the sixth.
const BEFORE: &str = "\
[[source]]
type = 'stdin'
stream = 's'

[encryption]
";

fn parsed(rest: &str) -> Result<Settings, Vec<String>> {
    match parse("f", &format!("{BEFORE}{rest}"), &Fixed(&[])) {
        Ok(settings) => Ok(settings.streams[0].encryption.clone()),
        Err(mistakes) => Err(mistakes.to_string().lines().map(str::to_owned).collect()),
    }
}

fn good(rest: &str) -> Settings {
    parsed(rest).unwrap_or_else(|mistakes| panic!("{rest}\n{mistakes:#?}"))
}

fn block(rest: &str) -> block::Settings {
    match good(rest).scope {
        Scope::Block(_, block) => block,
        other => panic!("{rest}\n{other:?}"),
    }
}

#[test]
fn messages_are_written_as_the_keys_say() {
    let message = good(
        "scope = 'record'\nkms_key = 'alias/a'\nsuite = '0x0578'\nframe_length = '64KiB'\n\
         encoding = 'base64'\nbackend = 'aes-gcm'\nlanes = 'avx2'",
    )
    .message;
    assert_eq!(message.suite.id(), 0x0578);
    assert_eq!(message.frame_length, 65_536);
    assert_eq!(message.encoding, Encoding::Base64);
    assert_eq!(message.backend, Backend::AesGcm);
    assert_eq!(message.lanes, Lanes::Avx2);
}

#[test]
fn every_suite_that_is_written_can_be_chosen() {
    for suite in Suite::written() {
        let text = format!("scope = 'record'\nkms_key = 'alias/a'\nsuite = '{suite}'");
        assert_eq!(good(&text).message.suite, suite);
    }
}

#[test]
fn of_several_keys_the_first_stays_the_first() {
    let settings = good("scope = 'record'\nkms_key = ['alias/b', 'alias/a']");
    let keys = ["alias/b", "alias/a"].map(String::from).to_vec();
    assert_eq!(settings.scope, Scope::Record(KeyChoice::Kms(keys)));
}

#[test]
fn compact_stands_for_blocks_that_are_compressed_and_linger() {
    let compact = block("preset = 'compact'\nkms_key = 'alias/a'");
    assert_eq!(compact, block::Settings::compact());
    assert_eq!(compact.linger, Some(Duration::from_secs(5)));
    let same = block(
        "kms_key = 'alias/a'\nscope = 'block'\nblock = { compression = 'zstd', level = 1, linger = '5s' }",
    );
    assert_eq!(compact, same);
}

#[test]
fn each_key_beside_a_preset_goes_first() {
    let with = |rest: &str| format!("preset = 'compact'\nkms_key = 'alias/a'\n{rest}");
    let compact = block::Settings::compact();
    let linger = block(&with("block.linger = '1s'"));
    assert_eq!(linger.linger, Some(Duration::from_secs(1)));
    assert_eq!(linger.packing, compact.packing);
    let plain = block(&with("block.compression = 'none'"));
    assert_eq!(plain.packing, Packing::Kpl);
    assert_eq!(plain.linger, compact.linger);
    let level = block(&with("block.level = 9"));
    assert_eq!(level.packing, Packing::KplZstd { level: 9 });
    let record = good(&with("scope = 'record'"));
    assert!(matches!(record.scope, Scope::Record(_)));
}

/// It is as if its keys were written where it is.
#[test]
fn a_streams_preset_goes_before_the_keys_above_and_a_streams_keys_before_the_preset_above() {
    let stream = "\n[[stream]]\nname = 's'\n[stream.encryption]\n";
    let above = format!(
        "scope = 'record'\nkms_key = 'alias/a'\nframe_length = 8192\nblock.linger = '9s'{stream}preset = 'compact'"
    );
    assert_eq!(block(&above), block::Settings::compact());
    let below = format!("preset = 'compact'\nkms_key = 'alias/a'{stream}block.linger = '9s'");
    assert_eq!(block(&below).linger, Some(Duration::from_secs(9)));
    let record = format!("preset = 'compact'\nkms_key = 'alias/a'{stream}scope = 'record'");
    assert!(matches!(good(&record).scope, Scope::Record(_)));
}

#[test]
fn compatibility_chooses_what_the_other_reader_knows() {
    let with = |rest: &str| {
        good(&format!(
            "scope = 'record'\nkms_key = 'alias/a'\ncontext.Kinesis = 'cars'\n\
             compatibility = 'kinesisencryption'\n{rest}"
        ))
        .message
    };
    assert_eq!(with("").suite.id(), 0x0178);
    assert_eq!(with("").encoding, Encoding::Base64);
    assert_eq!(with("suite = '0378'").suite.id(), 0x0378);
}

#[test]
fn each_mistake_says_what_is_allowed() {
    let key = "scope = 'record'\nkms_key = 'alias/a'\n";
    let compatible = "compatibility = 'kinesisencryption'\n";
    let kinesis = "context.Kinesis = 'x'\n";
    for (rest, expected) in [
        (
            format!("{key}suite = '0478x'"),
            "f:8: encryption.suite: found \"0478x\"; allowed: \"0114\" or \"0178\" or \"0378\" or \"0478\" or \"0578\"",
        ),
        (
            format!("{key}suite = 0x0478"),
            "f:8: encryption.suite: found 0x0478; allowed: \"0114\" or \"0178\" or \"0378\" or \"0478\" or \"0578\"",
        ),
        (
            format!("{key}suite = '0014'"),
            "f:8: encryption.suite: found \"0014\"; allowed: \"0114\" or \"0178\" or \"0378\" or \"0478\" or \"0578\"; this one is read, not written",
        ),
        (
            format!("{key}frame_length = 1000"),
            "f:8: encryption.frame_length: found 1000; allowed: a multiple of 128 bytes, which other AWS Encryption SDKs insist on",
        ),
        (
            format!("{key}frame_length = 0"),
            "f:8: encryption.frame_length: found 0; allowed: a number of bytes, like 65536 or \"64KiB\", from 128B to 10MiB",
        ),
        (
            "scope = 'block'\nkms_key = 'alias/a'\nframe_length = 4096".into(),
            "f:8: encryption.frame_length: found beside scope = \"block\"; allowed: with scope = \"record\", since a block is one frame",
        ),
        (
            "preset = 'compact'\nkms_key = 'alias/a'\n[[stream]]\nname = 's'\nencryption.frame_length = 4096".into(),
            "f:10: stream.encryption.frame_length: found beside scope = \"block\"; allowed: with scope = \"record\", since a block is one frame",
        ),
        (
            format!("{key}block.linger = '1s'"),
            "f:8: encryption.block.linger: found beside scope = \"record\"; allowed: with scope = \"block\"",
        ),
        (
            "scope = 'off'\nblock.level = 3".into(),
            "f:7: encryption.block.level: found beside scope = \"off\"; allowed: with scope = \"block\"",
        ),
        (
            "scope = 'block'\nkms_key = 'alias/a'\nblock.level = 3".into(),
            "f:8: encryption.block.level: found without compression = \"zstd\"; allowed: beside it",
        ),
        (
            "preset = 'compact'\nkms_key = 'alias/a'\nblock = { level = 3, compression = 'none' }".into(),
            "f:8: encryption.block.level: found without compression = \"zstd\"; allowed: beside it",
        ),
        (
            format!("{key}[[stream]]\nname = 's'\nencryption.block.max_size = 1024"),
            "f:10: stream.encryption.block.max_size: found beside scope = \"record\"; allowed: with scope = \"block\"",
        ),
        (
            format!("{key}encoding = 'hex'"),
            "f:8: encryption.encoding: found \"hex\"; allowed: \"binary\" or \"base64\"",
        ),
        (
            format!("{key}backend = 'awslc'"),
            "f:8: encryption.backend: found \"awslc\"; allowed: \"auto\" or \"aes-gcm\" or \"aws-lc\"; did you mean \"aws-lc\"?",
        ),
        (
            "kms_key = 'alias/a'\npreset = 'compct'".into(),
            "f:7: encryption.preset: found \"compct\"; allowed: \"compact\"; did you mean \"compact\"?",
        ),
        (
            "preset = 'compact'".into(),
            "f:6: encryption.kms_key: not given; allowed: kms_key or wrapping_key_file, which scope = \"block\" needs",
        ),
        (
            "preset = 'compact'\nkms_key = 'alias/a'\n[delivery]\nrecord_ttl = '4s'".into(),
            "f:6: encryption.block.linger: found 5s; allowed: up to delivery.record_ttl, which is 4s",
        ),
        (
            "scope = 'record'\nkms_key = []".into(),
            "f:7: encryption.kms_key: found an empty list; allowed: one key at least",
        ),
        (
            "scope = 'record'\nkms_key = ['alias/a', 'alias/b', 'alias/a']".into(),
            "f:7: encryption.kms_key: found \"alias/a\" twice; allowed: each key once",
        ),
        (
            "scope = 'record'\nkms_key = ['alias/a', 'alias/b', 'alias/c', 'alias/d', 'alias/e', 'alias/f']".into(),
            "f:7: encryption.kms_key: found 6 keys; allowed: up to 5, since readers refuse more",
        ),
        (
            "scope = 'record'\nkms_key = [\n'alias/a',\n'b']".into(),
            "f:9: encryption.kms_key: found \"b\"; allowed: a key of KMS by id, ARN or alias, like \"alias/shop\" or \"arn:aws:kms:eu-west-1:111122223333:key/…\"; did you mean \"alias/b\"?",
        ),
        (
            "scope = 'record'\nkms_key = 5".into(),
            "f:7: encryption.kms_key: found 5; allowed: a key of KMS by id, ARN or alias, or a list of them",
        ),
        (
            format!("{key}context.kinseal-block = 'kpl'"),
            "f:8: encryption.context.kinseal-block: found the key \"kinseal-block\"; allowed: keys of at least 1 character that do not begin with \"aws-crypto-\" or \"kinseal-\"",
        ),
        (
            format!("{key}{kinesis}{compatible}suite = '0478'"),
            "f:10: encryption.suite: found \"0478\"; allowed: \"0114\" or \"0178\" or \"0378\", since that reader knows version 1 only, beside compatibility = \"kinesisencryption\"",
        ),
        (
            format!("{key}{kinesis}{compatible}encoding = 'binary'"),
            "f:10: encryption.encoding: found \"binary\"; allowed: \"base64\" beside compatibility = \"kinesisencryption\"",
        ),
        (
            format!("{key}{compatible}"),
            "f:8: encryption.context: not given; allowed: context.Kinesis = \"…\", which the reader of kinesisencryption compares",
        ),
        (
            format!("{key}context.kinesis = 'x'\n{compatible}"),
            "f:8: encryption.context: found no Kinesis; allowed: any string by the name Kinesis, which that reader compares, beside compatibility = \"kinesisencryption\"",
        ),
        (
            format!("preset = 'compact'\nkms_key = 'alias/a'\n{kinesis}{compatible}"),
            "f:6: encryption.scope: found \"block\"; allowed: \"record\" beside compatibility = \"kinesisencryption\"",
        ),
        (
            format!("scope = 'record'\nwrapping_key_file = '/k'\n{kinesis}{compatible}"),
            "f:7: encryption.wrapping_key_file: found a wrapping key; allowed: kms_key, since that reader asks KMS, beside compatibility = \"kinesisencryption\"",
        ),
    ] {
        assert_eq!(parsed(&rest).unwrap_err(), [expected], "{rest}");
    }
}

/// A message has room for 65,535 bytes, and the pairs that are added are in it.
#[test]
fn the_context_has_what_suite_and_scope_leave_to_it() {
    let context = |bytes: usize| {
        format!(
            "kms_key = 'alias/a'\ncontext.app = '{}'\n",
            "x".repeat(bytes - 9)
        )
    };
    for (rest, added, suite, scope) in [
        ("scope = 'record'", 0, "0478", "record"),
        ("scope = 'record'\nsuite = '0578'", 93, "0578", "record"),
        ("scope = 'record'\nsuite = '0378'", 93, "0378", "record"),
        ("scope = 'block'", 20, "0478", "block"),
        ("preset = 'compact'\nsuite = '0578'", 118, "0578", "block"),
    ] {
        let allowed = 65_535 - added;
        let whole = |bytes: usize| parsed(&format!("{}{rest}", context(bytes)));
        assert!(whole(allowed).is_ok(), "{rest}");
        let mut expected = format!(
            "f:7: encryption.context: found {} bytes; allowed: up to {allowed} bytes with their lengths",
            allowed + 1
        );
        if added > 0 {
            expected += &format!(", beside what suite = \"{suite}\" and scope = \"{scope}\" add");
        }
        assert_eq!(whole(allowed + 1).unwrap_err(), [expected], "{rest}");
    }
    let off = "scope = 'off'\ncontext.app = 'x'\n[[stream]]\nname = 's'\nencryption.scope = 'off'";
    assert!(parsed(off).is_ok());
}

#[test]
fn nothing_is_said_about_encryption_beside_off() {
    let stream = "[[stream]]\nname = 's'\n[stream.encryption]\nscope = 'off'\n";
    let above = "scope = 'record'\nkms_key = 'alias/a'\n";
    for key in [
        "preset = 'compact'",
        "kms_key = 'alias/a'",
        "wrapping_key_file = '/k'",
        "suite = '0578'",
        "encoding = 'base64'",
        "frame_length = 4096",
    ] {
        let name = key.split(' ').next().unwrap();
        let words = "found beside scope = \"off\", which encrypts nothing; allowed: with scope = \"record\" or \"block\"";
        let top = parsed(&format!("scope = 'off'\n{key}")).unwrap_err();
        assert_eq!(top, [format!("f:7: encryption.{name}: {words}")]);
        let own = parsed(&format!("{above}{stream}{key}")).unwrap_err();
        assert_eq!(own, [format!("f:12: stream.encryption.{name}: {words}")]);
        // Said for all, and one stream is without.
        let inherited = match name {
            "kms_key" | "wrapping_key_file" => format!("scope = 'record'\n{key}\n"),
            "preset" => format!("kms_key = 'alias/a'\n{key}\n"),
            _ => format!("{above}{key}\n"),
        };
        assert_eq!(
            good(&format!("{inherited}{stream}")).scope,
            Scope::Off,
            "{key}"
        );
    }
}

#[test]
fn a_stream_may_leave_the_block_keys_above_unused() {
    let stream = "[[stream]]\nname = 's'\n[stream.encryption]\n";
    let above = "preset = 'compact'\nkms_key = 'alias/a'\nblock = { level = 9, linger = '1s' }\n";
    let record = good(&format!("{above}{stream}scope = 'record'"));
    assert!(matches!(record.scope, Scope::Record(_)));
    let plain = block(&format!("{above}{stream}block.compression = 'none'"));
    assert_eq!(plain.packing, Packing::Kpl);
    let own = block(&format!(
        "preset = 'compact'\nkms_key = 'alias/a'\n{stream}block.level = 3"
    ));
    assert_eq!(own.packing, Packing::KplZstd { level: 3 });
}

#[test]
fn all_mistakes_of_the_table_are_told_at_once() {
    let text = "scope = 'block'\nkms_key = []\nsuite = 'x'\nframe_length = 7\nencoding = 'x'\nbackend = 'x'\n\
                compatibility = 'x'\npreset = 'x'";
    assert_eq!(parsed(text).unwrap_err().len(), 7);
}
