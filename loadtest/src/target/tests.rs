use super::bill::Sent;
use super::*;
use crate::scenario::Scenario;

const NEAR: &str = "http://127.0.0.1:4567";

fn args(endpoint: Option<&str>) -> Args {
    Args {
        stream: Some("s".to_owned()),
        endpoint: endpoint.map(str::to_owned),
        kms_endpoint: endpoint.map(str::to_owned),
        kms_key: Some("alias/k".to_owned()),
        yes_this_costs_money: false,
    }
}

fn asked(args: &Args, scenario: &Scenario) -> Result<(Target, Vec<Case>), Refusal> {
    args.target(scenario.cases(None), &Prices::load(None).unwrap())
}

fn of(text: &str) -> Scenario {
    Scenario::parse("s", text).unwrap()
}

#[test]
fn only_a_host_that_is_surely_this_machine_costs_nothing() {
    for url in [
        NEAR,
        "http://127.8.9.1",
        "https://localhost:4567/",
        "http://LOCALHOST",
        "http://[::1]:4567",
        "http://user@127.0.0.1/path",
    ] {
        assert!(is_loopback(url), "{url}");
    }
    for url in [
        "https://kinesis.eu-west-1.amazonaws.com",
        "http://127.0.0.1@example.com",
        "http://127.0.0.1:80@example.com/",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://example.com/127.0.0.1",
        "http://example.com?@127.0.0.1",
        "http://example.com\\@127.0.0.1",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://[::2]",
        "",
    ] {
        assert!(!is_loopback(url), "{url}");
    }
}

#[test]
fn a_stream_that_is_not_on_this_machine_has_to_be_meant() {
    for far in [None, Some("https://kinesis.example.com")] {
        let mut args = args(far);
        let refusal = asked(&args, &Scenario::quick()).unwrap_err().to_string();
        for told in ["costs money", "PUT payload units", "--yes-this-costs-money"] {
            assert!(refusal.contains(told), "{refusal}");
        }
        args.yes_this_costs_money = true;
        let (target, _) = asked(&args, &Scenario::quick()).unwrap();
        assert!(matches!(target, Target::Named(place) if !place.is_stand_in));
    }
    assert!(asked(&args(Some(NEAR)), &Scenario::quick()).is_ok());
}

#[test]
fn a_kms_that_is_not_on_this_machine_has_to_be_meant_where_something_is_encrypted() {
    let args = Args {
        kms_endpoint: None,
        ..args(Some(NEAR))
    };
    assert!(asked(&args, &Scenario::smoke()).is_err());
    let clear = of("encryption = ['off']\nline_bytes = [200]\nlines = 1");
    assert!(asked(&args, &clear).is_ok());
}

#[test]
fn what_a_named_stream_cannot_do_is_refused_and_what_it_has_of_its_own_is_left_out() {
    let run = "encryption = ['off']\nline_bytes = [200]\nlines = 1\n";
    for more in ["shards = [4]", "failing_percent = [1]"] {
        let refusal = asked(&args(Some(NEAR)), &of(&format!("{run}{more}")));
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains("a stand-in's"), "{refusal}");
    }
    let slow = format!(
        "{run}kms_latency = '1s'\nsink_latency = '1s'\nread_back = true\nfailing_percent = [0]"
    );
    let (_, cases) = asked(&args(Some(NEAR)), &of(&slow)).unwrap();
    let [case] = &cases[..] else {
        panic!("{cases:?}");
    };
    let left = (case.kms_ms, case.sink_ms, case.read_back, case.failing);
    assert_eq!(left, (0, 0, false, None));

    let args = Args {
        kms_key: None,
        ..args(Some(NEAR))
    };
    let refusal = asked(&args, &Scenario::smoke()).unwrap_err().to_string();
    assert!(refusal.contains("--kms-key"), "{refusal}");
}

#[test]
fn a_bill_has_units_as_full_as_entries_are() {
    let units = |text: &str| {
        let text = format!("encryption = ['off']\nline_bytes = [200]\n{text}");
        let [case] = &of(&text).cases(None)[..] else {
            panic!("{text}");
        };
        Sent::by(case).units
    };
    // Each is a unit of its own, unless it shares one: 200 bytes and what is around them, 237 in 51,200 bytes, 3 units.
    assert_eq!(units("lines = 1000\naggregation = [false]"), 1000);
    assert_eq!(units("lines = 1000"), 15);
    // As many as come in 100 ms.
    assert_eq!(units("lines = 1000\nrate = [100]"), 100);
    assert_eq!(units("lines = 1000\nrate = [100]\nlinger = ['0s']"), 1000);
}

#[test]
fn a_connection_is_made_where_a_url_says() {
    for (url, expected) in [
        (NEAR, Some(("127.0.0.1", 4567))),
        (
            "https://kms.example.com/path",
            Some(("kms.example.com", 443)),
        ),
        ("http://user@[::1]/", Some(("::1", 80))),
        ("http://host:x", None),
        ("http://", None),
    ] {
        assert_eq!(address(url), expected, "{url}");
    }
}

#[test]
fn a_stream_that_does_not_answer_is_found_before_anything_runs() {
    // A port that nobody is given: another one may be somebody's a moment after it was found free.
    let place = Place {
        kinesis_url: Some("http://127.0.0.1:1".to_owned()),
        ..Place::nowhere()
    };
    let target = Target::Named(place);
    let why = target.check(&Scenario::smoke().cases(None)).unwrap_err();
    let why = format!("{why:#}");
    assert!(why.contains("cannot list its shards"), "{why}");
    assert!(why.contains("127.0.0.1:1,"), "{why}");
}
