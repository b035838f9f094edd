//! Asks a running process how it is, as an operator's tools do.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// The status, and what is answered.
pub(crate) fn ask(socket: &Path, path: &str) -> (u16, String) {
    let mut to = UnixStream::connect(socket).expect("it listens");
    write!(to, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    to.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// A stream's number of that name in `/metrics`.
pub(crate) fn number(socket: &Path, name: &str, stream: &str) -> u64 {
    let (_, metrics) = ask(socket, "/metrics");
    let start = format!("{name}{{stream=\"{stream}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&start));
    let value = value.unwrap_or_else(|| panic!("no {start} in\n{metrics}"));
    value.parse().expect("a whole number")
}
