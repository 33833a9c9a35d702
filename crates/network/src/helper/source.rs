//! What a watched descriptor is.

use super::slots::Key;

/// Where news comes from, as the number that the kernel gives back with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Daemons that connect.
    Listener,
    /// A daemon.
    Daemon(Key),
    /// The name table's directory.
    Names,
    /// The resolver's UDP socket of a namespace.
    Questions(Key),
    /// The resolver's TCP socket of a namespace.
    Callers(Key),
    /// A client of a resolver over TCP.
    Caller(Key),
    /// A question that was passed on, by the number of the server.
    Upstream(Key, u8),
    /// A held TCP port with a relay.
    RelayListener(Key),
    /// A relayed connection: the client's side, or the container's.
    Relayed(Key, u8),
    /// A held UDP port with a relay.
    RelaySocket(Key),
    /// The container's side of a UDP client of a relay.
    RelayPeer(Key),
}

impl Source {
    pub(crate) fn token(self) -> u64 {
        let (kind, extra, key) = match self {
            Self::Listener => (0, 0, None),
            Self::Daemon(key) => (1, 0, Some(key)),
            Self::Names => (2, 0, None),
            Self::Questions(key) => (3, 0, Some(key)),
            Self::Callers(key) => (4, 0, Some(key)),
            Self::Caller(key) => (5, 0, Some(key)),
            Self::Upstream(key, server) => (6, server, Some(key)),
            Self::RelayListener(key) => (7, 0, Some(key)),
            Self::Relayed(key, side) => (8, side, Some(key)),
            Self::RelaySocket(key) => (9, 0, Some(key)),
            Self::RelayPeer(key) => (10, 0, Some(key)),
        };
        u64::from(kind as u8) << 56 | u64::from(extra) << 48 | key.map_or(0, Key::to_bits)
    }

    /// `None`: no number of ours.
    pub(crate) fn of(token: u64) -> Option<Self> {
        let key = Key::from_bits(token);
        let extra = (token >> 48) as u8;
        Some(match token >> 56 {
            0 => Self::Listener,
            1 => Self::Daemon(key),
            2 => Self::Names,
            3 => Self::Questions(key),
            4 => Self::Callers(key),
            5 => Self::Caller(key),
            6 => Self::Upstream(key, extra),
            7 => Self::RelayListener(key),
            8 => Self::Relayed(key, extra),
            9 => Self::RelaySocket(key),
            10 => Self::RelayPeer(key),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_back() {
        let key = Key::from_bits(0xBEEF_0000_0007);
        for source in [
            Source::Listener,
            Source::Names,
            Source::Daemon(key),
            Source::Questions(key),
            Source::Callers(key),
            Source::Caller(key),
            Source::Upstream(key, 2),
            Source::RelayListener(key),
            Source::Relayed(key, 1),
            Source::RelaySocket(key),
            Source::RelayPeer(key),
        ] {
            assert_eq!(Source::of(source.token()), Some(source));
        }
        assert_eq!(Source::of(u64::MAX), None);
    }
}
