//! The words of the KPL's native daemon: what its clients send, and what they wait for.
//!
//! The acknowledged socket (`framing = "kpl"`) speaks them.

pub mod message;
