//! The table as a whole: making, claiming, replacing, removing it.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use wharf_sys::netlink::Socket;

use super::layout::{self, GATE, Gate, Shape};
use super::transaction::{Element, INET, Transaction, header, kind};
use crate::error::{Error, Result};
use crate::netlink::{Batch, Channel, u32_be};

/// `NFT_TABLE_F_OWNER` (5.12): nobody else may change the table, a foreign `flush ruleset` passes it by.
const OWNER: u32 = 2;
/// `NFT_TABLE_F_PERSIST` (6.9): it stays when the owner's socket is closed.
const PERSIST: u32 = 4;

/// The table of one instance, through the socket that owns it.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    channel: Channel,
    persistent: bool,
}

/// What is known of a table that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    flags: u32,
    owner: Option<u32>,
}

impl Table {
    /// Claims the table where it is there and nobody owns it; makes nothing.
    ///
    /// # Errors
    /// [`Error::TableOwned`].
    pub(super) fn open(name: String, socket: OwnedFd) -> Result<Self> {
        let channel = Channel::new(Socket::adopt(socket)?);
        let mut table = Self { name, channel, persistent: true };
        let port = table.channel.socket().port();
        if let Some(state) = table.state()? {
            match state.owner {
                Some(owner) if owner == port => table.persistent = state.flags & PERSIST != 0,
                Some(owner) => return Err(Error::TableOwned { table: table.name, owner }),
                // Its owner left it behind: the kernel then takes the owner flag away, the other stays.
                None if state.flags & PERSIST != 0 => table.claim()?,
                // Nobody ever owned it: it is replaced as a whole at the next write.
                None => {}
            }
        }
        Ok(table)
    }

    /// Whether the table stays when every process that holds its socket has died.
    pub(super) fn persistent(&self) -> bool {
        self.persistent
    }

    /// Whether the table is there and nobody else owns it.
    pub(super) fn is_there(&mut self) -> Result<bool> {
        Ok(self.state()?.is_some())
    }

    fn state(&mut self) -> Result<Option<State>> {
        let mut batch = Batch::new();
        let what = format!("find nftables table {}", self.name);
        batch.message(kind::GETTABLE, 0, &header(INET, 0), what).text(1, &self.name).tolerate(Errno::NOENT);
        let mut found = None;
        self.channel.send(batch, |message| {
            let attributes = message.attributes(4);
            let number = |kind| attributes.get(kind).and_then(u32_be);
            found = Some(State { flags: number(2).unwrap_or(0), owner: number(7).filter(|port| *port != 0) });
        })?;
        Ok(found)
    }

    fn transaction(&self) -> Transaction {
        Transaction::new(INET, &self.name)
    }

    fn flags(&self) -> u32 {
        if self.persistent { OWNER | PERSIST } else { OWNER }
    }

    /// Takes over a table that its owner left behind.
    fn claim(&mut self) -> Result<()> {
        let mut transaction = self.transaction();
        transaction.table(self.flags());
        self.channel.run(transaction.finish())
    }

    /// Writes the table anew, with all elements; packets meet the old or the new one.
    pub(super) fn replace(&mut self, shape: &Shape, elements: &[Element]) -> Result<()> {
        match self.try_replace(shape, elements) {
            Err(error) if self.persistent && is_flag_refused(&error) => {
                self.persistent = false;
                self.try_replace(shape, elements)
            }
            other => other,
        }
    }

    fn try_replace(&mut self, shape: &Shape, elements: &[Element]) -> Result<()> {
        let there = self.state()?;
        let mut transaction = self.transaction();
        if there.is_some() {
            transaction.delete_table();
        }
        transaction.table(self.flags());
        layout::write(&mut transaction, shape);
        transaction.add(elements);
        self.channel.run(transaction.finish())
    }

    /// Rewrites the gate alone.
    pub(super) fn set_gate(&mut self, gate: &Gate) -> Result<()> {
        let mut transaction = self.transaction();
        transaction.delete_rules(GATE, None);
        layout::gate(&mut transaction, gate);
        self.channel.run(transaction.finish())
    }

    /// Removes and adds elements in one transaction. An element to remove that is not there is no error.
    pub(super) fn change(&mut self, remove: &[Element], add: &[Element]) -> Result<()> {
        if remove.is_empty() && add.is_empty() {
            return Ok(());
        }
        let mut transaction = self.transaction();
        transaction.remove(remove);
        transaction.add(add);
        match self.channel.run(transaction.finish()) {
            Err(error) if error.errno() == Some(Errno::NOENT) && !remove.is_empty() => {
                self.change_singly(remove, add)
            }
            other => other,
        }
    }

    fn change_singly(&mut self, remove: &[Element], add: &[Element]) -> Result<()> {
        for element in remove {
            let mut transaction = self.transaction();
            transaction.remove(std::slice::from_ref(element));
            match self.channel.run(transaction.finish()) {
                Err(error) if error.errno() != Some(Errno::NOENT) => return Err(error),
                _ => {}
            }
        }
        let mut transaction = self.transaction();
        transaction.add(add);
        if transaction.is_empty() { Ok(()) } else { self.channel.run(transaction.finish()) }
    }

    /// Removes the table; none there is no error.
    pub(super) fn remove(&mut self) -> Result<()> {
        if self.state()?.is_none() {
            return Ok(());
        }
        let mut transaction = self.transaction();
        transaction.delete_table();
        self.channel.run(transaction.finish())
    }
}

/// How kernels before 6.9 refuse the persist flag.
fn is_flag_refused(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::OPNOTSUPP | Errno::INVAL))
}
