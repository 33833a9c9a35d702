//! Neighbour entries: who has which address, known without asking.
//!
//! Entries that the kernel learns count against a limit of the whole machine (`gc_thresh3`, 1,024), over all
//! network namespaces; permanent ones do not, and nobody on the bridge can overwrite them.

use std::net::IpAddr;

use rustix::io::Errno;

use crate::address::{family, octets};
use crate::netlink::{Batch, flags};
use crate::types::MacAddress;

const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
/// `NDA_DST` and `NDA_LLADDR`.
const DST: u16 = 1;
const LLADDR: u16 = 2;
/// `NUD_PERMANENT`.
const PERMANENT: u16 = 0x80;

fn header(index: u32, address: IpAddr, state: u16) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0] = family(address.is_ipv6());
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes
}

/// An entry that stays; one that is there is replaced.
pub(crate) fn add(batch: &mut Batch, index: u32, address: IpAddr, mac: MacAddress) {
    let what = format!("add neighbour {address}");
    let header = header(index, address, PERMANENT);
    batch.message(NEWNEIGH, flags::CREATE | flags::REPLACE, &header, what);
    batch.bytes(DST, &octets(address)).bytes(LLADDR, &mac.0);
}

/// Removes an entry; none there, or its interface gone, is no error.
pub(crate) fn remove(batch: &mut Batch, index: u32, address: IpAddr) {
    let what = format!("remove neighbour {address}");
    batch.message(DELNEIGH, 0, &header(index, address, 0), what).tolerate(Errno::NOENT);
    batch.bytes(DST, &octets(address));
}
