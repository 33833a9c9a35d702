//! Networks, as documents so far: the three that are always there.
