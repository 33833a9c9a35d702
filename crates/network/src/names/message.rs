//! The little of DNS messages (RFC 1035, RFC 6891) that a resolver needs which answers addresses and passes
//! on the rest as it came: the question is read, nothing else is believed or kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The largest message over TCP.
pub const MAX_MESSAGE: usize = 65535;
/// The largest answer over UDP to who does not say what he takes.
const PLAIN_UDP: usize = 512;
/// The largest answer over UDP to anyone: what reaches every loopback in one piece.
const LARGEST_UDP: usize = 16 * 1024;
/// How long a client may keep an address, in seconds; as Docker's.
const TTL: u32 = 600;
/// What is said of the size of messages taken over UDP, in an answer to who told his.
const OUR_UDP_SIZE: u16 = 4096;
/// More records than that behind a question are not looked through.
const MOST_RECORDS: u16 = 16;

const HEADER: usize = 12;
const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;

/// What a question is for (RFC 1035, 3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The name of an address.
    Ptr,
    /// Where mail goes.
    Mx,
    /// Anything else, and all of other classes than the Internet's.
    Other,
}

/// How an answer ends (RFC 1035, 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// This is the answer, be it an empty one.
    NoError = 0,
    /// The question could not be read.
    FormatError = 1,
    /// Nobody could be asked, or none answered.
    ServerFailure = 2,
    /// It was no question.
    NotImplemented = 4,
}

/// A question, as far as it is understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Query {
    /// In lower case, without the last dot. `None`: a name that none here can have.
    pub name: Option<String>,
    /// What is asked about it.
    pub kind: Kind,
    /// Where the question ends.
    end: usize,
    /// The size of messages the client takes over UDP, if he said (EDNS).
    edns: Option<u16>,
}

/// A message that is no question to be answered or passed on; what to say to it, if anything.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad(pub Option<Code>);

/// Reads the question.
///
/// # Errors
/// [`Bad`] for everything that is no question.
pub fn parse(message: &[u8]) -> Result<Query, Bad> {
    // An answer is never answered: two resolvers would go on for ever.
    if message.len() < HEADER || message[2] & RESPONSE != 0 {
        return Err(Bad(None));
    }
    if message[2] & OPCODE != 0 {
        return Err(Bad(Some(Code::NotImplemented)));
    }
    if number(message, 4) != Some(1) {
        return Err(Bad(Some(Code::FormatError)));
    }
    let malformed = Bad(Some(Code::FormatError));
    let (name, after) = read_name(message).ok_or(malformed)?;
    let malformed = Bad(Some(Code::FormatError));
    let (Some(kind), Some(class)) = (number(message, after), number(message, after + 2)) else {
        return Err(malformed);
    };
    const INTERNET: u16 = 1;
    let kind = match kind {
        _ if class != INTERNET => Kind::Other,
        1 => Kind::A,
        12 => Kind::Ptr,
        15 => Kind::Mx,
        28 => Kind::Aaaa,
        _ => Kind::Other,
    };
    let end = after + 4;
    Ok(Query { name, kind, end, edns: udp_size(message, end) })
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// The question's name, and where it ends. Names in questions are never compressed.
fn read_name(message: &[u8]) -> Option<(Option<String>, usize)> {
    const LONGEST: usize = 255;
    let mut at = HEADER;
    let mut name = Some(String::new());
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        let label = message.get(at..at + length).filter(|_| length < 64)?;
        at += length;
        if at - HEADER >= LONGEST {
            return None;
        }
        // A dot inside a label would look like two labels.
        let plain = label.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'.');
        if let Some(text) = name.as_mut().filter(|_| plain) {
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        } else {
            name = None;
        }
    }
}

/// What the client takes over UDP (RFC 6891, 6.1.2), from the records behind the question.
fn udp_size(message: &[u8], mut at: usize) -> Option<u16> {
    const OPT: u16 = 41;
    let records = (3..6).try_fold(0_u16, |sum, field| sum.checked_add(number(message, field * 2)?))?;
    for _ in 0..records.min(MOST_RECORDS) {
        at = skip_name(message, at)?;
        let (kind, class, length) =
            (number(message, at)?, number(message, at + 2)?, number(message, at + 8)?);
        if kind == OPT {
            return Some(class);
        }
        at += 10 + usize::from(length);
    }
    None
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xC0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// What an answer says of the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// One of its addresses.
    Address(IpAddr),
    /// The name of an address.
    Name(String),
}

impl Query {
    /// The most bytes an answer over UDP may have.
    #[must_use]
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP, |size| usize::from(size).clamp(PLAIN_UDP, LARGEST_UDP))
    }

    /// Writes the answer to `message`, this question, in place of what `out` holds. Records that do not fit
    /// into `limit` bytes are left out and the answer says that there are more.
    pub fn answer(&self, message: &[u8], code: Code, records: &[Record], limit: usize, out: &mut Vec<u8>) {
        write_header(message, code, out);
        out.extend_from_slice(&message[HEADER..self.end]);
        out[5] = 1;
        const OPT_LENGTH: usize = 11;
        let limit = limit - if self.edns.is_some() { OPT_LENGTH } else { 0 };
        let mut count = 0_u16;
        for record in records {
            let before = out.len();
            if !write_record(record, out) {
                continue;
            }
            if out.len() > limit {
                out.truncate(before);
                out[2] |= TRUNCATED;
                break;
            }
            count += 1;
        }
        out[6..8].copy_from_slice(&count.to_be_bytes());
        if self.edns.is_some() {
            let size = OUR_UDP_SIZE.to_be_bytes();
            out.extend_from_slice(&[0, 0, 41, size[0], size[1], 0, 0, 0, 0, 0, 0]);
            out[11] = 1;
        }
    }

    /// Whether `reply` is one to `message`, this question: the same number, and the same question if it has one.
    #[must_use]
    pub fn is_answered_by(&self, message: &[u8], reply: &[u8]) -> bool {
        if reply.len() < HEADER || reply[..2] != message[..2] || reply[2] & RESPONSE == 0 {
            return false;
        }
        match number(reply, 4) {
            // Those who refuse, or understand nothing, may leave it out.
            Some(0) => code_of(reply) != 0,
            Some(1) => reply
                .get(HEADER..self.end)
                .is_some_and(|question| question.eq_ignore_ascii_case(&message[HEADER..self.end])),
            _ => false,
        }
    }
}

/// Writes an answer to a message whose question could not be read, of at least a header's 12 bytes, in place of
/// what `out` holds.
pub fn refuse(message: &[u8], code: Code, out: &mut Vec<u8>) {
    write_header(message, code, out);
}

/// The code that an answer ends with, without its extension by EDNS.
#[must_use]
pub fn code_of(reply: &[u8]) -> u8 {
    reply.get(3).map_or(Code::ServerFailure as u8, |byte| byte & 0x0F)
}

fn write_header(message: &[u8], code: Code, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&message[..2]);
    out.push(RESPONSE | message[2] & (OPCODE | RECURSION_DESIRED));
    out.push(RECURSION_AVAILABLE | code as u8);
    out.extend_from_slice(&[0; 8]);
}

/// One record about the question's name; false for a name that cannot be written.
fn write_record(record: &Record, out: &mut Vec<u8>) -> bool {
    // A pointer to the question's name, which starts behind the header.
    let head = |kind: u8, out: &mut Vec<u8>| {
        out.extend_from_slice(&[0xC0, HEADER as u8, 0, kind, 0, 1]);
        out.extend_from_slice(&TTL.to_be_bytes());
    };
    match record {
        Record::Address(IpAddr::V4(address)) => {
            head(1, out);
            out.extend_from_slice(&[0, 4]);
            out.extend_from_slice(&address.octets());
        }
        Record::Address(IpAddr::V6(address)) => {
            head(28, out);
            out.extend_from_slice(&[0, 16]);
            out.extend_from_slice(&address.octets());
        }
        Record::Name(name) => {
            let labels = name.split('.').filter(|label| !label.is_empty());
            let length = 1 + labels.clone().map(|label| label.len() + 1).sum::<usize>();
            if length > 255 || labels.clone().any(|label| label.len() > 63) {
                return false;
            }
            head(12, out);
            out.extend_from_slice(&[0, length as u8]);
            for label in labels {
                out.push(label.len() as u8);
                out.extend_from_slice(label.as_bytes());
            }
            out.push(0);
        }
    }
    true
}

/// The address whose name is asked for: `4.3.2.1.in-addr.arpa` is 1.2.3.4, and 32 digits before `ip6.arpa`.
#[must_use]
pub fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = digits.split('.').rev();
        for octet in &mut octets {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut value = 0_u128;
    let mut count = 0;
    for digit in digits.split('.').rev() {
        let mut letters = digit.chars();
        value = value << 4 | u128::from(letters.next()?.to_digit(16)?);
        count += 1;
        if letters.next().is_some() || count > 32 {
            return None;
        }
    }
    (count == 32).then(|| Ipv6Addr::from(value).into())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Edns, Message, ResponseCode};
    use hickory_proto::rr::{Name, RData, RecordType};
    use hickory_proto::serialize::binary::BinDecodable;
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: RecordType, edns: bool) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 4711;
        message.metadata.recursion_desired = true;
        let mut query = hickory_proto::op::Query::new();
        query.set_name(Name::from_ascii(name).unwrap()).set_query_type(kind);
        message.add_query(query);
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1232);
            message.edns = Some(edns);
        }
        message.to_vec().unwrap()
    }

    fn answered(message: &[u8], code: Code, records: &[Record], limit: usize) -> (Vec<u8>, Message) {
        let mut out = Vec::new();
        parse(message).unwrap().answer(message, code, records, limit, &mut out);
        let decoded = Message::from_bytes(&out).unwrap();
        (out, decoded)
    }

    #[test]
    fn a_question_is_read() {
        let query = parse(&question("Web.Net.", RecordType::A, false)).unwrap();
        assert_eq!((query.name.as_deref(), query.kind, query.udp_limit()), (Some("web.net"), Kind::A, 512));
        let query = parse(&question("web.", RecordType::AAAA, true)).unwrap();
        assert_eq!((query.name.as_deref(), query.kind, query.udp_limit()), (Some("web"), Kind::Aaaa, 1232));
        assert_eq!(parse(&question(".", RecordType::NS, false)).unwrap().name.as_deref(), Some(""));
    }

    #[test]
    fn another_codec_understands_the_answers() {
        let addresses = ["10.0.0.1", "10.0.0.2"].map(|text| Record::Address(text.parse().unwrap()));
        let message = question("Web.", RecordType::A, true);
        let (bytes, reply) = answered(&message, Code::NoError, &addresses, 512);
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (4711, ResponseCode::NoError));
        assert!(reply.metadata.recursion_available && !reply.metadata.truncation);
        assert_eq!(reply.queries[0].name().to_ascii(), "Web.");
        assert!(reply.answers.iter().all(|record| record.name.to_ascii() == "Web." && record.ttl == 600));
        assert_eq!(reply.answers.len(), 2);
        assert_eq!(reply.edns.unwrap().max_payload(), 4096);
        assert!(parse(&message).unwrap().is_answered_by(&message, &bytes));

        let six = [Record::Address("fd00::1".parse().unwrap())];
        let (_, reply) = answered(&question("web.", RecordType::AAAA, false), Code::NoError, &six, 512);
        assert!(
            matches!(reply.answers[0].data, RData::AAAA(address) if address.0 == "fd00::1".parse::<Ipv6Addr>().unwrap())
        );

        let name = [Record::Name("web.net".to_owned())];
        let asked = question("1.0.0.10.in-addr.arpa.", RecordType::PTR, false);
        let (_, reply) = answered(&asked, Code::NoError, &name, 512);
        assert!(matches!(&reply.answers[0].data, RData::PTR(target) if target.0.to_ascii() == "web.net."));
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let many: Vec<_> = (0..100).map(|n| Record::Address(Ipv4Addr::new(10, 0, 0, n).into())).collect();
        let (bytes, reply) = answered(&question("web.", RecordType::A, false), Code::NoError, &many, 512);
        assert!(bytes.len() <= 512 && reply.metadata.truncation && reply.answers.len() > 25);
        let (_, reply) = answered(&question("web.", RecordType::A, true), Code::NoError, &many, MAX_MESSAGE);
        assert_eq!((reply.answers.len(), reply.metadata.truncation), (100, false));
    }

    #[test]
    fn hostile_messages_are_told_so_or_dropped() {
        let good = question("web.", RecordType::A, false);
        let changed = |at: usize, to: u8| {
            let mut message = good.clone();
            message[at] = to;
            parse(&message)
        };
        assert_eq!(changed(2, 0x80), Err(Bad(None)));
        assert_eq!(changed(2, 0x28), Err(Bad(Some(Code::NotImplemented))));
        assert_eq!(changed(5, 2), Err(Bad(Some(Code::FormatError))));
        assert_eq!(changed(12, 0xC0), Err(Bad(Some(Code::FormatError))));
        assert_eq!(changed(12, 60), Err(Bad(Some(Code::FormatError))));
        assert_eq!(changed(13, b'.').unwrap().name, None);
        assert_eq!(changed(13, 0xFF).unwrap().name, None);
        assert_eq!(parse(&good[..11]), Err(Bad(None)));
        for length in 12..good.len() {
            assert_eq!(parse(&good[..length]), Err(Bad(Some(Code::FormatError))));
        }
    }

    #[test]
    fn only_the_answer_to_the_question_is_one() {
        let asked = question("web.", RecordType::A, false);
        let (answer, _) = answered(&asked, Code::NoError, &[], 512);
        let query = parse(&asked).unwrap();
        assert!(query.is_answered_by(&asked, &answer));
        let changed = |at: usize, to: u8| {
            let mut answer = answer.clone();
            answer[at] = to;
            query.is_answered_by(&asked, &answer)
        };
        assert!(!changed(0, 0) && !changed(2, 0) && !changed(13, b'x') && !changed(5, 2));
        // Another case of a letter is the same name; an answer without a question only refuses.
        assert!(changed(13, b'W') && !changed(5, 0));
        let mut refusal = Vec::new();
        refuse(&asked, Code::ServerFailure, &mut refusal);
        assert!(query.is_answered_by(&asked, &refusal));
    }

    #[test]
    fn names_of_addresses() {
        assert_eq!(reversed("4.3.2.1.in-addr.arpa"), Some("1.2.3.4".parse().unwrap()));
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reversed(six), Some("fd00::1".parse().unwrap()));
        for not in [
            "3.2.1.in-addr.arpa",
            "5.4.3.2.1.in-addr.arpa",
            "256.3.2.1.in-addr.arpa",
            "web",
            "",
            "x.ip6.arpa",
        ] {
            assert_eq!(reversed(not), None, "{not}");
        }
        assert_eq!(reversed(&format!("1.{six}")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..600), other in proptest::collection::vec(any::<u8>(), 0..600)) {
            let mut out = Vec::new();
            if let Ok(query) = parse(&bytes) {
                query.answer(&bytes, Code::NoError, &[Record::Address(Ipv4Addr::LOCALHOST.into())], 512, &mut out);
                prop_assert!(out.len() <= 512 && query.is_answered_by(&bytes, &out));
                let _ = query.is_answered_by(&bytes, &other);
            }
        }

        #[test]
        fn no_change_of_a_question_breaks_it(at in 0_usize..40, to in any::<u8>(), name in "[a-z]{1,20}(\\.[a-z0-9]{1,20}){0,3}") {
            let mut bytes = question(&format!("{name}."), RecordType::A, true);
            prop_assert_eq!(parse(&bytes).unwrap().name.unwrap(), name);
            let at = at % bytes.len();
            bytes[at] = to;
            let mut out = Vec::new();
            if let Ok(query) = parse(&bytes) {
                query.answer(&bytes, Code::NoError, &[], 512, &mut out);
                prop_assert!(query.is_answered_by(&bytes, &out));
            }
        }

        #[test]
        fn any_name_of_an_address_is_read_or_not(name in "[0-9a-f.]{0,80}(\\.in-addr|\\.ip6)\\.arpa") {
            let _ = reversed(&name);
        }
    }
}
