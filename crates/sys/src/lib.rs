//! Linux as owned values: the only crate with unsafe
