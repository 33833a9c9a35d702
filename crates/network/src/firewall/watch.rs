//! Hears of every change of nf_tables.

use std::sync::Weak;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use wharf_sys::epoll::{Epoll, EventFlags, Ready};
use wharf_sys::error::{Context, Error as SysError, errno_of};
use wharf_sys::netlink::Family;
use wharf_sys::pipe::Pipe;

use super::Firewall;
use super::transaction::kind;
use crate::error::Result;
use crate::netlink::{Channel, text};

/// `NFNLGRP_NFTABLES`.
const CHANGES: u32 = 7;
/// Programs change a ruleset in several transactions; one look after the last is enough, and this late it
/// is still far from late.
const SETTLE: Duration = Duration::from_millis(5);
/// But somebody who never stops does not hide what he did.
const ROUNDS: usize = 6;

/// A thread that hears of changes; ends when dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Its closing is the sign to end.
    stop: Option<std::os::fd::OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(firewall: Weak<Firewall>, own_table: &str) -> Result<Self> {
        let channel = Channel::open(Family::Netfilter)?;
        channel.socket().join(CHANGES)?;
        let pipe = Pipe::new().context(|| "make pipe")?;
        let epoll = Epoll::new().context(|| "watch firewall")?;
        epoll.add(channel.socket(), 0, EventFlags::IN).context(|| "watch firewall")?;
        epoll.add(&pipe.read, 1, EventFlags::IN).context(|| "watch firewall")?;
        let own_table = own_table.to_owned();
        let run = move || {
            let _open_while_running = pipe.read;
            listen(&firewall, channel, &epoll, &own_table);
        };
        let thread = std::thread::Builder::new()
            .name("firewall".to_owned())
            .stack_size(256 * 1024)
            .spawn(run)
            .map_err(|error| SysError::new("start firewall watch", errno_of(&error)))?;
        Ok(Self { stop: Some(pipe.write), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn listen(firewall: &Weak<Firewall>, mut channel: Channel, epoll: &Epoll, own_table: &str) {
    let mut ready: Vec<Ready> = Vec::with_capacity(2);
    loop {
        if epoll.wait(&mut ready, None).is_err() || ready.iter().any(|one| one.token == 1) {
            return;
        }
        let mut changed = hear(&mut channel, own_table);
        for _ in 0..ROUNDS {
            if !changed || epoll.wait(&mut ready, Some(SETTLE)).is_err() || ready.is_empty() {
                break;
            }
            if ready.iter().any(|one| one.token == 1) {
                return;
            }
            changed |= hear(&mut channel, own_table);
        }
        if !changed {
            continue;
        }
        let Some(firewall) = firewall.upgrade() else { return };
        if let Err(error) = firewall.refresh() {
            tracing::warn!("follow the host's firewall: {error}");
        }
    }
}

/// Reads what has been said; whether somebody else changed something.
fn hear(channel: &mut Channel, own_table: &str) -> bool {
    let mut changed = false;
    loop {
        let heard = channel.hear(|message| {
            // Tables, chains and rules; elements of sets come and go all day and say nothing here. The first
            // attribute is the table's name.
            let matters = (kind::NEWTABLE..=kind::DELRULE).contains(&message.kind);
            let table = message.attributes(4).get(1).map(text).unwrap_or_default();
            let our_table_died = table == own_table && message.kind == kind::DELTABLE;
            changed |= matters && (!super::is_ours(table) || our_table_died);
        });
        match heard {
            Ok(true) => {}
            Ok(false) => return changed,
            // Too much was said at once: something did change.
            Err(error) if error.errno() == Some(Errno::NOBUFS) => changed = true,
            Err(_) => return changed,
        }
    }
}
