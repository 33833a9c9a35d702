//! What a client says of its session.

use std::collections::BTreeSet;

use hyper::HeaderMap;
use wharf_engine::{Error, Result};

/// The longest id or name that is taken, in bytes.
const LONGEST: usize = 256;

/// The most methods a session may offer.
const MOST_METHODS: usize = 256;

/// What a client says of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::buildkit) struct About {
    /// Names the session in what is asked later.
    pub(in crate::buildkit) id: String,
    /// Names the client's directories over several sessions; empty: they are not the same next time.
    pub(in crate::buildkit) shared_key: String,
    /// The paths of the calls that it answers, in lower case, as Go's clients compare them.
    pub(in crate::buildkit) methods: BTreeSet<String>,
}

impl About {
    /// Reads the headers of a request, or the metadata of a call, which have the same names.
    pub(in crate::buildkit) fn from_headers(headers: &HeaderMap) -> Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let id = text("x-docker-expose-session-uuid");
        let shared_key = text("x-docker-expose-session-sharedkey");
        if id.is_empty() || id.len() > LONGEST || shared_key.len() > LONGEST * 16 {
            return Err(Error::invalid("the session has no id, or one that is too long"));
        }
        let methods = headers.get_all("x-docker-expose-session-grpc-method");
        let methods = methods.iter().take(MOST_METHODS).filter_map(|value| value.to_str().ok());
        Ok(Self {
            id: id.to_owned(),
            shared_key: shared_key.to_owned(),
            methods: methods.map(str::to_lowercase).collect(),
        })
    }

    /// Whether a call is answered: `/moby.filesync.v1.FileSync/DiffCopy`.
    pub(in crate::buildkit) fn answers(&self, method: &str) -> bool {
        self.methods.contains(&method.to_lowercase())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_a_session_and_what_it_answers() {
        let mut headers = HeaderMap::new();
        assert!(About::from_headers(&headers).is_err());
        headers.insert("x-docker-expose-session-uuid", "one".parse().unwrap());
        for method in ["/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.Auth/Credentials"] {
            headers.append("x-docker-expose-session-grpc-method", method.parse().unwrap());
        }
        let about = About::from_headers(&headers).unwrap();
        assert_eq!((about.id.as_str(), about.methods.len()), ("one", 2));
        assert!(about.answers("/moby.filesync.v1.filesync/diffcopy"));
        assert!(!about.answers("/moby.buildkit.secrets.v1.Secrets/GetSecret"));
    }
}
