//! Ports of the host, held for containers.

use std::net::{TcpListener, UdpSocket};

use wharf_network::helper::{Helper, HelperError, Holder, PortChoice, PortRequest, Protocol, Reservation};

use crate::Test;
use crate::host::Instance;

pub const TESTS: &[Test] = &[
    ("ports::conflicts_are_found_and_told", conflicts_are_found_and_told),
    ("ports::two_thousand_ports", two_thousand_ports),
    ("ports::two_thousand_ports_of_one", two_thousand_ports_of_one),
];

pub fn request(protocol: Protocol, port: u16) -> PortRequest {
    let addresses = ["0.0.0.0", "::"].map(|text| text.parse().unwrap()).to_vec();
    PortRequest { protocol, addresses, port: PortChoice::fixed(port) }
}

fn refusal(helper: &Helper, owner: &str, wanted: PortRequest) -> (Holder, String) {
    match helper.reserve(owner, &[wanted]).unwrap_err() {
        HelperError::Taken(taken) => (taken.by.clone(), taken.to_string()),
        other => panic!("{other}"),
    }
}

fn conflicts_are_found_and_told() {
    let instance = Instance::start();
    let helper = &instance.helper;
    let held = helper.reserve("a", &[request(Protocol::Tcp, 80), request(Protocol::Udp, 80)]).unwrap();
    assert_eq!(held.len(), 4);
    let (by, text) = refusal(helper, "b", request(Protocol::Tcp, 80));
    assert_eq!(by, Holder::Owner("a".into()));
    assert_eq!(text, "Bind for 0.0.0.0:80 failed: port is already allocated");

    // A server of the host: named.
    let _server = TcpListener::bind("127.0.0.1:8080").unwrap();
    let (by, text) = refusal(helper, "b", request(Protocol::Tcp, 8080));
    let pid = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(&by, Holder::Process { pid: found, .. } if *found == pid), "{by:?}");
    let ending = format!("(pid {pid})");
    assert!(
        text.starts_with("failed to bind host port 0.0.0.0:8080/tcp: address already in use by "),
        "{text}"
    );
    assert!(text.ends_with(&ending), "{text}");
    let _server = UdpSocket::bind("[::1]:8081").unwrap();
    let (by, _) = refusal(helper, "b", request(Protocol::Udp, 8081));
    assert!(matches!(by, Holder::Process { .. }));
    assert_eq!(helper.stats().unwrap().ports, 4);

    helper.unreserve("a", &held[..1]).unwrap();
    assert!(TcpListener::bind("0.0.0.0:80").is_ok() && TcpListener::bind("[::]:80").is_err());
    helper.release("a").unwrap();
    assert!(TcpListener::bind("[::]:80").is_ok());
    assert!(helper.owners().unwrap().is_empty());
}

fn two_thousand_ports() {
    let instance = Instance::start();
    for owner in 0..200_u16 {
        let ports: Vec<PortRequest> =
            (0..10).map(|port| request(Protocol::Tcp, 10_000 + owner * 10 + port)).collect();
        let held = instance.helper.reserve(&format!("container-{owner:03}"), &ports).unwrap();
        assert_eq!(held.len(), 20);
    }
    assert_eq!(instance.helper.stats().unwrap().ports, 4000);
    let owners = instance.helper.owners().unwrap();
    assert_eq!((owners.len(), owners[7].as_str()), (200, "container-007"));
    // All again, as a daemon that was started again does.
    let again = instance.another();
    let held: Vec<Reservation> = again.reserve("container-199", &[request(Protocol::Tcp, 11_999)]).unwrap();
    assert_eq!(held.len(), 2);
    assert_eq!(again.stats().unwrap().ports, 4000);
}

/// More than one frame tells.
fn two_thousand_ports_of_one() {
    let instance = Instance::start();
    let helper = &instance.helper;
    let wanted = |first: u16| -> Vec<PortRequest> {
        (first..first + 2000).map(|port| request(Protocol::Tcp, port)).collect()
    };
    let held = helper.reserve("a", &wanted(20_000)).unwrap();
    assert_eq!(held.len(), 4000);
    assert_eq!((held[0].port, held[3999].port), (20_000, 21_999));
    let to = "10.9.1.2:80".parse().unwrap();
    let relays: Vec<_> = held.iter().filter_map(|port| Helper::relay_for(port, to)).collect();
    helper.relay("a", &relays).unwrap();

    // The last of them is another's: none is held in the end, but what was held before.
    helper.reserve("b", &wanted(18_000)[..1]).unwrap();
    assert!(helper.reserve("b", &wanted(18_001)).is_err());
    assert_eq!(helper.stats().unwrap().ports, 4002);
    helper.unreserve("a", &held[..3998]).unwrap();
    assert_eq!(helper.stats().unwrap().ports, 4);
}
