use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;

/// Nothing but what is wrong with it.
#[derive(Default)]
struct Ailing(Mutex<Vec<String>>);

impl Subject for Ailing {
    fn views(&self) -> Vec<View> {
        Vec::new()
    }

    fn ailments(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn expose(&self, text: &mut Exposition) {
        text.sample("own", &[], 1);
    }
}

/// What is said to a request, to the end of the connection.
async fn said(mut to: impl Connection, request: &str) -> String {
    to.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    to.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn tcp(subject: Arc<Ailing>) -> (SocketAddr, JoinSet<()>) {
    let admin = Admin::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let Listener::Tcp(listener) = &admin.0 else {
        panic!("asked for TCP");
    };
    let at = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(admin.serve(subject));
    (at, serving)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

#[tokio::test]
async fn health_is_red_while_something_is_wrong_and_says_what() {
    let subject = Arc::new(Ailing::default());
    let (at, _serving) = tcp(Arc::clone(&subject)).await;
    let ask = async |path| said(TcpStream::connect(at).await.unwrap(), &get(path)).await;
    assert!(ask("/healthz").await.starts_with("HTTP/1.1 200 "));
    subject
        .0
        .lock()
        .unwrap()
        .push("the checkpoint stands still".into());
    for path in ["/healthz", "/readyz"] {
        let answer = ask(path).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nthe checkpoint stands still\n"),
            "{answer}"
        );
    }
    let metrics = ask("/metrics").await;
    assert!(
        metrics.contains("content-type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    assert!(metrics.contains("kinseal_build_info{version=") && metrics.contains("\nown 1\n"));
    assert!(ask("/status").await.contains("\"ailments\": ["));
}

#[tokio::test]
async fn nothing_but_what_there_is_can_be_read_and_nothing_be_done() {
    let (at, _serving) = tcp(Arc::default()).await;
    let ask = async |request: &str| said(TcpStream::connect(at).await.unwrap(), request).await;
    assert!(ask(&get("/etc/passwd")).await.starts_with("HTTP/1.1 404 "));
    let posted = ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("allow: GET, HEAD"));
    let head = ask("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    assert!(ask("\u{1}\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_does_not_keep_others_out_for_long() {
    let (at, _serving) = tcp(Arc::default()).await;
    let mut silent = Vec::new();
    for _ in 0..2 * MOST_CLIENTS {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let asked = get("/healthz");
    let answer = said(TcpStream::connect(at).await.unwrap(), &asked);
    let answer = tokio::time::timeout(8 * HEAD, answer)
        .await
        .expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn it_listens_on_a_path_too_and_takes_away_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let admin = Admin::bind(&Listen::Unix(path.clone())).await.unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(admin.serve(Arc::new(Ailing::default())));
    let answer = said(UnixStream::connect(&path).await.unwrap(), &get("/healthz")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let again = Admin::bind(&Listen::Unix(path.clone())).await.unwrap_err();
    assert!(again.to_string().contains("in use"), "{again}");
    serving.shutdown().await;
    assert!(!path.exists());
}

#[test]
fn where_to_listen_is_an_address_with_a_port_or_a_path() {
    for text in ["127.0.0.1:9465", "[::1]:0", "/run/kinseal/admin.sock"] {
        assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "9465",
        "localhost:9465",
        "127.0.0.1",
        "admin.sock",
        "127.0.0.1:99999",
    ] {
        assert!(text.parse::<Listen>().is_err(), "{text}");
    }
}
