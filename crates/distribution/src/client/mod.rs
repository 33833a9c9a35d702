//! The client's end of the OCI distribution spec 1.1 and of Docker Registry v2.
//!
//! A [`Client`] holds what is shared between transfers: connections, tokens, what is known of hosts. A [`Repository`] is
//! one repository through it, with somebody's credentials. Bytes come as a [`BlobStream`] and are taken from a
//! [`Source`]; nothing is stored here, and all that a registry says is bounded before it is believed.
//!
//! ```text
//! Repository ── resolve, manifest, blob, push_blob, …    what the spec calls endpoints
//!     └ session     which server, with what authorization, how often
//!         └ transport/exchange     one request: redirects, timeouts
//!             └ transport/pool ── connect ── resolve, proxy, tls     one connection
//! ```

mod attempts;
mod blob;
pub mod challenge;

mod config;
mod credentials;
mod document;
mod endpoint;
mod error;
mod fetch;
pub mod link;
mod lists;
mod login;
mod manifest;
mod refusal;
mod repository;
mod session;
mod shared;
mod token;
mod transport;
mod upload;

pub use blob::{BlobEvent, BlobStream};
pub use config::{Config, NameFiles, Patience, Proxies};
pub use credentials::Credentials;
pub use document::{Document, INDEX_LIMIT, LAYER_LIMIT, MANIFEST_LIMIT, Manifests};
pub use error::{ContentError, Error, ErrorCode, Kind, Refusal, TransportError};
pub use fetch::Remote;
pub use login::Login;
pub use repository::{Repository, Target};
pub use shared::Client;
pub use transport::lookup_host;
pub use upload::{OnRetry, Pushed, Source, Upload};
