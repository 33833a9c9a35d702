//! Linux as owned values: the only crate with unsafe

pub mod bpf;
pub mod capability;
pub mod cgroup;
pub mod datagrams;
pub mod epoll;
pub mod error;
pub mod failpoint;
pub mod inherit;
pub mod link;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netlink;
mod overlay;
pub mod pidfd;
pub mod pipe;
pub mod process;
pub mod pty;
pub mod quota;
pub mod reaper;
pub mod rlimit;
pub mod root;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod time;
pub mod xattr;
