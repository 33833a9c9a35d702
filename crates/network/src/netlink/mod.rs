//! Netlink messages: built as bytes, sent in batches, answers taken apart.
//!
//! Route and netfilter messages share headers, attributes and errors (`linux/netlink.h`), so one builder
//! serves both.

mod batch;
mod channel;
mod parse;

pub(crate) use batch::Batch;
pub(crate) use channel::Channel;
pub(crate) use parse::{Attributes, Message, text, u16_be, u32_be, u32_ne};

/// Message flags of `linux/netlink.h`.
pub(crate) mod flags {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
}
