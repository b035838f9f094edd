//! Whom the KPL's daemon calls, and by which way: certificates and a proxy, as the client configures them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use kinseal::fake::Fake;

use crate::support::agent::STREAM;
use crate::support::kpl::{Setup, USUAL, code, expect_stored};
use crate::support::lines::line;
use crate::support::servers::{Endpoints, StandIn};

#[test]
fn over_tls_only_who_is_trusted_is_called_unless_the_client_says_not_to_verify() {
    let site = StandIn::built(Fake::builder().strict(true).tls(true));
    site.fake.create_stream(STREAM, 1).expect("new");
    let port = u64::from(site.fake.kinesis_addr().port());
    let nobody = Endpoints {
        kinesis: String::new(),
        kms: String::new(),
    };
    let over_tls = |verify: bool| {
        let mut setup = Setup::new(&nobody, USUAL);
        setup.fields.kinesis_endpoint = Some("localhost".to_owned());
        setup.fields.kinesis_port = Some(port);
        setup.fields.verify_certificate = Some(verify);
        setup.fields.record_ttl = Some(3000);
        setup
    };
    let mut believing = over_tls(false).start();
    believing.put(1, STREAM, "k", line(1));
    expect_stored(believing.results(1).into_values());

    let mut trusting = over_tls(true);
    let certificates = trusting.path().join("cacerts");
    fs::create_dir(&certificates).expect("new");
    let pem = site.fake.ca_pem().expect("over TLS");
    fs::write(certificates.join("b204d74a.0"), pem).expect("room for it");
    fs::write(certificates.join("cacerts.lock"), "").expect("room for it");
    trusting.env("CA_DIR", &certificates.display().to_string());
    trusting.env("CA_FILE", "");
    let mut trusting = trusting.start();
    trusting.put(1, STREAM, "k", line(1));
    expect_stored(trusting.results(1).into_values());

    // One that TLS cannot use stops nothing, and connections are kept: three calls need no three handshakes.
    let mut keeping = over_tls(true);
    let certificates = keeping.path().join("cacerts");
    fs::create_dir(&certificates).expect("new");
    fs::write(certificates.join("a.0"), pem).expect("room for it");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(certificates.join("b.0"), broken).expect("room for it");
    keeping.env("CA_DIR", &certificates.display().to_string());
    let mut keeping = keeping.start();
    for id in 1..=3 {
        keeping.put(id, STREAM, "k", line(id));
        keeping.results(id as usize);
    }
    let connected = connections_of(keeping.daemon.id());
    assert!(
        (1..=2).contains(&connected),
        "{connected} connections are kept"
    );

    let mut wary = over_tls(true).start();
    wary.put(1, STREAM, "k", line(1));
    assert_eq!(code(&wary.results(1)[&1]), "Expired");
}

#[test]
fn through_a_proxy_calls_go_as_the_client_says_with_its_user_and_password() {
    let site = StandIn::built(Fake::builder().strict(true).tls(true));
    site.fake.create_stream(STREAM, 1).expect("new");
    let port = site.fake.kinesis_addr().port();
    let nobody = Endpoints {
        kinesis: String::new(),
        kms: String::new(),
    };
    let pem = site.fake.ca_pem().expect("over TLS");
    let through = |proxy: &Proxy, password: &str| {
        let mut setup = Setup::new(&nobody, USUAL);
        setup.fields.kinesis_endpoint = Some("localhost".to_owned());
        setup.fields.kinesis_port = Some(u64::from(port));
        setup.fields.record_ttl = Some(5000);
        setup.fields.proxy_host = Some("127.0.0.1".to_owned());
        setup.fields.proxy_port = Some(u64::from(proxy.port));
        setup.fields.proxy_user_name = Some("user".to_owned());
        setup.fields.proxy_password = Some(password.to_owned());
        let file = setup.path().join("ca.pem");
        fs::write(&file, pem).expect("room for it");
        setup.env("CA_FILE", &file.display().to_string());
        setup.start()
    };
    // "user:secret".
    let proxy = Proxy::start("Basic dXNlcjpzZWNyZXQ=");
    let mut client = through(&proxy, "secret");
    client.put(1, STREAM, "k", line(1));
    expect_stored(client.results(1).into_values());
    let asked = proxy.asked.lock().expect("no panic").clone();
    let expected = format!("CONNECT localhost:{port} HTTP/1.1");
    assert!(
        !asked.is_empty() && asked.iter().all(|asked| *asked == expected),
        "{asked:?}"
    );

    let mut stranger = through(&proxy, "guessed");
    stranger.put(1, STREAM, "k", line(1));
    assert_eq!(code(&stranger.results(1)[&1]), "Expired");
}

/// Connects who has the right, and is told to whom.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(authorization: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&asked);
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || serve(client, authorization, &heard));
            }
        });
        Self { port, asked }
    }
}

fn serve(client: TcpStream, authorization: &str, heard: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let has_right = head.iter().any(|line| {
        let field = line.split_once(':');
        field.is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("proxy-authorization") && value.trim() == authorization
        })
    });
    let mut client = client;
    if !has_right {
        let no = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        return client.write_all(no).ok();
    }
    let request = head.first()?;
    heard.lock().expect("no panic").push(request.clone());
    let to = request.split(' ').nth(1)?;
    let server = TcpStream::connect(to).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (from_server, to_client) = (server.try_clone().ok()?, client);
    let back = std::thread::spawn(move || pass_on(from_server, to_client));
    pass_on(reader, server);
    back.join().ok()
}

fn pass_on(mut from: impl Read, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Established by a process, over TCP.
fn connections_of(process: u32) -> usize {
    let links = fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
    let sockets: Vec<String> = links
        .filter_map(|link| {
            fs::read_link(link.ok()?.path())
                .ok()?
                .to_str()
                .map(str::to_owned)
        })
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let established = table.lines().skip(1).filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 01: ESTABLISHED.
        fields[3] == "01" && sockets.iter().any(|socket| socket == fields[9])
    });
    established.count()
}
