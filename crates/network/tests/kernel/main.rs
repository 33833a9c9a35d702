//! The kernel plane with real kernels: every test has a host of its own (a network namespace) with containers,
//! a remote host and a router around it (namespaces too). The machine's own network is never touched.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "measurements and skipped tests are told")]

mod world;

mod attach;
mod host_firewall;
mod isolation;
mod limits;
mod ports;
mod speed;
mod survival;
