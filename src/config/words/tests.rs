use proptest::prelude::*;

use super::*;

#[test]
fn bytes_have_binary_and_decimal_units() {
    for (text, expected) in [
        ("0", 0),
        ("65536", 65_536),
        ("500B", 500),
        ("50KiB", 51_200),
        ("64 MiB", 64 << 20),
        ("1TiB", 1 << 40),
        ("5MB", 5_000_000),
        ("5kB", 5_000),
    ] {
        assert_eq!(bytes(text), Ok(expected), "{text}");
    }
    for bad in [
        "",
        "MiB",
        "-1",
        "1.5MiB",
        "1mib",
        "1Mi",
        "16777216TiB",
        "99999999999999999999",
        " 1",
    ] {
        assert!(bytes(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_time_has_a_unit() {
    for (text, millis) in [
        ("100ms", 100),
        ("0s", 0),
        ("6s", 6_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
        ("7d", 604_800_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for bad in [
        "",
        "100",
        "s",
        "-1s",
        "1.5s",
        "1 week",
        "213503982335d",
        "1m30s",
    ] {
        assert!(duration(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn regions_are_codes() {
    for good in [
        "eu-west-1",
        "us-gov-west-1",
        "ap-southeast-2",
        "eusc-de-east-1",
        "cn-north-1",
    ] {
        assert!(region(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "eu-west",
        "eu-west-1a",
        "eu_west_1",
        "EU-WEST-1",
        "-1",
        "west-1",
        "eu--1",
        "eu-west-",
    ] {
        assert!(region(bad).is_err(), "{bad}");
    }
}

#[test]
fn endpoints_are_urls_with_a_host() {
    for good in [
        "http://127.0.0.1:4567",
        "https://kinesis.eu-west-1.amazonaws.com",
        "http://[::1]:4567/",
        "http://local_stack/kms",
    ] {
        assert!(endpoint_url(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "localhost:4567",
        "ftp://x",
        "http://",
        "http://:80",
        "http://a:0",
        "http://a:65536",
        "http://a:",
        "http://u@h",
        "http://a?b",
        "http://[::1",
        "http://[x]",
        "http://[::1]x",
        "http://a b",
    ] {
        assert!(endpoint_url(bad).is_err(), "{bad}");
    }
}

#[test]
fn keys_are_ids_arns_or_aliases() {
    for good in [
        "alias/shop",
        "1234abcd-12ab-34cd-56ef-1234567890ab",
        "mrk-1234abcd12ab34cd56ef1234567890ab",
        "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-west-1:111122223333:alias/shop/logs",
    ] {
        assert!(kms_key(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "shop",
        "alias/",
        "alias/a b",
        "key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-west-1:1111:alias/shop",
        "arn:aws:kinesis:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "arn:aws:kms:eu-west-1:111122223333:1234abcd-12ab-34cd-56ef-1234567890ab",
        "1234abcd-12ab-34cd-56ef",
        "mrk-1234",
    ] {
        assert!(kms_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn roles_are_arns() {
    assert!(role_arn("arn:aws:iam::111122223333:role/path/kinseal").is_ok());
    for bad in [
        "kinseal",
        "arn:aws:iam::111122223333:user/x",
        "arn:aws:iam::111122223333:role/",
        "arn:aws:sts::111122223333:role/x",
    ] {
        assert!(role_arn(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn bytes_come_back_as_shown(n in prop_oneof![any::<u64>(), (0u64..2000, 0u32..44).prop_map(|(n, s)| n << s)]) {
        prop_assert_eq!(bytes(&show_bytes(n)), Ok(n));
    }

    #[test]
    fn times_come_back_as_shown(ms in prop_oneof![0u64..1 << 50, (0u64..500).prop_map(|d| d * 86_400_000)]) {
        let time = Duration::from_millis(ms);
        prop_assert_eq!(duration(&show_duration(time)), Ok(time));
    }

    #[test]
    fn no_text_makes_a_word_panic(text in "(arn:|http://|mrk-|alias/)?.{0,30}") {
        let _ = (bytes(&text), duration(&text), region(&text), endpoint_url(&text), kms_key(&text));
        let _ = (role_arn(&text), external_id(&text), absolute_path(&text), absolute_glob(&text));
    }
}
