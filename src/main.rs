//! `wharf`: one binary, one role per call.
fn main() {}
