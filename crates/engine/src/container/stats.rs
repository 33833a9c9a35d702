//! What a container uses.
