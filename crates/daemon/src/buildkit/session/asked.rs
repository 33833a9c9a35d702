//! What a build asks of its client.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use bollard_buildkit_proto::moby::filesync::v1::CredentialsRequest;
use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use tokio::runtime::Handle;
use tonic::Code;
use wharf_build::solve::{Cancel, LocalRequest};
use wharf_engine::build::mirror::{Mirror, MirrorKey, Mirrors};
use wharf_engine::build::{BlobSink, BlobSource, Client, Files, SshSocket, Transfer};
use wharf_engine::registry::RegistryCredentials;
use wharf_oci::Digest;

use super::{Given, Session, content, files, ssh, upload};
use crate::buildkit::BuildKit;

/// How often a call looks whether its build was ended.
const LOOK: Duration = Duration::from_millis(20);

/// The longest secret, in bytes; BuildKit's own limit.
const LONGEST_SECRET: usize = 500 << 10;

/// Names of directories that are archives a client sends begin with this.
pub(in crate::buildkit) const UPLOAD: &str = "upload:";

/// Stands between the name of a directory and the session that has it, where that is another one.
pub(in crate::buildkit) const OF_SESSION: char = '\u{1}';

/// The client of a build.
pub(in crate::buildkit) struct Asked {
    state: Arc<BuildKit>,
    session: Option<Arc<Session>>,
    /// Directories that another session of the same client has, by name.
    elsewhere: Mutex<HashMap<String, String>>,
    /// Archives that came, which come but once.
    uploads: Mutex<HashMap<String, Arc<Mirror>>>,
    /// Archives that came with a request, until they are read.
    given: Mutex<HashMap<String, Given>>,
    cancel: Arc<Cancel>,
    runtime: Handle,
}

impl Asked {
    /// The client at the other end of a session; without one it has nothing. On a thread of the runtime.
    pub(in crate::buildkit) fn new(
        state: Arc<BuildKit>,
        session: Option<Arc<Session>>,
        cancel: Arc<Cancel>,
    ) -> Self {
        Self {
            state,
            session,
            elsewhere: Mutex::default(),
            uploads: Mutex::default(),
            given: Mutex::default(),
            cancel,
            runtime: Handle::current(),
        }
    }

    /// A directory is had from another session.
    pub(in crate::buildkit) fn elsewhere(&self, name: &str, session: &str) {
        // Whole entries only.
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.insert(name.to_owned(), session.to_owned());
    }

    /// The session that has a directory.
    pub(in crate::buildkit) fn session_of(&self, name: &str) -> Option<String> {
        let elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.get(name).cloned().or_else(|| Some(self.session.as_ref()?.about.id.clone()))
    }

    /// The client's archive of a name came with a request.
    pub(in crate::buildkit) fn give(&self, name: &str, archive: Given) {
        self.given().insert(name.to_owned(), archive);
    }

    fn given(&self) -> MutexGuard<'_, HashMap<String, Given>> {
        // Whole entries only.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn upload(&self, id: &str, progress: &dyn Fn(Transfer)) -> Result<Files, String> {
        // Held while it comes: who else wants it waits.
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let mirror = match uploads.get(id) {
            Some(mirror) => mirror.clone(),
            None => {
                let given = self.given().remove(id);
                let came = match given {
                    Some(given) => self.wait(None, upload::read(given, self.mirrors(), progress)),
                    None => {
                        let session = self.session()?;
                        self.wait(Some(session), upload::receive(session, id, self.mirrors(), progress))
                    }
                }?;
                uploads.entry(id.to_owned()).or_insert(Arc::new(came)).clone()
            }
        };
        Ok(Files { path: mirror.path().to_owned(), held: Box::new(mirror) })
    }

    /// The client's own session.
    pub(in crate::buildkit) fn own_session(&self) -> Option<Arc<Session>> {
        self.session.clone()
    }

    fn session(&self) -> Result<&Arc<Session>, String> {
        self.session.as_ref().ok_or_else(|| "no active session of the client".to_owned())
    }

    fn mirrors(&self) -> &Arc<Mirrors> {
        &self.state.mirrors
    }

    /// Waits for a call, no longer than its build and the client at the other end of its session are there.
    fn wait<T>(
        &self,
        session: Option<&Arc<Session>>,
        call: impl Future<Output = Result<T, String>>,
    ) -> Result<T, String> {
        let gone = async {
            match session {
                Some(session) => session.ended().await,
                None => std::future::pending().await,
            }
        };
        let canceled = async {
            while !self.cancel.is_set() {
                tokio::time::sleep(LOOK).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = call => done,
                () = gone => Err("the client is gone".to_owned()),
                () = canceled => Err("context canceled".to_owned()),
            }
        })
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Asked").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Client for Asked {
    fn local(&self, request: &LocalRequest<'_>, progress: &dyn Fn(Transfer)) -> Result<Files, String> {
        if let Some(upload) = request.name.strip_prefix(UPLOAD) {
            return self.upload(upload, progress);
        }
        let own = self.session()?;
        let (name, session) = match request.name.split_once(OF_SESSION) {
            Some((name, session)) => (name, Some(session.to_owned())),
            None => (request.name, self.session_of(request.name)),
        };
        let session = match session {
            Some(id) if id != own.about.id => {
                let found = self.wait(Some(own), async { Ok(self.state.sessions.find(&id).await) })?;
                found.ok_or_else(|| format!("no active session for {id}"))?
            }
            _ => own.clone(),
        };
        let request = LocalRequest { name, ..*request };
        // Whoever leads the build knows its directories over several sessions, whichever session has them this time.
        let shared =
            [&own.about.shared_key, &session.about.shared_key].into_iter().find(|key| !key.is_empty());
        let key = key(shared, &request);
        let mut mirror = self.mirrors().take(key).map_err(|error| error.to_string())?;
        self.wait(Some(&session), files::transfer(&session, &request, &mut mirror, progress))?;
        Ok(Files { path: mirror.path().to_owned(), held: Box::new(mirror) })
    }

    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        let session = self.session()?;
        let mut client = SecretsClient::new(session.caller());
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        self.wait(Some(session), async {
            match client.get_secret(request).await {
                Ok(answer) => {
                    let data = answer.into_inner().data;
                    if data.len() > LONGEST_SECRET {
                        return Err(format!("invalid secret size {}", data.len()));
                    }
                    Ok(Some(data))
                }
                Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => Ok(None),
                Err(status) => Err(status.message().to_owned()),
            }
        })
    }

    fn ssh(&self, id: &str, uid: u32, gid: u32, mode: u32) -> Result<Option<SshSocket>, String> {
        let session = self.session()?;
        let id = if id.is_empty() { "default" } else { id };
        let top = self.state.engine.config.exec_root.join("ssh");
        self.wait(Some(session), async {
            let owner = ssh::Owner { uid, gid, mode };
            if ssh::is_forwarded(session, id).await? {
                ssh::forward(session, id, &top, owner).map(Some)
            } else {
                Ok(None)
            }
        })
    }

    fn read_blob(&self, store: &str, digest: &Digest, into: &mut dyn BlobSink) -> Result<(), String> {
        let session = self.session()?;
        self.wait(Some(session), content::read(session, store, digest, into))
    }

    fn write_blob(
        &self,
        store: &str,
        digest: &Digest,
        size: u64,
        from: &mut dyn BlobSource,
    ) -> Result<(), String> {
        let session = self.session()?;
        self.wait(Some(session), content::write(session, store, digest, size, from))
    }

    fn credentials(&self, host: &str) -> RegistryCredentials {
        let Ok(session) = self.session() else { return RegistryCredentials::Anonymous };
        // The name that Docker's clients keep those of Docker Hub under.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let mut client = AuthClient::new(session.caller());
        let request = CredentialsRequest { host: host.to_owned() };
        let asked = self.wait(Some(session), async {
            client.credentials(request).await.map_err(|status| status.message().to_owned())
        });
        match asked {
            Ok(answer) => {
                let answer = answer.into_inner();
                match (answer.username.is_empty(), answer.secret.is_empty()) {
                    (_, true) => RegistryCredentials::Anonymous,
                    (true, false) => {
                        RegistryCredentials::Identity { username: String::new(), token: answer.secret }
                    }
                    (false, false) => {
                        RegistryCredentials::Password { username: answer.username, password: answer.secret }
                    }
                }
            }
            Err(error) => {
                tracing::debug!("credentials for {host}: {error}");
                RegistryCredentials::Anonymous
            }
        }
    }
}

/// What a copy of a directory is known by: the client's own name for it, else it is made new each time.
fn key(shared: Option<&String>, request: &LocalRequest<'_>) -> MirrorKey {
    let directory = shared.map(|shared| format!("{shared}\0{}", request.name));
    let lists = [request.include, request.exclude, request.follow];
    let part = lists.iter().fold(request.name.to_owned(), |part, list| part + "\0\0" + &list.join("\0"));
    MirrorKey { directory, part }
}
