//! What is answered here, what is passed on, and what is refused.

use super::message::{Code, Kind, Query, Record, reversed};
use super::record::Names;
use super::table::{Found, Table};

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This is the answer; addresses still in order.
    Answer(Code, Vec<Record>),
    /// Other name servers are asked.
    Forward,
}

/// Decides a question of `owner`.
pub(crate) fn decide(table: &Table, owner: &str, query: &Query) -> Decision {
    let Some(asker) = table.names(owner) else {
        return Decision::Answer(Code::ServerFailure, Vec::new());
    };
    let nothing = || Decision::Answer(Code::NoError, Vec::new());
    if let Some(name) = query.name.as_deref() {
        let records = match query.kind {
            Kind::A | Kind::Aaaa => match table.resolve(owner, name, query.kind == Kind::Aaaa) {
                Found::Addresses(addresses) => Some(addresses.into_iter().map(Record::Address).collect()),
                Found::Unknown => None,
            },
            Kind::Ptr => reversed(name)
                .and_then(|address| table.reverse(owner, address))
                .map(|name| vec![Record::Name(name)]),
            // Names with dots may be aliases of names of the world, whose other records are there.
            Kind::Other if name.contains('.') => None,
            Kind::Mx | Kind::Other => match table.resolve(owner, name, false) {
                Found::Addresses(_) => Some(Vec::new()),
                Found::Unknown => None,
            },
        };
        if let Some(records) = records {
            return Decision::Answer(Code::NoError, records);
        }
        // The client adds a search domain and asks again.
        if asker.ndots && matches!(query.kind, Kind::A | Kind::Aaaa) && !name.contains('.') {
            return nothing();
        }
    }
    if may_ask_outside(asker) { Decision::Forward } else { Decision::Answer(Code::ServerFailure, Vec::new()) }
}

/// Whether the container is in a network that has an outside.
fn may_ask_outside(asker: &Names) -> bool {
    asker.endpoints.iter().any(|endpoint| !endpoint.internal)
}

#[cfg(test)]
mod tests {
    use super::super::message::parse;
    use super::super::record::Endpoint;
    use super::*;

    fn ask(table: &Table, owner: &str, name: &str, kind: u8) -> Decision {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.extend_from_slice(&[0, 0, kind, 0, 1]);
        decide(table, owner, &parse(&message).unwrap())
    }

    fn table(internal: bool, ndots: bool) -> Table {
        let endpoint = Endpoint {
            network: "n".into(),
            network_name: "net".into(),
            internal,
            addresses: vec!["10.0.0.2".parse().unwrap()],
            names: vec!["web".into(), "api.example.com".into()],
        };
        let mut table = Table::default();
        table.set("a", Names { endpoints: vec![endpoint], ndots, ..Names::default() });
        table
    }

    fn no_error(records: Vec<Record>) -> Decision {
        Decision::Answer(Code::NoError, records)
    }

    const SERVFAIL: Decision = Decision::Answer(Code::ServerFailure, Vec::new());
    const A: u8 = 1;
    const PTR: u8 = 12;
    const MX: u8 = 15;
    const TXT: u8 = 16;
    const AAAA: u8 = 28;
    const HTTPS: u8 = 65;

    #[test]
    fn known_names_are_answered_in_full() {
        let table = table(false, false);
        let address = vec![Record::Address("10.0.0.2".parse().unwrap())];
        assert_eq!(ask(&table, "a", "WEB", A), no_error(address.clone()));
        assert_eq!(ask(&table, "a", "api.example.com", A), no_error(address));
        for kind in [AAAA, MX, TXT, HTTPS] {
            assert_eq!(ask(&table, "a", "web", kind), no_error(vec![]), "{kind}");
        }
        assert_eq!(ask(&table, "a", "api.example.com", TXT), Decision::Forward);
        let name = vec![Record::Name("web.net".into())];
        assert_eq!(ask(&table, "a", "2.0.0.10.in-addr.arpa", PTR), no_error(name));
        assert_eq!(ask(&table, "a", "3.0.0.10.in-addr.arpa", PTR), Decision::Forward);
    }

    #[test]
    fn who_is_cut_off_is_told_nothing_of_the_outside() {
        assert_eq!(ask(&table(false, false), "a", "example.com", A), Decision::Forward);
        let inside = table(true, false);
        assert_eq!(ask(&inside, "a", "example.com", A), SERVFAIL);
        assert_eq!(ask(&inside, "a", "example.com", TXT), SERVFAIL);
        assert_eq!(ask(&inside, "a", "3.0.0.10.in-addr.arpa", PTR), SERVFAIL);
        assert_eq!(ask(&inside, "unknown", "web", A), SERVFAIL);
    }

    #[test]
    fn ndots_keeps_bare_names_inside() {
        let table = table(false, true);
        assert_eq!(ask(&table, "a", "other", A), no_error(vec![]));
        assert_eq!(ask(&table, "a", "other", TXT), Decision::Forward);
        assert_eq!(ask(&table, "a", "other.net", A), Decision::Forward);
    }
}
