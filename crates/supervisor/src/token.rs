//! What a readiness is about, packed into the number that epoll keeps.

use crate::log::Stream;

/// Whose readiness it is: a kind of descriptor, and the session, connection or client it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) topic: Topic,
    pub(crate) number: u32,
}

/// Kinds of descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    Signals,
    Listener,
    Connection,
    Report,
    Output(Stream),
    Stdin,
    Client,
    /// The pidfd of a process that is not this supervisor's child.
    Adopted,
    /// The kernel lacked memory for the container.
    Oom,
}

const TOPICS: [Topic; 10] = [
    Topic::Signals,
    Topic::Listener,
    Topic::Connection,
    Topic::Report,
    Topic::Output(Stream::Stdout),
    Topic::Output(Stream::Stderr),
    Topic::Stdin,
    Topic::Client,
    Topic::Adopted,
    Topic::Oom,
];

impl Token {
    pub(crate) fn encode(self) -> u64 {
        let place = TOPICS.iter().position(|topic| *topic == self.topic).unwrap_or(TOPICS.len());
        (place as u64) << 32 | u64::from(self.number)
    }

    pub(crate) fn decode(code: u64) -> Option<Self> {
        let topic = *TOPICS.get(usize::try_from(code >> 32).ok()?)?;
        // The lower half is the number.
        Some(Self { topic, number: (code & u64::from(u32::MAX)) as u32 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        for topic in TOPICS {
            for number in [0, 7, u32::MAX] {
                let token = Token { topic, number };
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
        assert_eq!(Token::decode(u64::MAX), None);
    }
}
