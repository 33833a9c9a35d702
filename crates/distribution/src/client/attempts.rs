//! When to try again, and when not to.

use std::time::Duration;

use super::config::{Config, Patience};
use super::error::{Error, TransportError};

/// The attempts at one thing.
#[derive(Debug)]
pub(crate) struct Attempts {
    made: u32,
    most: u32,
    patience: Patience,
}

impl Attempts {
    pub(crate) fn new(config: &Config) -> Self {
        Self { made: 1, most: config.attempts.max(1), patience: config.patience.clone() }
    }

    /// How long to wait before the next attempt, the last one having ended with `error`; `None` when it makes no sense or
    /// was the last.
    pub(crate) fn next(&mut self, error: &Error) -> Option<Duration> {
        if self.made >= self.most || !passes(error) {
            return None;
        }
        let doubled = self.patience.backoff.saturating_mul(1 << (self.made - 1).min(16));
        self.made += 1;
        let pause = doubled.min(self.patience.backoff_limit);
        let asked = match error {
            Error::Refused(refusal) => refusal.retry_after,
            _ => None,
        };
        match asked {
            // Whoever asks for an hour gets an error now instead.
            Some(asked) if asked > self.patience.backoff_limit => None,
            Some(asked) => Some(asked.max(pause)),
            None => Some(pause),
        }
    }

    /// The number of the attempt under way, from 1.
    pub(crate) const fn number(&self) -> u32 {
        self.made
    }

    /// Counts anew: something was got done.
    pub(crate) const fn progressed(&mut self) {
        self.made = 1;
    }
}

/// Whether an error may be gone by itself soon. A registry that is not there is not waited for.
fn passes(error: &Error) -> bool {
    match error {
        Error::Refused(refusal) => matches!(refusal.status, 408 | 429 | 500 | 502 | 503 | 504),
        Error::Request { source, .. } => match source {
            TransportError::Closed
            | TransportError::Cut
            | TransportError::Io(_)
            | TransportError::Timeout(_) => true,
            TransportError::Token(cause) => passes(cause),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::error::{ErrorCode, Refusal};

    fn refusal(status: u16, retry_after: Option<u64>) -> Error {
        Error::Refused(Refusal {
            status,
            errors: vec![ErrorCode::Bare("x".to_owned())],
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    #[test]
    fn pauses_double_up_to_the_last_attempt() {
        let mut attempts = Attempts::new(&Config { attempts: 4, ..Config::default() });
        let pauses: Vec<_> = (0..4).map(|_| attempts.next(&refusal(503, None))).collect();
        let millis = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pauses, [millis(500), millis(1000), millis(2000), None]);
    }

    #[test]
    fn the_registry_may_ask_for_more_but_not_for_hours() {
        let mut attempts = Attempts::new(&Config::default());
        assert_eq!(attempts.next(&refusal(429, Some(7))), Some(Duration::from_secs(7)));
        assert_eq!(attempts.next(&refusal(429, Some(3600))), None);
        assert_eq!(attempts.next(&refusal(404, None)), None);
    }
}
