//! Who one is to a registry.

use std::fmt;

/// Credentials for one registry. They are sent to that registry and to the token server it names, never to a mirror and
/// never along a redirect.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    #[default]
    Anonymous,
    /// Name and password.
    Password {
        /// Name.
        username: String,
        /// Password or personal token.
        password: String,
    },
    /// An identity (refresh) token that an earlier login gave.
    Identity {
        /// Name it was given for; may be empty.
        username: String,
        /// The token.
        token: String,
    },
    /// A bearer token for the registry itself, passed on as it is (`registrytoken` of `X-Registry-Auth`).
    Bearer(String),
}

impl fmt::Debug for Credentials {
    /// Names only: secrets do not go to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Password { username, .. } => write!(f, "Password({username})"),
            Self::Identity { username, .. } => write!(f, "Identity({username})"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}
