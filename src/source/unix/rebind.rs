//! A socket whose file somebody has removed: nobody finds it any more, until it is bound again.

use std::time::Duration;

use rustix::net::SocketType;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::bind::{Bound, SocketFile, bind};
use super::{Access, Address};

/// How often the file is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// What a socket was bound with, to do it again.
#[derive(Debug)]
pub(super) struct Rebinding {
    address: Address,
    kind: SocketType,
    access: Option<Access>,
    look: Interval,
    /// It was said that it cannot be.
    is_failing: bool,
}

impl Rebinding {
    /// Inside a runtime.
    pub(super) fn new(address: &Address, kind: SocketType, access: Option<&Access>) -> Self {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            address: address.clone(),
            kind,
            access: access.cloned(),
            look,
            is_failing: false,
        }
    }

    /// When [`again`](Self::again) is to be asked. Cancel safe.
    pub(super) async fn is_due(&mut self) {
        self.look.tick().await;
    }

    /// A new socket, where the `file` of the old one has gone, and the address is free. One that listens, if it is of
    /// that kind.
    pub(super) async fn again(&mut self, file: Option<&SocketFile>) -> Option<Bound> {
        // Without a file it is systemd's, or has an abstract name.
        if !file?.is_gone() {
            return None;
        }
        let (address, kind, access) = (self.address.clone(), self.kind, self.access.clone());
        // Users and groups are looked up.
        let binding = tokio::task::spawn_blocking(move || bind(&address, kind, access.as_ref()));
        match binding.await.expect("binding does not panic") {
            Ok(bound) => {
                self.is_failing = false;
                tracing::warn!(
                    path = %self.address,
                    "somebody removed the file of this socket: it is made again; clients that are connected go on"
                );
                Some(bound)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        path = %self.address, %error,
                        "somebody removed the file of this socket, and it cannot be made again; it is tried every 2 s, and \
                         nobody can connect meanwhile"
                    );
                }
                None
            }
        }
    }
}
