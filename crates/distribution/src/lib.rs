//! Both ends of the OCI distribution spec: a client and a registry server.

pub mod client;

pub mod server;
