//! Builds through the classic API, with the client of today told to use it: words and images as dockerd's own builder
//! makes them, what the cache spares, what is left behind.
//!
//! `WHARF_TEST_BUILDKIT=unix:///…` names a dockerd whose BuildKit builds the Dockerfiles of `conformance` too; the images
//! are compared file by file.

#![allow(unreachable_pub, reason = "a test program with modules of its own")]

mod build {
    pub mod conformance;
    pub mod context;
    pub mod keeping;
    pub mod sources;
    pub mod steps;
}
