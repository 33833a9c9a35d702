//! Changes of nf_tables that happen together or not at all.

use rustix::io::Errno;

use super::expression::{Verdict, value};
use super::rule::Rule;
use crate::netlink::{Batch, flags};

/// `NFNL_SUBSYS_NFTABLES`, the upper half of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFNL_MSG_BATCH_BEGIN` and `…_END`.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `NFPROTO_INET`.
pub(super) const INET: u8 = 1;
/// A list attribute has 16 bits for its length; elements take up to about 150 bytes.
const LIST_LIMIT: usize = 60_000;

/// `NFT_MSG_*`.
pub(super) mod kind {
    pub(in crate::firewall) const NEWTABLE: u16 = super::SUBSYSTEM;
    pub(in crate::firewall) const GETTABLE: u16 = super::SUBSYSTEM | 1;
    pub(in crate::firewall) const DELTABLE: u16 = super::SUBSYSTEM | 2;
    pub(in crate::firewall) const NEWCHAIN: u16 = super::SUBSYSTEM | 3;
    pub(in crate::firewall) const GETCHAIN: u16 = super::SUBSYSTEM | 4;
    pub(in crate::firewall) const NEWRULE: u16 = super::SUBSYSTEM | 6;
    pub(in crate::firewall) const GETRULE: u16 = super::SUBSYSTEM | 7;
    pub(in crate::firewall) const DELRULE: u16 = super::SUBSYSTEM | 8;
    pub(in crate::firewall) const NEWSET: u16 = super::SUBSYSTEM | 9;
    pub(in crate::firewall) const NEWSETELEM: u16 = super::SUBSYSTEM | 12;
    pub(in crate::firewall) const DELSETELEM: u16 = super::SUBSYSTEM | 14;
}

/// `struct nfgenmsg`.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// One field of a set's key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    Interface,
}

impl Field {
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 | Self::Interface => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// The number that nft(8) prints by; the kernel does not care.
    fn datatype(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Interface => 41,
        }
    }
}

/// What a set's elements lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Verdict,
    Fields(&'static [Field]),
}

/// A set or map.
#[derive(Clone, Copy, Debug)]
pub(super) struct SetDefinition {
    pub(super) name: &'static str,
    pub(super) key: &'static [Field],
    pub(super) value: Value,
    /// Keys are ranges in every field.
    pub(super) ranges: bool,
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Data {
    None,
    Accept,
    Goto(&'static str),
    Bytes(Vec<u8>),
}

/// An element of a set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Element {
    pub(super) set: &'static str,
    pub(super) key: Vec<u8>,
    /// The last key of a range.
    pub(super) end: Option<Vec<u8>>,
    pub(super) data: Data,
}

/// A base chain's place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// `filter` or `nat`.
    pub(super) chain_type: &'static str,
    /// `NF_INET_*`.
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// Fields one after the other, each filled up to whole registers.
fn padded(fields: &[Field]) -> u32 {
    fields.iter().map(|field| field.length().next_multiple_of(4)).sum()
}

/// nft(8)'s number of a type: six bits for each field.
fn datatype(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |all, field| all << 6 | field.datatype())
}

/// Changes that happen together or not at all, of tables of one family.
#[derive(Debug)]
pub(super) struct Transaction {
    batch: Batch,
    family: u8,
    table: String,
    empty: bool,
    next_set: u32,
}

impl Transaction {
    pub(super) fn new(family: u8, table: &str) -> Self {
        let mut batch = Batch::new();
        batch.message(BEGIN, 0, &header(0, SUBSYSTEM >> 8), "begin firewall change");
        Self { batch, family, table: table.to_owned(), empty: true, next_set: 1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    /// The finished batch.
    pub(super) fn finish(mut self) -> Batch {
        self.batch.message(END, 0, &header(0, SUBSYSTEM >> 8), "commit firewall change");
        self.batch
    }

    fn message(&mut self, kind: u16, flags: u16, what: String) -> &mut Batch {
        self.empty = false;
        self.batch.message(kind, flags, &header(self.family, 0), what)
    }

    /// Makes the table, or claims one that nobody owns any more.
    pub(super) fn table(&mut self, table_flags: u32) {
        let name = self.table.clone();
        let what = format!("create nftables table {name}");
        self.message(kind::NEWTABLE, flags::CREATE, what).text(1, &name).big(2, table_flags);
    }

    pub(super) fn delete_table(&mut self) {
        let name = self.table.clone();
        self.message(kind::DELTABLE, 0, format!("remove nftables table {name}")).text(1, &name);
    }

    /// A chain; a base chain where it has a hook. Its policy is accept.
    pub(super) fn chain(&mut self, name: &str, hook: Option<Hook>) {
        let table = self.table.clone();
        let message = self.message(kind::NEWCHAIN, flags::CREATE, format!("create nftables chain {name}"));
        message.text(1, &table).text(3, name);
        if let Some(hook) = hook {
            message.nest(4, |place| {
                place.big(1, hook.number).big(2, hook.priority.cast_unsigned());
            });
            message.big(5, 1).text(7, hook.chain_type);
        }
    }

    /// Adds a rule at a chain's end.
    pub(super) fn append(&mut self, chain: &str, rule: &Rule) {
        self.rule(chain, rule, flags::CREATE | flags::APPEND, None);
    }

    /// Adds a rule at a chain's head, with a comment.
    pub(super) fn insert(&mut self, chain: &str, rule: &Rule, comment: Option<&str>) {
        self.rule(chain, rule, flags::CREATE, comment);
    }

    fn rule(&mut self, chain: &str, rule: &Rule, flags: u16, comment: Option<&str>) {
        let table = self.table.clone();
        let message = self.message(kind::NEWRULE, flags, format!("add rule to nftables chain {chain}"));
        message.text(1, &table).text(2, chain);
        message.nest(4, |list| rule.expressions.iter().for_each(|expression| expression.encode(list)));
        if let Some(comment) = comment {
            // Tag, length, terminated text: NFTNL_UDATA_RULE_COMMENT of nft(8).
            let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
            let bytes = [&[0, length], comment.as_bytes(), &[0]].concat();
            message.bytes(7, &bytes);
        }
    }

    /// Removes a chain's rule by its number, or (without one) all its rules.
    pub(super) fn delete_rules(&mut self, chain: &str, handle: Option<u64>) {
        let table = self.table.clone();
        let message = self.message(kind::DELRULE, 0, format!("remove rule of nftables chain {chain}"));
        message.text(1, &table).text(2, chain);
        match handle {
            Some(handle) => message.bytes(3, &handle.to_be_bytes()).tolerate(Errno::NOENT),
            None => message,
        };
    }

    pub(super) fn set(&mut self, set: &SetDefinition) {
        /// `NFT_SET_INTERVAL`, `NFT_SET_MAP`, `NFT_SET_CONCAT`; `NFT_DATA_VERDICT`.
        const INTERVAL: u32 = 4;
        const MAP: u32 = 8;
        const CONCAT: u32 = 0x80;
        const VERDICT: u32 = 0xffff_ff00;
        let mut bits = 0;
        if set.ranges {
            bits |= INTERVAL;
        }
        if set.value != Value::None {
            bits |= MAP;
        }
        if set.key.len() > 1 {
            bits |= CONCAT;
        }
        let (table, id) = (self.table.clone(), self.next_set);
        self.next_set += 1;
        let what = format!("create nftables set {}", set.name);
        let message = self.message(kind::NEWSET, flags::CREATE, what);
        message.text(1, &table).text(2, set.name).big(3, bits);
        message.big(4, datatype(set.key)).big(5, padded(set.key)).big(10, id);
        match set.value {
            Value::None => {}
            Value::Verdict => {
                message.big(6, VERDICT).big(7, 16);
            }
            Value::Fields(fields) => {
                message.big(6, datatype(fields)).big(7, padded(fields));
            }
        }
        if set.key == [Field::Interface] {
            // Tag 0, length 4, host's byte order: without it nft(8) prints names backwards, as nothing.
            let order = 1_u32.to_ne_bytes();
            message.bytes(13, &[&[0, 4], &order[..]].concat());
        }
        if set.key.len() > 1 {
            message.nest(9, |description| {
                description.nest(2, |list| {
                    for field in set.key {
                        list.nest(1, |one| {
                            one.big(1, field.length());
                        });
                    }
                });
            });
        }
    }

    /// Adds elements; one whose key leads elsewhere already fails the transaction.
    pub(super) fn add(&mut self, elements: &[Element]) {
        self.elements(kind::NEWSETELEM, flags::CREATE, "add to", elements);
    }

    /// Removes elements; one that is not there fails the transaction.
    pub(super) fn remove(&mut self, elements: &[Element]) {
        self.elements(kind::DELSETELEM, 0, "remove from", elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, verb: &str, elements: &[Element]) {
        let mut rest = elements;
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|element| element.set == first.set).count();
            let (group, next) = rest.split_at(same.min(400));
            rest = next;
            let table = self.table.clone();
            let message = self.message(kind, flags, format!("{verb} nftables set {}", first.set));
            message.text(1, &table).text(2, first.set);
            message.nest(3, |list| {
                for element in group {
                    list.nest(1, |one| put(one, element, kind == kind::NEWSETELEM));
                }
            });
            debug_assert!(message.message_length() < LIST_LIMIT);
        }
    }
}

fn put(one: &mut Batch, element: &Element, with_data: bool) {
    value(one, 1, &element.key);
    if let Some(end) = &element.end {
        value(one, 10, end);
    }
    if !with_data {
        return;
    }
    match &element.data {
        Data::None => {}
        Data::Accept => Verdict::Accept.encode(one, 2),
        Data::Goto(chain) => Verdict::Goto(chain).encode(one, 2),
        Data::Bytes(bytes) => value(one, 2, bytes),
    }
}
