//! What others have in nf_tables: base chains, and enough of their rules to know where packets end.

use rustix::io::Errno;

use crate::error::Result;
use crate::netlink::{Attributes, Batch, Channel, Message, flags, text, u32_be};

use super::transaction::{INET, header, kind};

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
pub(super) const INPUT: u32 = 1;
pub(super) const FORWARD: u32 = 2;
/// `NFPROTO_IPV4` and `NFPROTO_IPV6`.
pub(super) const IP: u8 = 2;
pub(super) const IP6: u8 = 10;

/// A chain of a table that filters IP packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) family: u8,
    pub(super) table: String,
    pub(super) name: String,
    /// Where packets come in, for base chains that filter.
    pub(super) hook: Option<u32>,
    pub(super) policy_drop: bool,
}

impl Chain {
    /// As nft(8) and its users say it.
    pub(super) fn title(&self) -> String {
        let family = match self.family {
            IP => "ip",
            IP6 => "ip6",
            _ => "inet",
        };
        format!("{family} {} {}", self.table, self.name)
    }

    pub(super) fn sees(&self, v6: bool) -> bool {
        self.family == INET || self.family == if v6 { IP6 } else { IP }
    }

    /// Whether iptables-nft manages its table, and must understand what is in it.
    pub(super) fn of_iptables(&self) -> bool {
        self.family != INET && self.table == "filter"
    }
}

/// All chains of tables of IPv4, IPv6 and both.
pub(super) fn chains(channel: &mut Channel) -> Result<Vec<Chain>> {
    let mut batch = Batch::new();
    batch.message(kind::GETCHAIN, flags::DUMP, &header(0, 0), "list nftables chains");
    let mut found = vec![];
    channel.dump(batch, |message| found.extend(parse_chain(message)))?;
    Ok(found)
}

fn parse_chain(message: Message<'_>) -> Option<Chain> {
    let family = *message.payload.first()?;
    if ![INET, IP, IP6].contains(&family) {
        return None;
    }
    let attributes = message.attributes(4);
    let filters = attributes.get(7).map(text) == Some("filter");
    Some(Chain {
        family,
        table: text(attributes.get(1)?).to_owned(),
        name: text(attributes.get(3)?).to_owned(),
        hook: attributes.nested(4).get(1).and_then(u32_be).filter(|_| filters),
        policy_drop: attributes.get(5).and_then(u32_be) == Some(0),
    })
}

/// A rule of another's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ForeignRule {
    pub(super) handle: u64,
    /// What nft(8) or iptables show as its comment.
    pub(super) comment: String,
    /// Where every packet of the chain that gets here ends.
    pub(super) ends: bool,
    /// The chain it leads to.
    pub(super) target: Option<String>,
}

/// A chain's rules in order.
pub(super) fn rules(channel: &mut Channel, chain: &Chain) -> Result<Vec<ForeignRule>> {
    let mut batch = Batch::new();
    let what = format!("list rules of nftables chain {}", chain.title());
    batch.message(kind::GETRULE, flags::DUMP, &header(chain.family, 0), what);
    // A chain that has gone since it was seen has none; its going is told too.
    batch.text(1, &chain.table).text(2, &chain.name).tolerate(Errno::NOENT);
    let mut found = vec![];
    channel.dump(batch, |message| {
        let attributes = message.attributes(4);
        // Kernels that do not filter send other chains' rules too.
        if attributes.get(1).map(text) == Some(&chain.table)
            && attributes.get(2).map(text) == Some(&chain.name)
        {
            found.push(parse_rule(attributes));
        }
    })?;
    Ok(found)
}

fn parse_rule(attributes: Attributes<'_>) -> ForeignRule {
    let mut rule = ForeignRule::default();
    if let Some(handle) = attributes.get(3).and_then(|handle| handle.try_into().ok()) {
        rule.handle = u64::from_be_bytes(handle);
    }
    // Tag 0, length, terminated text.
    if let Some([0, length, rest @ ..]) = attributes.get(7) {
        rule.comment = text(rest.get(..usize::from(*length)).unwrap_or_default()).to_owned();
    }
    let mut conditions = false;
    for (_, expression) in attributes.nested(4) {
        let expression = Attributes(expression);
        let data = expression.nested(2);
        match expression.get(1).map(text).unwrap_or_default() {
            "counter" | "log" => {}
            "reject" => rule.ends = true,
            "target" => rule.ends |= data.get(1).map(text) == Some("REJECT"),
            "immediate" => {
                let verdict = data.nested(2).nested(2);
                rule.ends |= verdict.get(1).and_then(u32_be) == Some(0);
                rule.target = verdict.get(2).map(text).map(str::to_owned);
            }
            "match" if data.get(1).map(text) == Some("comment") => {
                rule.comment = data.get(3).map(text).unwrap_or_default().to_owned();
            }
            _ => conditions = true,
        }
    }
    rule.ends &= !conditions;
    rule
}

/// Whether a packet that no rule of a base chain lets through is dropped or rejected there.
pub(super) fn closes(chain: &Chain, rules: &[ForeignRule]) -> bool {
    chain.policy_drop || rules.last().is_some_and(|rule| rule.ends)
}
