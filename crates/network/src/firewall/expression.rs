//! Rules as expressions over registers (`linux/netfilter/nf_tables.h`).

use crate::netlink::Batch;

/// A register of four bytes; longer values take the next ones too.
pub(super) type Register = u32;

/// `NFT_REG32_00`.
pub(super) const FIRST: Register = 8;

/// `NFT_META_*`.
pub(super) mod meta {
    pub(in crate::firewall) const MARK: u32 = 3;
    pub(in crate::firewall) const IIFNAME: u32 = 6;
    pub(in crate::firewall) const OIFNAME: u32 = 7;
    pub(in crate::firewall) const NFPROTO: u32 = 15;
    pub(in crate::firewall) const L4PROTO: u32 = 16;
    pub(in crate::firewall) const IIFGROUP: u32 = 21;
    pub(in crate::firewall) const OIFGROUP: u32 = 22;
    pub(in crate::firewall) const IIFKIND: u32 = 26;
    pub(in crate::firewall) const OIFKIND: u32 = 27;
}

/// `NFT_CT_*`.
pub(super) mod ct {
    pub(in crate::firewall) const STATE: u32 = 0;
    pub(in crate::firewall) const STATUS: u32 = 2;
}

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// Where a rule's way ends or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop,
    Accept,
    Return,
    Jump(&'static str),
    Goto(&'static str),
}

impl Verdict {
    fn code(self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
        }
    }

    /// Into an attribute of the given type.
    pub(super) fn encode(self, batch: &mut Batch, attribute: u16) {
        batch.nest(attribute, |data| {
            data.nest(2, |verdict| {
                verdict.big(1, self.code().cast_unsigned());
                if let Self::Jump(chain) | Self::Goto(chain) = self {
                    verdict.text(2, chain);
                }
            });
        });
    }
}

/// How a register is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// Which header a payload is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    LoadMeta {
        key: u32,
        to: Register,
    },
    StoreMeta {
        key: u32,
        from: Register,
    },
    LoadCt {
        key: u32,
        to: Register,
    },
    LoadPayload {
        header: Header,
        offset: u32,
        length: u32,
        to: Register,
    },
    /// `fib daddr type`.
    LoadTargetType {
        to: Register,
    },
    /// `to = (from & mask) ^ xor`, in place.
    Bits {
        register: Register,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        register: Register,
        how: Compare,
        value: Vec<u8>,
    },
    /// Goes on where the set has (`inverted`: lacks) the key; with `to` the map's value lands there. Verdict
    /// maps take it as their verdict.
    Lookup {
        set: &'static str,
        key: Register,
        to: Option<Register>,
        inverted: bool,
    },
    Verdict(Verdict),
    /// Destination translation; address and port are in registers.
    Dnat {
        family: u8,
        address: Register,
        port: Register,
    },
    /// Source translation to the address in a register.
    Snat {
        family: u8,
        address: Register,
    },
    Masquerade,
    Counter,
    /// A match of iptables (`nft_compat`).
    Match {
        name: &'static str,
        revision: u32,
        info: Vec<u8>,
    },
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::LoadMeta { .. } | Self::StoreMeta { .. } => "meta",
            Self::LoadCt { .. } => "ct",
            Self::LoadPayload { .. } => "payload",
            Self::LoadTargetType { .. } => "fib",
            Self::Bits { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Verdict(_) => "immediate",
            Self::Dnat { .. } | Self::Snat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Counter => "counter",
            Self::Match { .. } => "match",
        }
    }

    /// As an element of a rule's list.
    pub(super) fn encode(&self, batch: &mut Batch) {
        batch.nest(1, |expression| {
            expression.text(1, self.name());
            expression.nest(2, |data| self.encode_data(data));
        });
    }

    fn encode_data(&self, data: &mut Batch) {
        match self {
            Self::LoadMeta { key, to } | Self::LoadCt { key, to } => {
                data.big(1, *to).big(2, *key);
            }
            Self::StoreMeta { key, from } => {
                data.big(2, *key).big(3, *from);
            }
            Self::LoadPayload { header, offset, length, to } => {
                data.big(1, *to).big(2, *header as u32).big(3, *offset).big(4, *length);
            }
            Self::LoadTargetType { to } => {
                // NFT_FIB_RESULT_ADDRTYPE of NFTA_FIB_F_DADDR.
                data.big(1, *to).big(2, 3).big(3, 2);
            }
            Self::Bits { register, mask, xor } => {
                let length = u32::try_from(mask.len()).unwrap_or(0);
                data.big(1, *register).big(2, *register).big(3, length);
                value(data, 4, mask);
                value(data, 5, xor);
            }
            Self::Compare { register, how, value: wanted } => {
                data.big(1, *register).big(2, *how as u32);
                value(data, 3, wanted);
            }
            Self::Lookup { set, key, to, inverted } => {
                data.text(1, set).big(2, *key);
                if let Some(to) = to {
                    data.big(3, *to);
                }
                if *inverted {
                    data.big(5, 1);
                }
            }
            Self::Verdict(verdict) => {
                data.big(1, 0);
                verdict.encode(data, 2);
            }
            Self::Dnat { family, address, port } => {
                data.big(1, 1).big(2, u32::from(*family)).big(3, *address).big(5, *port);
            }
            Self::Snat { family, address } => {
                data.big(1, 0).big(2, u32::from(*family)).big(3, *address);
            }
            Self::Masquerade | Self::Counter => {}
            Self::Match { name, revision, info } => {
                data.text(1, name).big(2, *revision).bytes(3, info);
            }
        }
    }
}

/// `NFTA_DATA_VALUE` in an attribute.
pub(super) fn value(batch: &mut Batch, attribute: u16, bytes: &[u8]) {
    batch.nest(attribute, |data| {
        data.bytes(1, bytes);
    });
}
