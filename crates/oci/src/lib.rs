//! OCI data without I/O: digests, references, images, the runtime spec
