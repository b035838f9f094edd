//! The end-to-end tests: one binary, a module for each theme. `cargo xtask e2e` runs them.

mod layering;
