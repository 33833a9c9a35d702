//! The engine about itself and its host.
