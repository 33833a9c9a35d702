//! Limits of what an interface sends (`tc-tbf(8)` over netlink).
//!
//! A token bucket holds packets back instead of dropping them, so that TCP settles at the rate. What a
//! container receives is what the host's end of its pair sends; what it sends, its own end does.

use rustix::io::Errno;

use crate::netlink::{Batch, flags};

const NEWQDISC: u16 = 36;
const DELQDISC: u16 = 37;
/// `TC_H_ROOT`: the interface's outermost queue.
const ROOT: u32 = u32::MAX;
/// Bytes before each packet that users do not count.
const ETHERNET: u64 = 14;

/// `struct tcmsg`.
fn header(index: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[12..16].copy_from_slice(&ROOT.to_ne_bytes());
    bytes
}

/// What a rate means in the queue's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// Bytes a second, Ethernet headers among them.
    rate: u64,
    /// Bytes that may go at once.
    burst: u32,
    /// Bytes that may wait.
    limit: u32,
}

impl Bucket {
    fn new(bits_per_second: u64, mtu: u32) -> Self {
        let mtu = u64::from(mtu.max(68));
        let payload = (bits_per_second / 8).max(1);
        let rate = payload.saturating_mul(mtu + ETHERNET) / mtu;
        let during = |milliseconds: u64| rate / 1000 * milliseconds;
        // Ten milliseconds bridge the gaps of a busy machine's timers.
        let burst = during(10).max(64 * 1024).max(2 * (mtu + ETHERNET));
        let limit = burst + during(50).max(64 * 1024);
        let cut = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self { rate, burst: cut(burst), limit: cut(limit) }
    }
}

/// Limits what an interface sends to so many bits a second of IP packets, or changes the limit it has.
pub(crate) fn limit(batch: &mut Batch, index: u32, bits_per_second: u64, mtu: u32) {
    /// `TCA_TBF_*`.
    const PARAMETERS: u16 = 1;
    const RATE64: u16 = 4;
    const BURST: u16 = 6;
    let bucket = Bucket::new(bits_per_second, mtu);
    batch.message(NEWQDISC, flags::CREATE | flags::REPLACE, &header(index), "limit bandwidth");
    batch.text(1, "tbf");
    batch.nest(2, |options| {
        // struct tc_tbf_qopt: two tc_ratespec (the second unused), limit, buffer, mtu. Link layer 1 is
        // Ethernet: packets count by their length.
        let mut parameters = [0; 36];
        parameters[1] = 1;
        let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
        parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
        parameters[24..28].copy_from_slice(&bucket.limit.to_ne_bytes());
        options.bytes(PARAMETERS, &parameters).native(BURST, bucket.burst);
        if bucket.rate > u64::from(u32::MAX) {
            options.bytes(RATE64, &bucket.rate.to_ne_bytes());
        }
    });
}

/// Takes the limit away; none there is no error.
pub(crate) fn unlimit(batch: &mut Batch, index: u32) {
    batch.message(DELQDISC, 0, &header(index), "remove bandwidth limit").tolerate(Errno::NOENT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_packets_without_their_ethernet_headers() {
        let gigabit = Bucket::new(1_000_000_000, 1500);
        assert_eq!(gigabit.rate, 126_166_666);
        assert_eq!(gigabit.burst, 1_261_660);
        let slow = Bucket::new(8_000, 1500);
        assert_eq!((slow.rate, slow.burst, slow.limit), (1009, 64 * 1024, 128 * 1024));
        assert_eq!(Bucket::new(u64::MAX, 1500).limit, u32::MAX);
    }
}
