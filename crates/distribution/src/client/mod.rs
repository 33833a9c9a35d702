//! The client's end of the OCI distribution spec 1.1 and of Docker Registry v2.
//!
//! A [`Client`] holds what is shared between transfers: connections, tokens, what is known of hosts. A [`Repository`] is
//! one repository through it, with somebody's credentials. Bytes come as a [`BlobStream`] and are taken from a
//! [`Source`]; nothing is stored here, and all that a registry says is bounded before it is believed.
//!
//! ```text
//! Repository ── resolve, manifest, blob, push_blob, …    what the spec calls endpoints
//!     └ session     authorised requests, mirrors and fallbacks, attempts
//!         └ exchange     one request: redirects, timeouts
//!             └ pool ── connect ── resolve, proxy, tls     one connection
//! ```

mod config;
mod credentials;
mod error;
mod repository;

pub use config::{Config, NameFiles, Patience, Proxies};
pub use credentials::Credentials;
pub use error::{ContentError, Error, ErrorCode, Kind, Refusal, TransportError};
pub use repository::{
    BlobEvent, BlobStream, Client, Document, Login, Manifests, Pushed, Repository, Source, Target, Upload,
};
