//! Lines over a Unix socket: a source that cannot be read again.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use kinseal::fake::{Action, Entries, Faults, Rule};

use crate::support::agent::{FinalReport, Home, STREAM};
use crate::support::lines::{Arrived, line};
use crate::support::servers::StandIn;

const LINES: u64 = 20_000;

#[test]
fn what_clients_sent_before_the_stop_is_stored() {
    let site = StandIn::start();
    site.endpoints.create_stream(STREAM, 2);
    let key = site.endpoints.create_key();
    let tenth = Rule::new(Action::Throttle(Entries::Percent(10.0))).on("PutRecords");
    site.fake.set_faults(Faults::seeded(3).rule(tenth));
    let encryption = format!("scope = \"record\"\nkms_key = \"{key}\"");
    let home = Home::with_socket(&site.endpoints, &encryption, "");
    let agent = home.start_agent();

    let clients = [1..=LINES / 2, LINES / 2 + 1..=LINES].map(|numbers| {
        let mut client = UnixStream::connect(home.socket()).expect("the agent listens");
        std::thread::spawn(move || {
            for number in numbers {
                // Waits where the agent does not keep up: that is all the back-pressure there is.
                writeln!(client, "{}", line(number)).expect("the agent reads");
            }
            client.shutdown(Shutdown::Write).expect("still connected");
        })
    });
    for client in clients {
        client.join().expect("it wrote everything");
    }
    // What the clients wrote may still lie in the socket.
    FinalReport::of(agent).expect_stored(LINES);
    let arrived = Arrived::of(home.consume(&[]));
    arrived.expect_all(1..=LINES);
    arrived.expect_no_doubles();
    assert!(
        !home.socket().exists(),
        "the next start finds its place free"
    );
}
