//! Bytes from a stranger, and what they may cost. A binary of its own, because it counts allocations.
//!
//! The stable counterpart of the fuzz targets: it runs the same functions, with mutations that know the formats.

// What the targets run. Here it lies in a test, and not all of it is used.
#[allow(dead_code, unreachable_pub)]
#[path = "../fuzz/src/lib.rs"]
mod parsers;

#[path = "hostile/mutant.rs"]
mod mutant;
#[path = "hostile/parsing.rs"]
mod parsing;
#[path = "hostile/sealing.rs"]
mod sealing;
