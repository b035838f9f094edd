use super::*;

fn any_port() -> LocalArgs {
    LocalArgs {
        port: 0,
        kms_port: None,
        streams: Vec::new(),
        kms_key: Vec::new(),
        tls: false,
        strict: false,
        faults: None,
    }
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_option() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let args = LocalArgs {
        kms_port: Some(port),
        ..any_port()
    };
    let error = args.start().await.unwrap_err().to_string();
    let expected = format!(
        "port {port} of 127.0.0.1 is in use; end what listens there, or give another: --kms-port "
    );
    assert!(error.starts_with(&expected), "{error}");
    let args = LocalArgs { port, ..any_port() };
    let error = args.start().await.unwrap_err().to_string();
    assert!(error.contains("or give another: --port "), "{error}");
}

#[tokio::test]
async fn without_options_there_is_a_stream_and_a_key() {
    let args = any_port();
    let fake = args.start().await.unwrap();
    let reach = args.furnish(&fake).unwrap();
    assert_eq!(reach.streams, [("shop-logs".to_owned(), 4)]);
    assert_eq!(reach.keys[0].0, "alias/shop");
    assert_eq!(reach.kms_url, reach.kinesis_url);
    assert!(CaFile::of(&fake).unwrap().is_none());
    assert!(fake.records("shop-logs").unwrap().is_empty());
}

#[tokio::test]
async fn a_stream_given_twice_is_refused_by_its_option() {
    let shop = (StreamName::new("shop").unwrap(), 1);
    let args = LocalArgs {
        streams: vec![shop.clone(), shop],
        ..any_port()
    };
    let fake = args.start().await.unwrap();
    let error = args.furnish(&fake).unwrap_err().to_string();
    assert!(error.starts_with("--stream shop:1: "), "{error}");
}

#[tokio::test]
async fn the_certificate_lies_in_a_file_while_the_stand_ins_run() {
    let args = LocalArgs {
        tls: true,
        ..any_port()
    };
    let fake = args.start().await.unwrap();
    let ca = CaFile::of(&fake).unwrap().unwrap();
    let path = ca.path.clone();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        fake.ca_pem().unwrap()
    );
    drop(ca);
    assert!(!path.exists());
}

#[test]
fn mistakes_of_a_faults_file_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("faults.toml");
    std::fs::write(&path, "[[rule]]\ndo = \"explode\"\n").unwrap();
    let error = faults(&path).unwrap_err().to_string();
    assert!(error.contains("faults.toml: line 2"), "{error}");
    let error = format!("{:#}", faults(Path::new("/no/such")).unwrap_err());
    assert!(error.starts_with("--faults /no/such: "), "{error}");
}

#[test]
fn an_alias_is_asked_for_as_one() {
    assert_eq!(alias("alias/a").as_deref(), Ok("alias/a"));
    assert!(alias("a").is_err());
    assert!(alias("1234abcd-12ab-34cd-56ef-1234567890ab").is_err());
}

#[test]
fn refusals_are_only_told_where_there_were_some() {
    let mut counters = Counters::default();
    let quiet = Answered(&counters).to_string();
    assert!(!quiet.contains("refused"), "{quiet}");
    counters.throttled_entries = 3;
    let told = Answered(&counters).to_string();
    assert!(
        told.ends_with("refused 3 entries, faults in 0 calls, 0 bad signatures"),
        "{told}"
    );
}
