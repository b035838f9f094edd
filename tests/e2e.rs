//! The end-to-end tests: one binary, a module for each theme. `cargo xtask e2e` runs them.
//!
//! They drive the program as its users do, as a process with a configuration file and signals, against servers
//! on free ports of loopback, and read back what it stored.

mod support;

mod acknowledged;
mod admin;
mod auto;
mod checkpoint;
mod cli;
mod consume;
mod consume_options;
mod crash;
mod daemon;
mod daemon_file;
mod daemon_network;
mod daemon_process;
mod daemon_streams;
mod daemon_waits;
mod deadletter;
mod delivery;
mod eio;
mod fan_out;
mod hour;
mod interop;
mod keys;
mod kills;
mod layering;
mod limits;
mod many;
mod matrix;
mod memory;
mod multilang;
mod outage;
mod quota;
mod reading;
mod rotation;
mod secrecy;
mod shape;
mod socket;
mod spool;
mod suites;
mod tailing;
mod verification;
