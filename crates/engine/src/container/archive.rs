//! Copying into and out of containers.
