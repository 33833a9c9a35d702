//! The one thing written into chains of others.
//!
//! A packet is let through only when every base chain of its hook lets it through. Where another's chain at
//! `forward` drops what it does not know (Docker, ufw, firewalld, an administrator's), one rule at its head
//! accepts what this instance's table has marked.

use super::expression::Verdict;
use super::layout::ACCEPTED;
use super::rule::Rule;
use super::ruleset::{Chain, FORWARD, closes, rules};
use super::transaction::Transaction;
use rustix::io::Errno;

use crate::error::Result;
use crate::netlink::Channel;

/// Chains that their owners keep for rules of others, best first.
const MADE_FOR_IT: [&str; 3] = ["DOCKER-USER", "ufw-before-forward", "ufw6-before-forward"];

/// Puts the rule to the head of every chain that needs it and lacks it. Families that are not filtered here
/// are left alone. Returns what stands in the way: chains that drop and can't be changed (`EPERM` for a table
/// that another process owns).
pub(super) fn ensure(
    channel: &mut Channel,
    chains: &[Chain],
    comment: &str,
    families: (bool, bool),
) -> Vec<String> {
    let mut obstacles = vec![];
    for base in chains.iter().filter(|chain| chain.hook == Some(FORWARD)) {
        if (families.0 && base.sees(false)) || (families.1 && base.sees(true)) {
            match ensure_in(channel, chains, base, comment) {
                Err(error) if error.errno() != Some(Errno::NOENT) => {
                    obstacles.push(format!("{} drops what containers send: {error}", base.title()));
                }
                // One that has gone since it was seen drops nothing.
                _ => {}
            }
        }
    }
    obstacles
}

fn ensure_in(channel: &mut Channel, chains: &[Chain], base: &Chain, comment: &str) -> Result<()> {
    let known = rules(channel, base)?;
    if !closes(base, &known) {
        return Ok(());
    }
    let leads_to = |name: &str| known.iter().any(|rule| rule.target.as_deref() == Some(name));
    let same_table = |chain: &&Chain| chain.family == base.family && chain.table == base.table;
    let made = MADE_FOR_IT.iter().find(|name| leads_to(name));
    let place = made.and_then(|name| chains.iter().filter(same_table).find(|chain| chain.name == **name));
    let place = place.unwrap_or(base);
    let first = if place == base { known } else { rules(channel, place)? };
    // Other instances have theirs at the head too; whose is first does not matter.
    let head = first.iter().take_while(|rule| rule.comment.starts_with(COMMON));
    if head.into_iter().any(|rule| rule.comment == comment) {
        return Ok(());
    }
    let mut transaction = Transaction::new(place.family, &place.table);
    for rule in first.iter().filter(|rule| rule.comment == comment) {
        transaction.delete_rules(&place.name, Some(rule.handle));
    }
    if place.of_iptables() {
        transaction.insert(&place.name, &for_iptables(comment), None);
    } else {
        let rule = Rule::new().marked(ACCEPTED).counter().verdict(Verdict::Accept);
        transaction.insert(&place.name, &rule, Some(comment));
    }
    channel.run(transaction.finish())
}

/// How the comment of every instance's rule begins.
const COMMON: &str = "wharf:";

/// What an instance writes into its rule.
pub(super) fn comment(instance: &str) -> String {
    format!("{COMMON}{instance}")
}

/// As `-m mark --mark BIT/BIT -m comment --comment TEXT -j ACCEPT` makes it, so that every version of
/// iptables shows, saves and restores the rule as what it is.
fn for_iptables(comment: &str) -> Rule {
    // struct xt_mark_mtinfo1: mark, mask, invert; filled up to eight bytes.
    let mut mark = [ACCEPTED.to_ne_bytes(), ACCEPTED.to_ne_bytes()].concat();
    mark.resize(16, 0);
    // struct xt_comment_info.
    let mut words = comment.as_bytes().to_vec();
    words.truncate(255);
    words.resize(256, 0);
    Rule::new()
        .iptables_match("mark", 1, mark)
        .iptables_match("comment", 0, words)
        .counter()
        .verdict(Verdict::Accept)
}

/// Takes the instance's rule out of every chain that has it.
///
/// # Errors
/// What the kernel refused; other chains were tried.
pub(super) fn withdraw(channel: &mut Channel, chains: &[Chain], comment: &str) -> Result<()> {
    let mut result = Ok(());
    let places =
        |chain: &&Chain| chain.hook == Some(FORWARD) || MADE_FOR_IT.iter().any(|name| *name == chain.name);
    for chain in chains.iter().filter(places) {
        let mut transaction = Transaction::new(chain.family, &chain.table);
        for rule in rules(channel, chain)?.iter().filter(|rule| rule.comment == comment) {
            transaction.delete_rules(&chain.name, Some(rule.handle));
        }
        if !transaction.is_empty() {
            result = result.and(channel.run(transaction.finish()));
        }
    }
    result
}
