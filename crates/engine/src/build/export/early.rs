//! Packing layers while later steps still run: an export then waits for the last of them alone.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use wharf_store::{Batch, Chain, ChainLayer, PackedStep, Store};

/// The layers that a build packs ahead. What nobody took goes when this is dropped.
#[derive(Debug, Default)]
pub(in crate::build) struct Early(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Layers will be wanted, with this bound on their times.
    wanted: Option<Option<i64>>,
    /// Those that nobody works on yet, in the order in which they came.
    waiting: VecDeque<String>,
    /// All that came.
    steps: HashMap<String, Slot>,
    /// Where the bytes lie.
    batch: Option<Arc<Batch>>,
    /// The thread is there.
    runs: bool,
    closed: bool,
}

#[derive(Debug)]
enum Slot {
    Waiting,
    Packing,
    Packed(Box<PackedStep>),
    /// It was taken, or is better packed by who wants it.
    Over,
}

/// Who packs has a shallow stack.
const STACK: usize = 512 * 1024;

impl Early {
    /// An image will be made of the build, with nothing newer than `latest`, in seconds since 1970.
    pub(in crate::build) fn expect(&self, latest: Option<i64>) {
        self.0.lock().wanted = Some(latest);
    }

    /// A result's layers, as far as it is made.
    pub(in crate::build) fn made(&self, store: &Arc<Store>, chain: &Chain) {
        let mut state = self.0.lock();
        if state.wanted.is_none() {
            return;
        }
        for layer in chain {
            if let ChainLayer::Step(id) = layer
                && !state.steps.contains_key(id)
            {
                state.steps.insert(id.clone(), Slot::Waiting);
                state.waiting.push_back(id.clone());
            }
        }
        if state.waiting.is_empty() {
            return;
        }
        if !state.runs {
            let (shared, store) = (self.0.clone(), store.clone());
            let thread = thread::Builder::new().name("pack".to_owned()).stack_size(STACK);
            // Without it, layers are packed when they are wanted.
            state.runs = thread.spawn(move || shared.work(&store)).is_ok();
        }
        drop(state);
        self.0.changed.notify_all();
    }

    /// What was packed of a step with that bound, waited for if it is under way.
    pub(in crate::build) fn take(&self, id: &str, latest: Option<i64>) -> Option<PackedStep> {
        let mut state = self.0.lock();
        if state.wanted != Some(latest) {
            return None;
        }
        loop {
            match state.steps.get_mut(id)? {
                Slot::Packing => {
                    state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                slot => {
                    let Slot::Packed(packed) = std::mem::replace(slot, Slot::Over) else { return None };
                    return Some(*packed);
                }
            }
        }
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    // Only whole changes happen under the lock: a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, store: &Arc<Store>) {
        let mut state = self.lock();
        while !state.closed {
            let Some(id) = state.waiting.pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (Some(Slot::Waiting), Some(latest)) = (state.steps.get(&id), state.wanted) else { continue };
            state.steps.insert(id.clone(), Slot::Packing);
            let batch = state.batch.clone();
            drop(state);
            let at = AtWork { shared: self, id: &id };
            let batch = batch.or_else(|| store.batch().ok().map(Arc::new));
            let given_up = || self.lock().closed;
            let packed = batch.as_ref().and_then(|batch| {
                let packed = store.pack_ahead(batch, &id, latest, given_up);
                // Who wants it meets the error again.
                packed.ok().flatten()
            });
            let mut done = self.lock();
            done.batch = batch;
            if let Some(packed) = packed {
                done.steps.insert(id.clone(), Slot::Packed(Box::new(packed)));
            }
            drop(done);
            drop(at);
            state = self.lock();
        }
    }
}

/// Somebody may wait for a step as long as this is there.
struct AtWork<'a> {
    shared: &'a Shared,
    id: &'a str,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if let Some(slot @ Slot::Packing) = self.shared.lock().steps.get_mut(self.id) {
            *slot = Slot::Over;
        }
        self.shared.changed.notify_all();
    }
}
