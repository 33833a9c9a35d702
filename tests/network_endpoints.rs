//! Endpoints and what their flags say: gateways, sysctls, link-local addresses, links, remapped users, leftovers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use wharf_testkit::client::eventually;
use wharf_testkit::{Daemon, census, daemon, ports};

fn sleeper(d: &Daemon, name: &str, flags: &[&str]) -> String {
    d.docker(&[&["run", "-d", "--name", name][..], flags, &["busybox", "sleep", "1000"]].concat()).ok()
}

#[test]
fn the_default_route_follows_priorities() {
    let d = daemon!();
    let net = ports::subnet();
    let (first, second) = (format!("default via {net}.1 "), format!("default via {net}.65 "));
    for (name, last) in [("aa", 0), ("bb", 64), ("cc", 128)] {
        d.docker(&["network", "create", "--subnet", &format!("{net}.{last}/26"), name]).ok();
    }
    let flags =
        ["--network", "aa", "--network", "name=bb,gw-priority=10", "--network", "name=cc,gw-priority=-1"];
    sleeper(&d, "one", &flags);
    let routes = || d.docker(&["exec", "one", "ip", "route"]).ok();
    assert!(routes().contains(&second), "{}", routes());
    assert_eq!(d.inspect("one")["NetworkSettings"]["Networks"]["bb"]["GwPriority"], 10);
    d.docker(&["network", "disconnect", "bb", "one"]).ok();
    assert!(routes().contains(&first), "{}", routes());
    d.docker(&["network", "connect", "--gw-priority", "100", "bb", "one"]).ok();
    assert!(routes().contains(&second), "{}", routes());
    d.docker(&["restart", "-t", "0", "one"]).ok();
    assert!(routes().contains(&second), "{}", routes());
}

#[test]
fn sysctls_and_link_local_addresses_are_of_one_interface() {
    let d = daemon!();
    d.docker(&["network", "create", "net"]).ok();
    let sysctls = "name=net,\"driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,\
                   net.ipv4.conf.IFNAME.forwarding=0\"";
    let local = "169.254.77.1";
    sleeper(&d, "one", &["--network", sysctls, "--link-local-ip", local]);
    let read =
        |name: &str| d.docker(&["exec", "one", "cat", &format!("/proc/sys/net/ipv4/conf/{name}")]).ok();
    assert_eq!((read("eth0/log_martians").as_str(), read("eth0/forwarding").as_str()), ("1", "0"));
    assert_eq!(read("default/log_martians"), "0");
    let addresses = d.docker(&["exec", "one", "ip", "-4", "addr", "show", "eth0"]).ok();
    assert!(addresses.contains("inet 169.254.77.1/"), "{addresses}");
    let shown = d.inspect("one")["NetworkSettings"]["Networks"]["net"]["IPAMConfig"].clone();
    assert_eq!(shown["LinkLocalIPs"], json!([local]));
    let other = ["run", "--rm", "--init", "--network", "net", "--link-local-ip", "169.254.77.2", "busybox"];
    let ping = ["ping", "-c", "1", "-W", "30", local];
    assert_eq!(d.docker(&[&other[..], &ping].concat()).code, 0);
    let wrong = "name=net,driver-opt=com.docker.network.endpoint.sysctls=kernel.hostname=x";
    let refused = d.docker(&["run", "--rm", "--network", wrong, "busybox", "true"]);
    refused.fails(125, "unrecognised network interface sysctl 'kernel.hostname=x'; represent");
}

#[test]
fn an_address_of_a_family_that_is_off_may_be_asked_for() {
    let d = daemon!();
    let ask = json!({ "Name": "four", "IPAM": { "Config": [{ "Subnet": "2001:db8:389::/64" }] } });
    assert_eq!(d.post("/networks/create", &ask).status, 201);
    sleeper(&d, "one", &["--network", "four", "--ip6", "2001:db8:389::f00d"]);
    let endpoint = || d.inspect("one")["NetworkSettings"]["Networks"]["four"].clone();
    assert_eq!(endpoint()["IPAMConfig"]["IPv6Address"], "2001:db8:389::f00d");
    assert_eq!(endpoint()["GlobalIPv6Address"], "");
    assert_ne!(endpoint()["IPAddress"], "");
    d.docker(&["network", "disconnect", "four", "one"]).ok();
    d.docker(&["network", "connect", "--ip6", "2001:db8:389::2", "four", "one"]).ok();
    assert_eq!(endpoint()["IPAMConfig"]["IPv6Address"], "2001:db8:389::2");
    let refused = d.docker(&["run", "--rm", "--network", "four", "--ip6", "2001:db8::2", "busybox", "true"]);
    assert!(refused.stderr.contains("no configured subnet or ip-range contain"), "{}", refused.stderr);
}

#[test]
fn links_follow_their_targets_and_can_be_dropped() {
    let d = daemon!();
    sleeper(&d, "db", &[]);
    sleeper(&d, "app", &["--link", "db:base"]);
    let hosts = || d.docker(&["exec", "app", "cat", "/etc/hosts"]).ok();
    let address = || d.inspect("db")["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
    let told = |address: &str| hosts().lines().any(|line| line.starts_with(&format!("{address}\tbase ")));
    let first = address();
    assert!(told(&first), "{}", hosts());
    // Somebody else takes the address while it is down.
    d.docker(&["stop", "-t", "0", "db"]).ok();
    let mut taken = Vec::new();
    for number in 0.. {
        let name = format!("taker{number}");
        sleeper(&d, &name, &[]);
        let has = d.inspect(&name)["NetworkSettings"]["IPAddress"].as_str().unwrap().to_owned();
        taken.push(name);
        if has == first || number == 4 {
            break;
        }
    }
    d.docker(&["start", "db"]).ok();
    let follows = || Some(()).filter(|()| told(&address()));
    assert!(eventually(Duration::from_secs(5), follows).is_some(), "{} {}", address(), hosts());
    assert_eq!(d.docker(&["exec", "app", "ping", "-c", "1", "-W", "30", "base"]).code, 0);
    d.docker(&["rm", "--link", "nosuch"]).fails(1, "No such container: nosuch");
    let whole = d.docker(&["rm", "--link", "db"]);
    whole.fails(1, "Conflict, cannot remove the default link name of the container");
    let told = d.docker(&["exec", "app", "env"]).ok();
    assert!(told.lines().any(|line| line == "BASE_NAME=/app/base"), "{told}");
    // The link is a name of its target, whatever the two are called by now.
    d.docker(&["rename", "db", "store"]).ok();
    d.docker(&["rename", "app", "shop"]).ok();
    assert_eq!(d.inspect("shop/base")["Id"], d.inspect("store")["Id"]);
    assert_eq!(d.inspect("shop")["HostConfig"]["Links"], json!(["/store:/shop/base"]));
    let names = ["ps", "--no-trunc", "--filter", "name=store", "--format", "{{.Names}}"];
    assert_eq!(d.docker(&names).ok(), "store,shop/base");
    d.docker(&["rename", "store", "db"]).ok();
    d.docker(&["rename", "shop", "app"]).ok();
    d.docker(&["rm", "--link", "app/base"]).ok();
    assert!(!hosts().contains("base"), "{}", hosts());
    assert_eq!(d.inspect("app")["HostConfig"]["Links"], json!(null));
    d.docker(&["rm", "--link", "app/base"]).fails(1, "No such container: app/base");
    assert_eq!(d.inspect("db")["State"]["Running"], true, "only the link went");
    d.docker(&["restart", "-t", "0", "app"]).ok();
    assert!(!hosts().contains("base"));
}

#[test]
fn remapped_users_have_networks_and_ports() {
    let d = daemon!("--userns-remap", "default");
    d.docker(&["network", "create", "net"]).ok();
    let port = ports::free();
    let publish = format!("127.0.0.1:{port}:80");
    let script = "echo -n hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    let run =
        ["run", "-d", "--name", "web", "--network", "net", "-p", &publish, "busybox", "sh", "-c", script];
    d.docker(&run).ok();
    let ask = [
        "run",
        "--rm",
        "--init",
        "--network",
        "net",
        "busybox",
        "timeout",
        "5",
        "wget",
        "-qO-",
        "http://web/",
    ];
    let answers = || Some(d.docker(&ask)).filter(|run| run.stdout == "hello");
    eventually(Duration::from_secs(10), answers).expect("names and neighbours");
    let url = format!("http://127.0.0.1:{port}/");
    let output = std::process::Command::new("curl").args(["-s", "--max-time", "60", &url]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello");
    let map = d.docker(&["exec", "web", "cat", "/proc/self/uid_map"]).ok();
    assert!(!map.trim_start().starts_with("0          0"), "{map}");
    let sysctl = ["--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7"];
    let read = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let shown = d.docker(&[&["run", "--rm", "--init"], &sysctl[..], &["busybox", "sh", "-c", read]].concat());
    assert_eq!(shown.ok(), "0\n7");
    d.docker(&["network", "connect", "bridge", "web"]).ok();
    let links = d.docker(&["exec", "web", "ls", "/sys/class/net"]).ok();
    assert!(links.contains("eth1"), "{links}");
    // The network belongs to the container's users: who has the capabilities may use them.
    let ping = ["run", "--rm", "--init", "--network", "net", "busybox", "ping", "-c", "1", "-W", "30", "web"];
    d.docker(&ping).ok();
    let change = "ip link set lo down && ip route del default && ip route add default dev eth0";
    let script = ["busybox", "sh", "-ec", change];
    let allowed = ["run", "--rm", "--init", "--network", "net", "--cap-add", "NET_ADMIN"];
    d.docker(&[&allowed[..], &script].concat()).ok();
    let refused = d.docker(&[&["run", "--rm", "--init", "--network", "net"], &script[..]].concat());
    assert!(refused.code != 0 && refused.stderr.contains("not permitted"), "{refused:?}");
    // A policy starts it again in the same network, with the same users.
    let again = ["run", "-d", "--name", "again", "--network", "net", "--restart", "on-failure:1"];
    let script = "grep -q . /once 2>/dev/null && exec sleep 1000; echo x >/once; exit 1";
    d.docker(&[&again[..], &["busybox", "sh", "-c", script]].concat()).ok();
    d.until("again", |document| document["RestartCount"] == 1 && document["State"]["Status"] == "running");
    d.docker(&["exec", "again", "ping", "-c", "1", "-W", "30", "web"]).ok();
}

#[test]
fn a_network_whose_bridge_is_somebody_else_s_is_told() {
    let mut d = daemon!();
    let name = format!("wb{}", std::process::id());
    let option = format!("com.docker.network.bridge.name={name}");
    let subnet = ports::subnet();
    let [one, other] = [format!("{subnet}.0/25"), format!("{subnet}.128/25")];
    d.docker(&["network", "create", "--subnet", &one, "-o", &option, "net"]).ok();
    d.docker(&["network", "create", "--subnet", &other, "fine"]).ok();
    d.stop();
    let ip = |args: &[&str]| std::process::Command::new("ip").args(args).status().unwrap();
    let _ = ip(&["link", "delete", &name]);
    assert!(ip(&["link", "add", &name, "type", "veth", "peer", "name", &format!("{name}p")]).success());
    d.launch();
    let run = ["run", "--rm", "--init", "--network", "fine", "busybox", "true"];
    d.docker(&run).ok();
    let told = || d.log().lines().find(|line| line.contains("could not be made again")).map(str::to_owned);
    let line = eventually(Duration::from_secs(5), told);
    let refused = d.docker(&["run", "--rm", "--init", "--network", "net", "busybox", "true"]);
    assert!(ip(&["link", "delete", &name]).success());
    assert!(line.is_some_and(|line| line.contains(&name)), "{}", d.log());
    assert_eq!(refused.code, 125, "{refused:?}");
    d.docker(&["network", "rm", "net"]).ok();
}

/// The network namespaces that processes of an instance hold, or live in.
fn namespaces(d: &Daemon) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let marker = d.path("").to_string_lossy().into_owned();
    let of = |line: String| line.split([' ', ':']).nth(1).map(str::to_owned);
    let instance = format!("wharf net {} ", d.instance());
    let all = census::processes(&marker).into_iter().chain(census::processes(&instance));
    for pid in all.filter_map(of) {
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
            if target.starts_with("net:[") {
                found.insert(target);
            }
        }
    }
    found
}

#[test]
fn rounds_leave_no_namespace_lease_or_rule() {
    let rounds: usize =
        std::env::var("WHARF_NETWORK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let d = daemon!();
    let subnet = ports::subnet();
    d.docker(&["network", "create", "--subnet", &format!("{subnet}.0/29"), "tight"]).ok();
    d.docker(&["run", "--rm", "--init", "--network", "tight", "busybox", "true"]).ok();
    // The net helper keeps four ready, which it makes when it has nothing better to do.
    let settled = namespaces(&d).len() + 4;
    let table = || {
        let output = std::process::Command::new("nft").args(["list", "ruleset"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains(&format!("{subnet}."))).count()
    };
    let rules = table();
    for round in 0..rounds {
        // Five addresses: one that is not given back is missed soon.
        let name = format!("net{round}");
        d.docker(&["network", "create", &name]).ok();
        d.docker(&[
            "run",
            "--rm",
            "--init",
            "--network",
            &name,
            "--network",
            "tight",
            "-p",
            "80",
            "busybox",
            "true",
        ])
        .ok();
        d.docker(&["network", "rm", &name]).ok();
    }
    let same = || Some(()).filter(|()| namespaces(&d).len() <= settled && table() == rules);
    assert!(
        eventually(Duration::from_secs(10), same).is_some(),
        "{} namespaces, at most {settled}; {} rules, at first {rules}",
        namespaces(&d).len(),
        table()
    );
    // The kernel takes them away in its own time.
    let links = || census::container_links(d.instance());
    let gone = eventually(Duration::from_secs(10), || links().is_empty().then_some(()));
    assert!(gone.is_some(), "{:?}", links());
    for number in 0..5 {
        sleeper(&d, &format!("full{number}"), &["--network", "tight"]);
    }
    let shown = d.get("/networks/tight").unwrap().json();
    assert_eq!(shown["Containers"].as_object().unwrap().len(), 5, "each running container is counted");
    let more = d.docker(&["run", "--rm", "--init", "--network", "tight", "busybox", "true"]);
    more.fails(125, "no available IPv4 addresses on this network's address pools");
    d.docker(&["stop", "-t", "0", "full0"]).ok();
    assert_eq!(d.get("/networks/tight").unwrap().json()["Containers"].as_object().unwrap().len(), 4);
    d.docker(&["network", "rm", "tight"]).fails(1, "has active endpoints");
}

#[test]
fn a_connection_that_fails_gives_its_address_back() {
    let d = daemon!();
    let (subnet, port) = (ports::subnet(), ports::free());
    // Five addresses.
    d.docker(&["network", "create", "--subnet", &format!("{subnet}.0/29"), "tight"]).ok();
    d.docker(&["network", "create", "--internal", "quiet"]).ok();
    // Its port is published as soon as there is a way to the outside.
    let holder = std::net::TcpListener::bind(("0.0.0.0", *port)).unwrap();
    sleeper(&d, "one", &["--network", "quiet", "-p", &format!("{port}:80")]);
    for _ in 0..6 {
        d.docker(&["network", "connect", "tight", "one"]).fails(1, "address already in use");
    }
    assert_eq!(d.get("/networks/tight").unwrap().json()["Containers"], json!({}));
    assert_eq!(d.inspect("one")["NetworkSettings"]["Networks"]["tight"], json!(null));
    drop(holder);
    d.docker(&["network", "connect", "tight", "one"]).ok();
    for number in 0..4 {
        sleeper(&d, &format!("other{number}"), &["--network", "tight"]);
    }
    d.docker(&["exec", "one", "ping", "-c", "1", "-W", "30", "other0"]).ok();
}

#[test]
fn networks_change_while_the_policy_waits() {
    let d = daemon!();
    for name in ["one", "two"] {
        d.docker(&["network", "create", name]).ok();
    }
    let bind = format!("{}:/sign", d.path("sign").display());
    std::fs::create_dir_all(d.path("sign")).unwrap();
    let script = "test -e /sign/go && exec sleep 1000; exit 1";
    let run = ["run", "-d", "--name", "again", "--network", "one", "--restart", "always", "-v", &bind];
    d.docker(&[&run[..], &["busybox", "sh", "-c", script]].concat()).ok();
    // By now the policy waits longer from time to time than the container runs.
    d.until("again", |document| document["RestartCount"].as_u64() >= Some(4));
    d.until("again", |document| document["State"]["Status"] == "restarting");
    d.docker(&["network", "connect", "two", "again"]).ok();
    d.docker(&["network", "disconnect", "one", "again"]).ok();
    // Nothing holds it any more, and nothing is left to hold it when the container runs again.
    d.docker(&["network", "rm", "one"]).ok();
    std::fs::write(d.path("sign/go"), "").unwrap();
    d.until("again", |document| document["State"]["Status"] == "running");
    let networks = d.inspect("again")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), ["two"]);
    let address = networks["two"]["IPAddress"].as_str().unwrap().to_owned();
    let inside = d.docker(&["exec", "again", "ip", "-4", "-o", "addr"]).ok();
    let shown: Vec<&str> = inside.lines().filter(|line| !line.contains(" lo ")).collect();
    assert!(shown.len() == 1 && shown[0].contains(&format!("inet {address}/")), "{inside}");
    let ping =
        ["run", "--rm", "--init", "--network", "two", "busybox", "ping", "-c", "1", "-W", "30", "again"];
    d.docker(&ping).ok();
}

/// Sends requests one after the other, whose answers may be any of these.
#[track_caller]
fn hammer(d: &Daemon, rounds: usize, requests: &[(&str, &str, serde_json::Value, &[u16])]) {
    for _ in 0..rounds {
        for (method, target, body, allowed) in requests {
            let reply = d.request(method, target, Some(body).filter(|body| !body.is_null())).unwrap();
            let known = allowed.contains(&reply.status);
            assert!(known, "{method} {target}: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
        }
    }
}

#[test]
fn orders_that_cross_end_in_order() {
    const NONE: serde_json::Value = serde_json::Value::Null;
    let mut d = daemon!();
    let subnet = ports::subnet();
    d.docker(&["network", "create", "--subnet", &format!("{subnet}.0/29"), "tight"]).ok();
    let restless = ["--network", "bridge", "--restart", "always"];
    sleeper(&d, "one", &restless);
    sleeper(&d, "two", &restless);
    let connect = json!({ "Container": "one" });
    let other = json!({ "Container": "two" });
    let flip = json!({ "Name": "flip" });
    let joiner = json!({ "Image": "busybox", "Cmd": ["true"], "HostConfig": { "NetworkMode": "flip" } });
    std::thread::scope(|scope| {
        let (d, connect, other, flip, joiner) = (&d, &connect, &other, &flip, &joiner);
        // Not connected, or connected already: the other thread was there in between.
        scope.spawn(move || {
            hammer(
                d,
                12,
                &[
                    ("POST", "/networks/tight/connect", connect.clone(), &[200, 403]),
                    ("POST", "/networks/tight/disconnect", connect.clone(), &[200, 500]),
                ],
            );
        });
        scope.spawn(move || {
            hammer(
                d,
                12,
                &[
                    ("POST", "/networks/tight/connect", connect.clone(), &[200, 403]),
                    ("POST", "/networks/tight/connect", other.clone(), &[200, 403]),
                    ("POST", "/networks/tight/disconnect", connect.clone(), &[200, 500]),
                    ("POST", "/networks/tight/disconnect", other.clone(), &[200, 500]),
                ],
            );
        });
        scope.spawn(move || {
            hammer(
                d,
                6,
                &[
                    ("POST", "/containers/one/restart?t=0", NONE, &[204]),
                    ("POST", "/containers/one/stop?t=0", NONE, &[204, 304]),
                    ("POST", "/containers/one/start", NONE, &[204, 304]),
                    ("POST", "/containers/two/kill", NONE, &[204, 409]),
                    ("POST", "/containers/two/start", NONE, &[204, 304]),
                ],
            );
        });
        scope.spawn(move || {
            hammer(
                d,
                12,
                &[
                    ("POST", "/networks/create", flip.clone(), &[201, 409]),
                    ("DELETE", "/networks/flip", NONE, &[204, 403]),
                    ("DELETE", "/networks/flip", NONE, &[204, 403, 404]),
                ],
            );
        });
        scope.spawn(move || {
            hammer(
                d,
                12,
                &[
                    ("POST", "/containers/create?name=joiner", joiner.clone(), &[201, 404, 409]),
                    ("POST", "/containers/joiner/start", NONE, &[204, 304, 404]),
                    ("DELETE", "/containers/joiner?force=1", NONE, &[204, 404, 409]),
                ],
            );
        });
    });
    // All tell the same: the containers, the network, what is in them, and a daemon that was killed.
    for name in ["one", "two"] {
        d.docker(&["start", name]).ok();
    }
    let agree = |d: &Daemon| {
        let all = d.get("/networks/tight").unwrap().json()["Containers"].clone();
        let listed = |name: &str| all.as_object().unwrap().values().find(|one| one["Name"] == name).cloned();
        for name in ["one", "two"] {
            let networks = d.inspect(name)["NetworkSettings"]["Networks"].clone();
            let inside = d.docker(&["exec", name, "ip", "-4", "-o", "addr"]).ok();
            let count = inside.lines().filter(|line| !line.contains(" lo ")).count();
            assert_eq!(count, networks.as_object().unwrap().len(), "{name}: {networks} {inside}");
            for network in networks.as_object().unwrap().values() {
                let address = format!("inet {}/", network["IPAddress"].as_str().unwrap());
                assert!(inside.contains(&address), "{name}: {networks} {inside}");
            }
            let own = listed(name).map(|one| one["IPv4Address"].clone());
            let told =
                networks.get("tight").map(|one| json!(format!("{}/29", one["IPAddress"].as_str().unwrap())));
            assert_eq!(own, told, "{name}: {all} {networks}");
        }
        all
    };
    let before = agree(&d);
    d.kill();
    d.launch();
    assert_eq!(agree(&d), before);
    // Nobody but those two holds an address or an interface.
    let held = before.as_object().unwrap().len();
    let links = || census::container_links(d.instance());
    let wanted = 2 + held;
    let gone = eventually(Duration::from_secs(10), || (links().len() == wanted).then_some(()));
    assert!(gone.is_some(), "{wanted} wanted: {:?}", links());
    for number in held..5 {
        sleeper(&d, &format!("full{number}"), &["--network", "tight"]);
    }
    let more = d.docker(&["run", "--rm", "--init", "--network", "tight", "busybox", "true"]);
    more.fails(125, "no available IPv4 addresses on this network's address pools");
}

/// Takes a thousand running containers: some minutes.
#[test]
#[ignore = "a thousand containers"]
fn a_bridge_that_is_full_refuses_one_more_before_it_starts() {
    let d = daemon!();
    d.docker(&["network", "create", "--subnet", "10.220.0.0/16", "wide"]).ok();
    let body = |name: &str| {
        json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": { "NetworkMode": "wide" },
            "Hostname": name })
    };
    for number in 0..1023 {
        let made = d.post(&format!("/containers/create?name=c{number}"), &body("x"));
        let id = made.json()["Id"].as_str().unwrap().to_owned();
        let started = d.post(&format!("/containers/{id}/start"), &serde_json::Value::Null);
        assert_eq!(started.status, 204, "{number}: {}", String::from_utf8_lossy(&started.body));
    }
    let refused = d.docker(&["run", "--network", "wide", "--name", "last", "busybox", "true"]);
    assert!(refused.code == 125 && refused.stderr.contains("1023"), "{refused:?}");
    assert_eq!(d.inspect("last")["State"]["Status"], "created");
}
