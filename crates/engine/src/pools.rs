//! Calls that may sleep in the kernel, kept off the async workers and bounded by class.
//!
//! A hung mount or a dead network file system uses up the permits of its own class and of no other.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// What kind of sleep a call risks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Making, starting and removing containers.
    Lifecycle,
    /// Copying into and out of containers, reading logs, walking trees.
    Files,
    /// Unpacking and packing images.
    Images,
    /// Reading the host: cgroups, processes, disks.
    Host,
    /// Interfaces, the firewall, the net helper.
    Network,
    /// Volumes: their plugins and file servers.
    Volumes,
}

/// The pools; cheap to clone.
#[derive(Debug, Clone)]
pub struct Pools {
    lifecycle: Arc<Semaphore>,
    files: Arc<Semaphore>,
    images: Arc<Semaphore>,
    host: Arc<Semaphore>,
    network: Arc<Semaphore>,
    volumes: Arc<Semaphore>,
}

impl Default for Pools {
    fn default() -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        Self {
            lifecycle: of(128),
            files: of(64),
            images: of(16),
            host: of(32),
            network: of(32),
            volumes: of(64),
        }
    }
}

impl Pools {
    /// Runs `work` on a thread that may sleep, once its class has room.
    pub async fn run<T, F>(&self, class: Class, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let class = match class {
            Class::Lifecycle => &self.lifecycle,
            Class::Files => &self.files,
            Class::Images => &self.images,
            Class::Host => &self.host,
            Class::Network => &self.network,
            Class::Volumes => &self.volumes,
        };
        let permit =
            class.clone().acquire_owned().await.map_err(|_| Error::unavailable("the engine is closing"))?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|error| Error::internal(format!("worker: {error}")))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_class_does_not_hold_up_another() {
        let pools = Pools { host: Arc::new(Semaphore::new(1)), ..Pools::default() };
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hung = pools.clone();
        let first = tokio::spawn(async move {
            hung.run(Class::Host, move || {
                let _ = hang.recv();
                Ok(1)
            })
            .await
        });
        assert_eq!(pools.run(Class::Files, || Ok(2)).await, Ok(2));
        drop(release);
        assert_eq!(first.await.unwrap(), Ok(1));
        assert_eq!(pools.run(Class::Host, || Ok(3)).await, Ok(3));
    }
}
