use proptest::prelude::*;

use super::*;

/// A whole `Message`, as clients have it on the daemon's command line.
fn configured(hex: &str) -> Checked<Configuration> {
    let bytes = crate::hex::from_hex(hex.as_bytes()).expect("hex");
    let request =
        crate::daemon::message::Request::decode(bytes.to_vec().into()).expect("a message");
    let crate::daemon::message::Request::Configuration(bytes) = request else {
        panic!("another message: {request:?}");
    };
    Configuration::decode(bytes)
}

/// As KPL 1.0.7's own client was seen to send it, with most at its default.
const USUAL: &str = "0800329B01080110FFFFFFFF0F1880900322093132372E302E302E3128D72330F403388080C00240F02E50005A\
                     093132372E302E302E3160D7236A04696E666F70187A0573686172648201046E6F6E658A01164B696E6573697350\
                     726F64756365724C6962726172799001E0D403980101A0019601A80164B001B0EA01BA010975732D656173742D31\
                     C001F02EC80100D20100D801BB03E20100EA0100F00100";
/// With all of it set.
const FULL: &str = "080032CB01080110FFFFFFFF0F1880900322093132372E302E302E3128D72330F403388080C00240F02E480050005A\
                    093132372E302E302E3160D7236A04696E666F70187A05736861726482010864657461696C65648A01164B696E\
                    6573697350726F64756365724C6962726172799001E0D403980101A0019601A80164B001B0EA01BA010975732D\
                    656173742D31C001F02EC80100D2010B70726F78792E6C6F63616CD801B818E2010175EA010170F00101F80180\
                    018208160A08486F73744E616D65120268311A0673747265616D";

fn stand_in() -> Option<Endpoint> {
    Some(Endpoint {
        host: "127.0.0.1".into(),
        port: 4567,
    })
}

#[test]
fn what_the_kpls_own_client_sends_is_understood() {
    let usual = configured(USUAL).unwrap();
    let expected = Configuration {
        cloudwatch_endpoint: stand_in(),
        kinesis_endpoint: stand_in(),
        metrics_level: Level::None,
        region: Some("us-east-1".into()),
        verify_certificate: false,
        ..Configuration::default()
    };
    assert_eq!(usual, expected);

    let full = configured(FULL).unwrap();
    let expected = Configuration {
        core_dumps: Some(false),
        ignored: vec!["threadingModel", "threadPoolSize"],
        metrics_level: Level::Detailed,
        proxy: Some(Proxy {
            host: "proxy.local".into(),
            port: 3128,
            user: Some(("u".into(), "p".into())),
        }),
        dimensions: vec![AdditionalDimension {
            key: "HostName".into(),
            value: "h1".into(),
            granularity: Granularity::Stream,
        }],
        ..usual
    };
    assert_eq!(full, expected);
    assert!(!format!("{full:?}").contains("\"p\""));
}

/// Its fields 32 and 33 are a text and a number, in newer clients a number and a text.
#[test]
fn either_type_of_the_two_fields_that_changed_theirs_is_understood() {
    let old = USUAL.replacen("0800329B01", "080032A201", 1) + "8202008802BB03";
    assert_eq!(configured(&old), configured(USUAL));
    // 300,000 ms, and `AUTO`.
    let new = USUAL.replacen("0800329B01", "080032A701", 1) + "8002E0A7128A02044155544F";
    let expected = Configuration {
        is_newest: true,
        ignored: vec!["recordDistributionStrategyDefault"],
        ..configured(USUAL).unwrap()
    };
    assert_eq!(configured(&new).unwrap(), expected);
}

/// Each is named in the log.
#[test]
fn what_is_said_and_has_no_effect_is_known_by_its_name() {
    let wire = Fields {
        min_connections: Some(2),
        thread_config: Some(1),
        thread_pool_size: Some(128),
        ..Fields::default()
    };
    let newest = LastFields::Strategies {
        describe_interval: 60_000,
        default: "AUTO",
    };
    let configuration = Configuration::decode(wire.encode_with(newest)).unwrap();
    assert_eq!(
        configuration.ignored,
        [
            "minConnections",
            "threadingModel",
            "threadPoolSize",
            "describeStreamSummaryInterval",
            "recordDistributionStrategyDefault",
        ]
    );
}

#[test]
fn defaults_are_the_kpls() {
    let defaults = Configuration::default();
    assert_eq!(defaults.record_ttl, Duration::from_secs(30));
    assert_eq!(
        defaults.record_max_buffered_time,
        Duration::from_millis(100)
    );
    assert_eq!((defaults.rate_limit, defaults.max_connections), (150, 24));
    assert_eq!(defaults.metrics_namespace, "KinesisProducerLibrary");
    assert!(defaults.verify_certificate && defaults.aggregation_enabled);
    assert!(!defaults.is_newest && !defaults.fail_if_throttled);
}

fn refused(change: impl FnOnce(&mut Fields)) -> String {
    let mut wire = Fields::default();
    change(&mut wire);
    let decoded = Configuration::decode(wire.encode_with(LastFields::None));
    decoded.expect_err("it is out of range").to_string()
}

#[test]
fn a_value_out_of_range_is_refused_by_its_name() {
    assert_eq!(
        refused(|wire| wire.record_ttl = Some(99)),
        "recordTtl is 99, allowed is 100 to 9223372036854775807"
    );
    assert!(
        refused(|wire| wire.collection_max_count = Some(501)).starts_with("collectionMaxCount")
    );
    assert!(refused(|wire| wire.collection_max_size = Some(52_223)).contains("52224"));
    assert!(refused(|wire| wire.kinesis_port = Some(65_536)).starts_with("kinesisPort"));
    assert!(refused(|wire| wire.kinesis_endpoint = Some("https://k".into())).contains("scheme"));
    assert!(refused(|wire| wire.region = Some("useast1".into())).contains("us-east-1"));
    assert!(refused(|wire| wire.metrics_level = Some("all".into())).contains("summary"));
    assert!(refused(|wire| wire.metrics_namespace = Some("AWS/Kinesis".into())).contains("AWS/"));
    assert!(refused(|wire| wire.log_level = Some("loud".into())).starts_with("logLevel"));
    assert!(refused(|wire| wire.min_connections = Some(17)).starts_with("minConnections"));
}

#[test]
fn a_time_to_live_without_end_does_not_overflow() {
    let wire = Fields {
        record_ttl: Some(i64::MAX as u64),
        ..Fields::default()
    };
    let configuration = Configuration::decode(wire.encode_with(LastFields::None)).unwrap();
    let ends = std::time::Instant::now().checked_add(configuration.record_ttl);
    assert!(ends.is_some_and(|ends| ends.elapsed().is_zero()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = Configuration::decode(bytes.into());
    }
}
