//! Archives that come with one request, for the build that another one asks for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use wharf_engine::{ByteStream, Error, Result};

use crate::buildkit::session::Given;

/// How long an archive and its build wait for one another: the client sends both requests at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// All archives that nobody has taken yet, by the build's id.
#[derive(Debug, Default)]
pub(in crate::buildkit) struct Uploads {
    waiting: Mutex<HashMap<String, Waiting>>,
    changed: Notify,
}

#[derive(Debug)]
struct Waiting {
    archive: Given,
    taken: oneshot::Sender<()>,
}

/// An archive that goes again when nobody takes it.
struct Offered<'a> {
    uploads: &'a Uploads,
    id: &'a str,
}

impl Drop for Offered<'_> {
    fn drop(&mut self) {
        self.uploads.lock().remove(self.id);
    }
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        // Whole entries only.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an archive to the build of an id; returns when that has read it.
    ///
    /// # Errors
    /// When no such build asks for it.
    pub(super) async fn give(&self, id: &str, body: ByteStream) -> Result<()> {
        let (taken, is_taken) = oneshot::channel();
        let (read, is_read) = oneshot::channel();
        let offered = {
            let mut waiting = self.lock();
            if waiting.contains_key(id) {
                return Err(Error::invalid(format!("the context of build {id} is there already")));
            }
            let archive = Given { body, read: Some(read) };
            waiting.insert(id.to_owned(), Waiting { archive, taken });
            Offered { uploads: self, id }
        };
        self.changed.notify_waiters();
        let taken = tokio::time::timeout(PATIENCE, is_taken).await;
        drop(offered);
        if !matches!(taken, Ok(Ok(()))) {
            return Err(late());
        }
        // The sender is dropped with the archive.
        let _ended = is_read.await;
        Ok(())
    }

    /// The archive for the build of an id; waits for one that is just coming.
    ///
    /// # Errors
    /// When none comes.
    pub(super) async fn take(&self, id: &str) -> Result<Given> {
        let looked = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                let found = self.lock().remove(id);
                if let Some(Waiting { archive, taken }) = found
                    && taken.send(()).is_ok()
                {
                    return archive;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, looked).await.map_err(|_| late())
    }
}

fn late() -> Error {
    Error::internal("context deadline exceeded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_archive_and_its_build_find_one_another_in_either_order() {
        let uploads = Uploads::default();
        let taken = async {
            let mut archive = uploads.take("one").await.unwrap();
            archive.body.next().await.unwrap().unwrap()
        };
        let given = uploads.give("one", ByteStream::from(bytes::Bytes::from_static(b"x")));
        let (bytes, given) = tokio::join!(taken, given);
        assert_eq!((&bytes[..], given.is_ok()), (&b"x"[..], true));

        let given = uploads.give("two", ByteStream::empty());
        let taken = async { uploads.take("two").await.map(drop) };
        let (given, taken) = tokio::join!(given, taken);
        assert!(given.is_ok() && taken.is_ok());
        assert!(uploads.lock().is_empty());
    }

    #[tokio::test]
    async fn an_archive_that_its_client_gave_up_is_gone() {
        let uploads = Uploads::default();
        let given = uploads.give("one", ByteStream::empty());
        assert!(tokio::time::timeout(Duration::from_millis(1), given).await.is_err());
        assert!(uploads.lock().is_empty());
    }
}
