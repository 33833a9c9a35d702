//! Processes that join a running container.
