//! Telling of the kernel's kills for memory while the container lives.
//!
//! The watch begins a moment after the start, so that short lives do not pay for it: what they met is counted
//! at their end.

use std::time::Duration;

use wharf_shim::protocol::{Event, Timestamp};
use wharf_sys::cgroup::OomWatch;
use wharf_sys::time::{Instant, wall_nanos};

use crate::session::Stage;
use crate::supervise::Supervisor;
use crate::token::{Token, Topic};

/// How long after a start the watch begins.
const BEGIN: Duration = Duration::from_millis(100);
/// How long after the kernel lacked memory a kill may take to be counted, and how often to look.
const SETTLE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of one life of the container.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    watch: Option<OomWatch>,
    /// When to begin to watch, or to look at the counter again.
    pub(crate) due: Option<Instant>,
    /// Until when to go on looking.
    until: Option<Instant>,
    /// Kills that were told.
    told: u64,
}

impl Memory {
    /// The container's process was executed.
    pub(crate) fn started() -> Self {
        Self { due: Some(Instant::now() + BEGIN), ..Self::default() }
    }
}

impl Supervisor {
    /// The time at which something was due has come.
    pub(crate) fn look_at_memory(&mut self, now: Instant) {
        if !matches!(self.container.stage, Stage::Running(_)) {
            self.memory.due = None;
            return;
        }
        if self.memory.watch.is_none() && self.memory.until.is_none() {
            self.watch_memory();
        }
        self.memory.due = self.memory.until.filter(|until| now < *until).map(|_| now + PAUSE);
        self.tell_of_kills();
    }

    fn watch_memory(&mut self) {
        // Where it cannot be watched, the end tells of kills.
        let Some(Ok(Some(watch))) = self.cgroup().map(|cgroup| cgroup.watch_oom()) else { return };
        let token = Token { topic: Topic::Oom, number: 0 }.encode();
        if self.epoll.add(&watch, token, watch.flags()).is_ok() {
            self.memory.watch = Some(watch);
        }
    }

    /// The kernel lacked memory, or the group is gone.
    pub(crate) fn memory_lacked(&mut self) {
        let Some(watch) = &self.memory.watch else { return };
        watch.acknowledge();
        if !self.cgroup().is_some_and(|cgroup| cgroup.exists()) {
            self.forget_memory();
            return;
        }
        if self.cgroup().is_some_and(|cgroup| cgroup.never_kills()) {
            // No kill follows that could be counted.
            return self.publish(&Event::Oom { at: Timestamp(wall_nanos()) });
        }
        let now = Instant::now();
        self.memory.until = Some(now + SETTLE);
        self.memory.due = Some(now + PAUSE);
        self.tell_of_kills();
    }

    /// Ends the watch with the life it is about.
    pub(crate) fn forget_memory(&mut self) {
        if let Some(watch) = std::mem::take(&mut self.memory).watch {
            let _was_watched = self.epoll.remove(&watch);
        }
    }

    /// Tells of kills that were not told of; how many there were in all.
    pub(crate) fn tell_of_kills(&mut self) -> u64 {
        let kills = self.cgroup().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(0);
        if kills > self.memory.told {
            self.memory.told = kills;
            self.memory.until = None;
            self.publish(&Event::Oom { at: Timestamp(wall_nanos()) });
        }
        kills
    }
}
