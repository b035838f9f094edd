//! What an operator's tools ask a running process, over HTTP: how it is, and what it has done.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | all figures, as Prometheus reads them |
//! | `/healthz` | 200, or 503 and what is wrong with the process itself; an outage of a service is not that |
//! | `/readyz` | 200 while every stream takes records, or 503 and what is in the way |
//! | `/status` | the figures of `/metrics`, as JSON |
//!
//! It can be read and nothing else: nothing that is asked changes anything. Whoever reaches it sees the names of streams, and no
//! record. There is one connection for each request, at most [`MOST_CLIENTS`] at once, and none of them for long, so
//! that whoever holds one open costs a descriptor for seconds.

mod pages;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::pages::Page;
use crate::metrics::prometheus::Exposition;
use crate::pipeline::View;
use crate::source::unix::{Address, BindError, Door};

/// Connections at once; more of them wait.
pub const MOST_CLIENTS: usize = 16;
/// For a request's head; the whole of a connection has twice that.
const HEAD: Duration = Duration::from_secs(5);
/// Accepting failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Where it listens: `listen` of the `[admin]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    /// Absolute.
    Unix(PathBuf),
}

impl FromStr for Listen {
    /// What is allowed.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with('/') && !text.contains('\0') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            "an address and a port, like \"127.0.0.1:9465\", or the path of a socket, like \"/run/kinseal/admin.sock\""
                .to_owned()
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why it cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error(
        "admin.listen = \"{address}\": {source}; give another address, or another port: 0 takes a free one, which the log tells"
    )]
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("admin.listen: {0}")]
    Unix(#[from] BindError),
}

/// What there is to see. Asked for each request.
pub trait Subject: Send + Sync + 'static {
    fn views(&self) -> Vec<View>;

    /// What is wrong with the process itself.
    fn ailments(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why nothing new is taken at all.
    fn unready(&self) -> Option<&'static str> {
        None
    }

    /// Metrics of its own.
    fn expose(&self, _text: &mut Exposition) {}
}

/// Listens, and answers nobody yet.
#[derive(Debug)]
pub struct Admin(Listener);

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(Door),
}

trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Admin {
    pub async fn bind(listen: &Listen) -> Result<Self, AdminError> {
        let listener = match listen {
            Listen::Tcp(address) => {
                let bound = TcpListener::bind(address).await;
                let address = *address;
                let listener = bound.map_err(|source| AdminError::Tcp { address, source })?;
                let at = listener.local_addr().unwrap_or(address);
                tracing::info!(
                    "metrics and health at http://{at}/metrics, /healthz, /readyz, /status"
                );
                Listener::Tcp(listener)
            }
            Listen::Unix(path) => {
                let door = Door::open(&Address::File(path.clone()))?;
                tracing::info!(path = %path.display(), "metrics and health at this socket");
                Listener::Unix(door)
            }
        };
        Ok(Self(listener))
    }

    /// For as long as nobody drops it.
    pub async fn serve(self, subject: Arc<dyn Subject>) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = clients.join_next() => {}
                accepted = self.accept(), if clients.len() < MOST_CLIENTS => match accepted {
                    Ok(connection) => {
                        clients.spawn(speak(connection, Arc::clone(&subject)));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot take an admin's connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    async fn accept(&self) -> io::Result<Pin<Box<dyn Connection>>> {
        Ok(match &self.0 {
            Listener::Tcp(listener) => Box::pin(listener.accept().await?.0),
            Listener::Unix(door) => Box::pin(door.accept().await?),
        })
    }
}

async fn speak(connection: Pin<Box<dyn Connection>>, subject: Arc<dyn Subject>) {
    let service = service_fn(|request| {
        let subject = Arc::clone(&subject);
        async move { Ok::<_, Infallible>(answer(&*subject, &request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false);
    // How a client ends its connection is no concern of ours.
    let connection = http.serve_connection(TokioIo::new(connection), service);
    let _ = tokio::time::timeout(2 * HEAD, connection).await;
}

async fn answer(subject: &dyn Subject, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/metrics" => Page::metrics(subject).await,
        "/healthz" => Page::health(subject),
        "/readyz" => Page::readiness(subject),
        "/status" => Page::status(subject).await,
        _ => Page::not_found(),
    };
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = if is_read { page } else { Page::read_only() };
    let mut response = Response::new(Full::new(Bytes::from(page.text)));
    *response.status_mut() = page.status;
    let kind = page.kind.parse().expect("a constant");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    if page.status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = "GET, HEAD".parse().expect("a constant");
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}
