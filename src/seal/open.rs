//! To come in this slice.
