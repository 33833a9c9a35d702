//! Linux as owned values: the only crate with unsafe

pub mod epoll;
pub mod failpoint;
pub mod inherit;
pub mod memory;
pub mod pidfd;
pub mod pipe;
pub mod pty;
pub mod root;
pub mod signal;
pub mod socket;
pub mod time;
pub mod xattr;
pub mod error;
pub mod mount;
mod overlay;
pub mod process;
pub mod bpf;
pub mod cgroup;
pub mod namespace;
pub mod link;
pub mod capability;
pub mod rlimit;
pub mod seccomp;
pub mod reaper;
