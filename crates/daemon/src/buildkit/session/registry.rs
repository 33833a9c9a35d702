//! Which sessions there are.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::moby::sshforward::v1::CheckAgentRequest;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};

use super::About;
use wharf_api::rpc::Caller;

/// How long a call waits for the session that it names: the client opens both at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// All sessions.
#[derive(Debug, Default)]
pub(in crate::buildkit) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    changed: Notify,
}

/// A client that may be called.
#[derive(Debug)]
pub(in crate::buildkit) struct Session {
    pub(in crate::buildkit) about: About,
    caller: Caller,
    /// Turns true when the connection ends.
    ended: watch::Receiver<bool>,
}

impl Session {
    /// For calls to the client.
    pub(in crate::buildkit) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    /// Waits until the client answers calls: a connection that stands is not to say that somebody serves it yet.
    pub(in crate::buildkit) async fn answers(&self) {
        let mut client = SshClient::new(self.caller());
        let asked = CheckAgentRequest { id: String::new() };
        // Any answer will do, also that it knows no such call.
        let _answer = tokio::time::timeout(PATIENCE, client.check_agent(asked)).await;
    }

    /// Resolves when the client is gone.
    pub(in crate::buildkit) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        // An error says that the sender is gone, and with it the connection.
        async move { drop(ended.wait_for(|ended| *ended).await) }
    }
}

impl Sessions {
    /// Keeps a session for as long as its connection stands.
    pub(in crate::buildkit) async fn run<S>(&self, about: About, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (caller, connection) = match Caller::connect(stream).await {
            Ok(connected) => connected,
            Err(error) => {
                tracing::debug!("session {}: {error}", about.id);
                return;
            }
        };
        let (end, ended) = watch::channel(false);
        let id = about.id.clone();
        let session = Arc::new(Session { about, caller, ended });
        self.lock().insert(id.clone(), session.clone());
        self.changed.notify_waiters();
        if let Err(error) = connection.await {
            tracing::debug!("session {id}: {error}");
        }
        end.send_replace(true);
        let mut open = self.lock();
        if open.get(&id).is_some_and(|other| Arc::ptr_eq(other, &session)) {
            open.remove(&id);
        }
    }

    /// The session of an id; waits for one that is just being opened.
    pub(in crate::buildkit) async fn find(&self, id: &str) -> Option<Arc<Session>> {
        let looked = async {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                if let Some(found) = self.lock().get(id) {
                    return found.clone();
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, looked).await.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        // A map of handles is whole whatever panicked.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
