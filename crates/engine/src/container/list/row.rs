//! A container's entry of a list as JSON, kept until what it tells changes: managers ask for the list again and again,
//! and nearly all of it is as it was.

use std::sync::{Arc, Weak};

use wharf_api::ContainerSummary;

use super::Chosen;
use crate::container::record::View;
use crate::network::Sandbox;

/// An entry but for its status, in which the time goes on.
#[derive(Debug)]
pub(in crate::container) struct Row {
    told: Told,
    /// Up to the value of `Status`.
    head: Box<str>,
    /// What follows it.
    tail: Box<str>,
}

/// What an entry was made from. Views and sandboxes are replaced, never changed; that something still refers to one
/// keeps its place from being another's.
#[derive(Debug)]
pub(super) struct Told {
    view: Weak<View>,
    sandbox: Option<Weak<Sandbox>>,
    /// [`crate::network::Networks::fingerprint`].
    networks: u64,
    named: bool,
}

impl Told {
    pub(super) fn new(one: &Chosen, sandbox: Option<&Arc<Sandbox>>, networks: u64) -> Self {
        Self {
            view: Arc::downgrade(&one.view),
            sandbox: sandbox.map(Arc::downgrade),
            networks,
            named: one.named,
        }
    }
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        let sandbox = match (&self.sandbox, &other.sandbox) {
            (Some(one), Some(other)) => one.ptr_eq(other),
            (None, None) => true,
            _ => false,
        };
        sandbox
            && self.view.ptr_eq(&other.view)
            && (self.networks, self.named) == (other.networks, other.named)
    }
}

impl Row {
    pub(super) fn new(told: Told, mut summary: ContainerSummary) -> serde_json::Result<Self> {
        // Nothing else in it can be the id with this name: what clients chose was chosen before the id was.
        summary.status.clone_from(&summary.id);
        let mark = format!("\"Status\":\"{}\"", summary.id);
        let text = serde_json::to_string(&summary)?;
        let (head, tail) = text.split_once(&mark).unwrap_or((&text, ""));
        Ok(Self { told, head: format!("{head}\"Status\":").into(), tail: tail.into() })
    }

    /// Whether it was made from the same.
    pub(super) fn tells(&self, told: &Told) -> bool {
        self.told == *told
    }

    /// Appends the entry.
    pub(super) fn write(&self, status: &str, text: &mut Vec<u8>) -> serde_json::Result<()> {
        text.extend_from_slice(self.head.as_bytes());
        serde_json::to_writer(&mut *text, status)?;
        text.extend_from_slice(self.tail.as_bytes());
        Ok(())
    }
}
