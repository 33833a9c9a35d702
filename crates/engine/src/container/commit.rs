//! An image from a container.
