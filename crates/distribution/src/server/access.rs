//! Who is let in: names and bcrypt hashes of a file as `htpasswd -B` writes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// How long a password that was right is not hashed again: a push is dozens of requests, a hash takes a tenth of a second.
const REMEMBERED: Duration = Duration::from_secs(300);
/// How many right passwords are remembered.
const REMEMBERED_LIMIT: usize = 1024;
/// How many passwords are hashed at once: guessing must not take all processors.
const AT_ONCE: usize = 2;
/// The largest file of names that is read, in bytes.
const FILE_LIMIT: u64 = 16 << 20;

/// The file of names, and what is known of it.
#[derive(Debug)]
pub(crate) struct Access {
    path: PathBuf,
    users: RwLock<Arc<HashMap<String, String>>>,
    /// Keyed digests of name and password that were right, until when.
    right: Mutex<HashMap<[u8; 32], Instant>>,
    key: [u8; 32],
    hashing: Semaphore,
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Let in, under this name.
    As(String),
    /// Must say who it is, or said something wrong.
    Refused,
}

impl Access {
    /// Reads the file.
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        let mut key = [0; 32];
        rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
        let users = RwLock::new(Arc::new(read(path)?));
        let right = Mutex::default();
        Ok(Self { path: path.to_owned(), users, right, key, hashing: Semaphore::new(AT_ONCE) })
    }

    /// Reads the file again; what was remembered is forgotten.
    pub(crate) fn reload(&self) -> std::io::Result<()> {
        let users = Arc::new(read(&self.path)?);
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users;
        self.right.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Decides by a request's `Authorization` header.
    pub(crate) async fn check(&self, header: Option<&str>) -> Entry {
        let Some((name, password)) = header.and_then(basic) else { return Entry::Refused };
        let token = self.token(&name, &password);
        if self.is_remembered(&token) {
            return Entry::As(name);
        }
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner).clone();
        // A name that is not there costs as much as a wrong password, so that names cannot be found out.
        let hash = users.get(&name).cloned().unwrap_or_else(|| NOBODY.to_owned());
        let known = users.contains_key(&name);
        let Ok(_turn) = self.hashing.acquire().await else { return Entry::Refused };
        let verify = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(verify).await.unwrap_or(false);
        if !(right && known) {
            return Entry::Refused;
        }
        self.remember(token);
        Entry::As(name)
    }

    fn token(&self, name: &str, password: &str) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.key);
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(password);
        hasher.finalize().into()
    }

    fn is_remembered(&self, token: &[u8; 32]) -> bool {
        let right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        right.get(token).is_some_and(|until| *until > Instant::now())
    }

    fn remember(&self, token: [u8; 32]) {
        let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if right.len() >= REMEMBERED_LIMIT {
            right.retain(|_, until| *until > now);
        }
        if right.len() < REMEMBERED_LIMIT {
            right.insert(token, now + REMEMBERED);
        }
    }
}

/// A hash that no password is known for, at the cost `htpasswd -B` uses.
const NOBODY: &str = "$2y$05$aaaaaaaaaaaaaaaaaaaaaOVXKMOTzJyRKKBvCWZRsu3G1pDpQKXlu";

/// The name and password of a `Basic` header (RFC 7617).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > 4096 {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> std::io::Result<HashMap<String, String>> {
    if std::fs::metadata(path)?.len() > FILE_LIMIT {
        return Err(std::io::Error::other("the file is too large"));
    }
    parse(&std::fs::read_to_string(path)?).map_err(std::io::Error::other)
}

/// Lines `NAME:HASH`; comments and empty lines are passed over, hashes other than bcrypt's are refused by line.
fn parse(text: &str) -> Result<HashMap<String, String>, String> {
    let mut users = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, hash) =
            line.split_once(':').ok_or_else(|| format!("line {}: there is no colon", at + 1))?;
        let bcrypt = ["$2y$", "$2b$", "$2a$"].iter().any(|prefix| hash.starts_with(prefix));
        if !bcrypt || hash.len() != 60 {
            return Err(format!("line {}: the hash of {name} is not bcrypt's (htpasswd -B)", at + 1));
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_right_passwords_are_let_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        std::fs::write(&path, format!("# people\nada:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
        let access = Access::open(&path).unwrap();
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let check = async |text: Option<&str>| access.check(text).await;
        assert_eq!(check(Some(&header("ada:secret"))).await, Entry::As("ada".to_owned()));
        assert_eq!(check(Some(&header("ada:secret"))).await, Entry::As("ada".to_owned()));
        for wrong in ["ada:wrong", "bob:secret", "ada", ":", "ada:secret "] {
            assert_eq!(check(Some(&header(wrong))).await, Entry::Refused, "{wrong}");
        }
        assert_eq!(check(None).await, Entry::Refused);
        assert_eq!(check(Some("Bearer x")).await, Entry::Refused);
        std::fs::write(&path, "").unwrap();
        access.reload().unwrap();
        assert_eq!(check(Some(&header("ada:secret"))).await, Entry::Refused);
    }

    #[test]
    fn other_hashes_are_refused_by_line() {
        assert_eq!(parse("\na:{SHA}x").unwrap_err(), "line 2: the hash of a is not bcrypt's (htpasswd -B)");
        assert!(parse("a").is_err());
        assert!(bcrypt::verify("x", NOBODY).is_ok());
    }
}
