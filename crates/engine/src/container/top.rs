//! The processes of a container.
