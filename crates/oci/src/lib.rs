//! OCI data without I/O: digests, references, images, the runtime spec.

pub mod digest;
pub mod image;
pub mod platform;
pub mod reference;
pub mod runtime;
pub mod seccomp;

pub use digest::{ChainId, DiffId, Digest, DigestError, Hasher};
pub use image::{Config, Descriptor, History, ImageConfig, Index, Manifest, RootFs};
pub use platform::Platform;
pub use reference::{Reference, ReferenceError};
