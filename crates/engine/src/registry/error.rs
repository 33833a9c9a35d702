//! What a registry's refusal means to whoever asked the engine.

use wharf_distribution::client::{self, Kind};

use crate::error::{Error, ErrorKind};

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        let kind = match error.kind() {
            Kind::NotFound => ErrorKind::NotFound,
            Kind::Unauthorized => ErrorKind::Unauthorized,
            Kind::Denied => ErrorKind::Forbidden,
            // As Docker has it: what is wrong out there is no fault of the request.
            Kind::RateLimited | Kind::Unavailable | Kind::Hostile | Kind::Unsupported | Kind::Local => {
                ErrorKind::Internal
            }
        };
        Self::new(kind, error.to_string())
    }
}
