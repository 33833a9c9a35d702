//! Reads any bytes as a question for names, answers it, and takes any other bytes for a server's reply: no panic, no
//! answer longer than was asked for, and only the answer's own question counts.
#![no_main]

use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use wharf_network::names::message::{Code, Record, parse, reversed};

fuzz_target!(|input: (&[u8], &[u8], u8)| {
    let (message, reply, count) = input;
    let Ok(query) = parse(message) else { return };
    let records: Vec<Record> =
        (0..count).map(|last| Record::Address(Ipv4Addr::new(10, 0, 0, last).into())).collect();
    let mut out = Vec::new();
    query.answer(message, Code::NoError, &records, query.udp_limit(), &mut out);
    assert!(out.len() <= query.udp_limit());
    assert!(query.is_answered_by(message, &out));
    assert!(parse(&out).is_err());
    let _ = query.is_answered_by(message, reply);
    if let Some(name) = &query.name {
        let _ = reversed(name);
    }
});
