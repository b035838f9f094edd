//! What the program says to bad input: one clear message that names the thing and the way out, an exit code,
//! and nothing lost.

mod by_hand;
mod disk;
mod running;
mod start;
mod waiting;
