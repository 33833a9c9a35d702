//! What create and update warn about.
