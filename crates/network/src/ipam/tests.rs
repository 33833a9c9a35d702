//! What must hold for every order of requests.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::error::Error;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ipam() -> Ipam {
    Ipam::new(DefaultPool::defaults("test"))
}

fn with(subnet: &str, range: Option<&str>) -> Ipam {
    let mut ipam = ipam();
    let request = Request { subnet: Some(net(subnet)), range: range.map(net), ..Request::default() };
    ipam.allocate("n", &request, &[]).unwrap();
    ipam
}

#[test]
fn networks_get_dockers_subnets_in_order() {
    let mut ipam = ipam();
    let mut next = |name: &str| ipam.allocate(name, &Request::default(), &[]).unwrap();
    let first = next("a");
    assert_eq!((first.subnet, first.gateway), (net("172.17.0.0/16"), Some(ip("172.17.0.1"))));
    assert_eq!(next("b").subnet, net("172.18.0.0/16"));
    let rest: Vec<_> = (0..29).map(|index| next(&index.to_string()).subnet.to_string()).collect();
    assert_eq!(rest[12], "172.31.0.0/16");
    assert_eq!(rest[13], "192.168.0.0/20");
    assert_eq!(rest[28], "192.168.240.0/20");
    assert!(matches!(ipam.allocate("z", &Request::default(), &[]), Err(Error::PoolsExhausted)));
    ipam.release_network("b");
    assert_eq!(ipam.allocate("z", &Request::default(), &[]).unwrap().subnet, net("172.18.0.0/16"));
}

#[test]
fn default_pools_keep_clear_of_the_hosts_routes() {
    let mut ipam = ipam();
    let host = [net("0.0.0.0/0"), net("172.16.0.0/14"), net("172.20.7.0/24"), net("172.24.0.0/14")];
    let subnets: Vec<_> = (0..4)
        .map(|index: u32| ipam.allocate(&index.to_string(), &Request::default(), &host).unwrap().subnet)
        .collect();
    let wanted = ["172.21.0.0/16", "172.22.0.0/16", "172.23.0.0/16", "172.28.0.0/16"];
    assert_eq!(subnets, wanted.map(net));
    let request = Request { subnet: Some(net("172.17.5.0/24")), ..Request::default() };
    assert!(ipam.allocate("asked", &request, &host).is_ok());
}

#[test]
fn a_pool_of_many_pieces_is_not_walked() {
    let pool = DefaultPool::new(net("fd00::/8"), 64).unwrap();
    let mut ipam = Ipam::new(vec![pool]);
    let request = Request { v6: true, ..Request::default() };
    let host = [net("fd00::/9"), net("fd80::/16")];
    assert_eq!(ipam.allocate("n", &request, &host).unwrap().subnet, net("fd81::/64"));
}

#[test]
fn overlaps_are_refused_in_dockers_words() {
    let mut ipam = with("10.1.0.0/16", None);
    let request = |subnet| Request { subnet: Some(net(subnet)), ..Request::default() };
    for taken in ["10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8"] {
        let error = ipam.allocate("o", &request(taken), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid pool request: Pool overlaps with other one on this address space"
        );
    }
    assert!(ipam.allocate("o", &request("10.2.0.0/16"), &[]).is_ok());
    let error = ipam.allocate("o", &request("10.3.0.5/16"), &[]).unwrap_err();
    assert_eq!(error.to_string(), "invalid subnet 10.3.0.5/16: it should be 10.3.0.0/16");
}

#[test]
fn gateway_and_auxiliary_addresses_are_taken() {
    let mut ipam = ipam();
    let request = Request {
        subnet: Some(net("10.0.0.0/29")),
        gateway: Some(ip("10.0.0.3")),
        aux: vec![("dns".into(), ip("10.0.0.1"))],
        ..Request::default()
    };
    ipam.allocate("n", &request, &[]).unwrap();
    let mut given: Vec<_> = (0..4).map(|_| ipam.take("n", false, None).unwrap().to_string()).collect();
    given.sort();
    assert_eq!(given, ["10.0.0.2/29", "10.0.0.4/29", "10.0.0.5/29", "10.0.0.6/29"]);
    assert!(matches!(ipam.take("n", false, None), Err(Error::AddressesExhausted { .. })));
    let twice = Request { aux: vec![("a".into(), ip("10.0.1.7"))], ..request_of("10.0.1.0/24", "10.0.1.7") };
    assert_eq!(
        ipam.allocate("m", &twice, &[]).unwrap_err().to_string(),
        "failed to allocate secondary ip address (a:10.0.1.7): Address already in use"
    );
    let outside = request_of("10.0.2.0/24", "10.0.3.1");
    assert_eq!(
        ipam.allocate("m", &outside, &[]).unwrap_err().to_string(),
        "no matching subnet for gateway 10.0.3.1"
    );
    let network = request_of("10.0.2.0/24", "10.0.2.0");
    assert_eq!(
        ipam.allocate("m", &network, &[]).unwrap_err().to_string(),
        "failed to allocate gateway (10.0.2.0): Address already in use"
    );
}

fn request_of(subnet: &str, gateway: &str) -> Request {
    Request { subnet: Some(net(subnet)), gateway: Some(ip(gateway)), ..Request::default() }
}

#[test]
fn a_range_holds_what_is_given_unasked_only() {
    let mut ipam = with("10.0.0.0/24", Some("10.0.0.128/30"));
    assert_eq!(ipam.take("n", false, None).unwrap().addr(), ip("10.0.0.129"));
    assert_eq!(ipam.take("n", false, Some(ip("10.0.0.7"))).unwrap().to_string(), "10.0.0.7/24");
    assert!(matches!(ipam.take("n", false, Some(ip("10.0.0.7"))), Err(Error::AddressTaken(_))));
    assert!(matches!(ipam.take("n", false, Some(ip("10.0.1.7"))), Err(Error::AddressOutside(_))));
    let usage = ipam.usage("n")[0];
    assert_eq!((usage.in_use, usage.available), (3, 2));
}

#[test]
fn an_address_is_not_given_again_at_once() {
    let mut ipam = with("10.0.0.0/29", None);
    let take = |ipam: &mut Ipam| ipam.take("n", false, None).unwrap().addr();
    let first = take(&mut ipam);
    for _ in 0..4 {
        ipam.give_back("n", first);
        assert_ne!(take(&mut ipam), first);
    }
    for last in [4, 3] {
        ipam.give_back("n", ip(&format!("10.0.0.{last}")));
    }
    assert_eq!(take(&mut ipam), first);
    assert_eq!(take(&mut ipam), ip("10.0.0.4"));
}

#[test]
fn families_and_subnets_of_one_network() {
    let mut ipam = ipam();
    for subnet in ["10.0.0.0/30", "10.0.1.0/24", "fd00::/64"] {
        ipam.allocate("n", &Request { subnet: Some(net(subnet)), ..Request::default() }, &[]).unwrap();
    }
    let given: Vec<_> = (0..2).map(|_| ipam.take("n", false, None).unwrap().to_string()).collect();
    assert_eq!(given, ["10.0.0.2/30", "10.0.1.2/24"]);
    assert_eq!(ipam.take("n", true, None).unwrap(), net("fd00::2/64"));
    assert_eq!(ipam.take("n", true, Some(ip("fd00::ffff"))).unwrap(), net("fd00::ffff/64"));
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    TakeNamed(u8),
    GiveBack(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Take),
        1 => any::<u8>().prop_map(Step::TakeNamed),
        3 => any::<usize>().prop_map(Step::GiveBack),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
    #[test]
    fn nobody_shares_an_address(prefix in 24_u8..=30, range in prop::option::of(24_u8..=30), steps in steps()) {
        let subnet = IpNet::new(ip("10.9.8.0"), prefix).unwrap();
        let range = range.filter(|range| *range >= prefix).map(|range| IpNet::new(ip("10.9.8.0"), range).unwrap());
        let mut ipam = ipam();
        let gateway = ipam
            .allocate("n", &Request { subnet: Some(subnet), range, ..Request::default() }, &[])
            .unwrap()
            .gateway
            .unwrap();
        let mut held = vec![];
        let mut clock = 0_u32;
        let mut given_back: HashMap<IpAddr, u32> = HashMap::new();
        for step in steps {
            clock += 1;
            match step {
                Step::Take => match ipam.take("n", false, None) {
                    Ok(taken) => {
                        let address = taken.addr();
                        prop_assert!(range.unwrap_or(subnet).contains(&address));
                        prop_assert!(address != subnet.network() && address != subnet.broadcast());
                        // None that rests for longer was passed over.
                        if let Some(when) = given_back.remove(&address) {
                            let rests = given_back.iter().filter(|(address, _)| range.unwrap_or(subnet).contains(*address));
                            prop_assert!(rests.map(|(_, when)| *when).all(|other| other > when));
                        }
                        held.push(address);
                    }
                    Err(Error::AddressesExhausted { .. }) => {
                        prop_assert_eq!(ipam.usage("n")[0].available, 0);
                    }
                    Err(other) => prop_assert!(false, "{other}"),
                },
                Step::TakeNamed(last) => {
                    let address = ip(&format!("10.9.8.{last}"));
                    if ipam.take("n", false, Some(address)).is_ok() {
                        given_back.remove(&address);
                        held.push(address);
                    }
                }
                Step::GiveBack(which) if !held.is_empty() => {
                    let address = held.swap_remove(which % held.len());
                    ipam.give_back("n", address);
                    given_back.insert(address, clock);
                }
                Step::GiveBack(_) => {}
            }
            let distinct: HashSet<_> = held.iter().chain([&gateway]).collect();
            prop_assert_eq!(distinct.len(), held.len() + 1);
            prop_assert_eq!(ipam.usage("n")[0].in_use, held.len() as u128 + 1);
        }
    }

    #[test]
    fn subnets_never_overlap(
        host in prop::collection::vec((any::<u16>(), 12_u8..=28), 0..12),
        count in 1_usize..40,
    ) {
        let host: Vec<_> = host
            .iter()
            .map(|(bits, prefix)| {
                let address = std::net::Ipv4Addr::from(0xac10_0000 + (u32::from(*bits) << 5));
                IpNet::new(IpAddr::V4(address), *prefix).unwrap().trunc()
            })
            .collect();
        let mut ipam = ipam();
        let mut all = host.clone();
        for index in 0..count {
            let Ok(given) = ipam.allocate(&index.to_string(), &Request::default(), &host) else { break };
            for other in &all {
                let apart = !other.contains(&given.subnet.network()) && !given.subnet.contains(&other.network());
                prop_assert!(apart, "{} {}", other, given.subnet);
            }
            all.push(given.subnet);
        }
    }
}
