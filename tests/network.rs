//! Networks, names and published ports, as the stock client drives them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use wharf_testkit::client::{self, eventually};
use wharf_testkit::{Daemon, census, daemon, ports};

/// What a web server says at an address of the host.
fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.rsplit("\r\n\r\n").next().map(str::to_owned)
}

fn fetched(address: &str) -> String {
    let answer = eventually(Duration::from_secs(10), || fetch(address).filter(|text| !text.is_empty()));
    answer.unwrap_or_else(|| panic!("no answer at {address}"))
}

/// A web server that answers with `text`; `flags` go before the image. It can be asked at once.
fn server(d: &Daemon, name: &str, text: &str, flags: &[&str]) -> String {
    let script = format!("echo -n {text} > /index.html; exec httpd -f -p 80 -h /");
    let run = ["run", "-d", "--name", name];
    let id = d.docker(&[&run[..], flags, &["busybox", "sh", "-c", &script]].concat()).ok();
    ports::until_listens(&d.inspect(name)["State"]["Pid"].to_string(), 80);
    id
}

/// Waits until a container has no interfaces on the host's side, which the kernel removes in its own time.
#[track_caller]
fn until_links(d: &Daemon, count: usize) {
    let links = || census::container_links(d.instance());
    let found = eventually(Duration::from_secs(10), || (links().len() == count).then_some(()));
    assert!(found.is_some(), "{count} wanted: {:?}", links());
}

#[test]
fn a_published_port_is_reached_from_the_host() {
    let d = daemon!();
    let port = ports::free();
    server(&d, "web", "hello", &["-p", &format!("{port}:80")]);
    assert_eq!(fetched(&format!("127.0.0.1:{port}")), "hello");
    assert_eq!(fetched(&format!("[::1]:{port}")), "hello");
    let shown = d.docker(&["port", "web"]).ok();
    assert_eq!(shown, format!("80/tcp -> 0.0.0.0:{port}\n80/tcp -> {}:{port}", client::words("[::]", "::")));
    let settings = &d.inspect("web")["NetworkSettings"];
    let address = settings["Networks"]["bridge"]["IPAddress"].as_str().unwrap();
    assert_eq!(settings["IPAddress"], address);
    assert_eq!(fetched(&format!("{address}:80")), "hello");
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostPort"], port.to_string());
    let listed = d.get("/containers/json").unwrap().json();
    assert_eq!(listed[0]["Ports"][0]["PublicPort"], *port);
    let hairpin =
        d.docker(&["exec", "web", "wget", "-qO-", &format!("http://{}:{port}/", host_address())]).ok();
    assert_eq!(hairpin, "hello");
    // At its end, ports and address are free again at once.
    d.docker(&["rm", "-f", "web"]).ok();
    assert!(fetch(&format!("127.0.0.1:{port}")).is_none());
    server(&d, "next", "again", &["-p", &format!("127.0.0.1:{port}:80")]);
    assert_eq!(fetched(&format!("127.0.0.1:{port}")), "again");
    assert!(fetch(&format!("{}:{port}", host_address())).is_none());
}

/// An address of this host that is not loopback.
fn host_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the kernel only looks for the way.
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[test]
fn ports_that_are_taken_are_refused_before_anything_starts() {
    let d = daemon!();
    let port = ports::free();
    let holder = TcpListener::bind(("0.0.0.0", *port)).unwrap();
    let publish = format!("{port}:80");
    let refused = d.docker(&["run", "-d", "--name", "late", "-p", &publish, "busybox", "sleep", "100"]);
    let text = "failed to set up container networking: driver failed programming external connectivity on endpoint late";
    refused.fails(125, text);
    refused.fails(125, &format!("failed to bind host port 0.0.0.0:{port}/tcp: address already in use"));
    drop(holder);
    server(&d, "first", "x", &["-p", &publish]);
    let refused = d.docker(&["run", "-d", "--name", "second", "-p", &publish, "busybox", "sleep", "100"]);
    refused.fails(125, &format!("Bind for 0.0.0.0:{port} failed: port is already allocated"));
    assert_eq!(d.inspect("second")["State"]["Status"], "created");
    // Failed starts leave nothing.
    until_links(&d, 1);
    d.docker(&["rm", "-f", "first"]).ok();
    d.docker(&["start", "second"]).ok();
}

#[test]
fn names_resolve_in_networks_that_people_make() {
    let d = daemon!();
    d.docker(&["network", "create", "net"]).ok();
    let id = server(&d, "web", "hello", &["--network", "net", "--network-alias", "alias"]);
    for name in ["web", "alias", &id[..12], "web.net"] {
        let url = format!("http://{name}/");
        let got = d.docker(&["run", "--rm", "--network", "net", "busybox", "wget", "-qO-", &url]).ok();
        assert_eq!(got, "hello", "{name}");
    }
    let network = d.get("/networks/net").unwrap().json();
    assert_eq!(network["Containers"][&id]["Name"], "web");
    let settings = &d.inspect("web")["NetworkSettings"]["Networks"]["net"];
    assert_eq!(settings["DNSNames"], json!(["web", "alias", &id[..12]]));
    let files = d.docker(&["exec", "web", "cat", "/etc/resolv.conf", "/etc/hosts"]).ok();
    assert!(files.contains("nameserver 127.0.0.11\n") && files.contains("options ndots:0\n"), "{files}");
    let own = format!("{}\t{}", settings["IPAddress"].as_str().unwrap(), &id[..12]);
    assert!(files.lines().any(|line| line == own), "{files}");
    d.docker(&["rename", "web", "site"]).ok();
    let got = d.docker(&["run", "--rm", "--network", "net", "busybox", "wget", "-qO-", "http://site/"]).ok();
    assert_eq!(got, "hello");
    d.docker(&["network", "rm", "net"]).fails(1, "has active endpoints (name:\"site\" id:");
    // Another network hears nothing of them and does not reach them.
    let address = settings["IPAddress"].as_str().unwrap();
    let other = ["run", "--rm", "--init", "busybox", "timeout", "1", "wget", "-qO-"];
    assert_ne!(d.docker(&[&other[..], &["http://site/"]].concat()).code, 0);
    assert_ne!(d.docker(&[&other[..], &[&format!("http://{address}/")]].concat()).code, 0);
}

#[test]
fn networks_are_connected_and_disconnected_live() {
    let d = daemon!();
    d.docker(&["network", "create", "one"]).ok();
    let net = ports::subnet();
    let (whole, gateway, own) = (format!("{net}.0/24"), format!("{net}.254"), format!("{net}.77"));
    d.docker(&["network", "create", "--subnet", &whole, "--gateway", &gateway, "two"]).ok();
    let port = ports::free();
    server(&d, "web", "hello", &["--network", "one", "-p", &format!("{port}:80")]);
    d.docker(&["network", "connect", "--ip", &own, "--alias", "other", "two", "web"]).ok();
    let shown = |path: &str| d.inspect("web").pointer(path).cloned().unwrap_or_default();
    assert_eq!(shown("/NetworkSettings/Networks/two/IPAddress"), own);
    let ask = ["run", "--rm", "--network", "two", "busybox", "wget", "-qO-", "http://other/"];
    assert_eq!(d.docker(&ask).ok(), "hello");
    let hosts = || d.docker(&["exec", "web", "cat", "/etc/hosts"]).ok();
    assert!(hosts().contains(&format!("{own}\t")));
    let routes = || d.docker(&["exec", "web", "ip", "route"]).ok();
    let outward = format!("default via {gateway} ");
    assert!(!routes().contains(&outward), "the first by name has the default route");
    d.docker(&["network", "disconnect", "one", "web"]).ok();
    assert!(routes().contains(&outward), "{}", routes());
    assert_eq!(fetched(&format!("127.0.0.1:{port}")), "hello", "ports follow the default route");
    assert_eq!(shown("/NetworkSettings/Networks/one"), json!(null));
    let again = d.docker(&["network", "connect", "two", "web"]);
    again.fails(1, "endpoint with name web already exists in network two");
    d.docker(&["network", "disconnect", "two", "web"]).ok();
    assert!(fetch(&format!("127.0.0.1:{port}")).is_none());
    assert!(!hosts().contains(&own));
    // The default network first answers no names; with one that does, they are.
    d.docker(&["network", "connect", "one", "web"]).ok();
    assert_eq!(fetched(&format!("127.0.0.1:{port}")), "hello");
    let id = shown("/Id");
    d.docker(&["restart", "-t", "0", "web"]).ok();
    assert_eq!(shown("/NetworkSettings/Networks").as_object().unwrap().len(), 1);
    assert_eq!(fetched(&format!("127.0.0.1:{port}")), "hello");
    assert_eq!(shown("/Id"), id);
}

#[test]
fn an_edited_resolv_conf_stays_as_it_is() {
    let d = daemon!();
    d.docker(&["network", "create", "net"]).ok();
    for name in ["plain", "edited"] {
        d.docker(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]).ok();
    }
    d.docker(&["exec", "edited", "sh", "-c", "echo '# mine' >> /etc/resolv.conf"]).ok();
    let file = |name: &str| d.docker(&["exec", name, "cat", "/etc/resolv.conf"]).ok();
    assert!(!file("plain").contains("127.0.0.11"));
    for name in ["plain", "edited"] {
        d.docker(&["network", "connect", "net", name]).ok();
    }
    assert!(file("plain").contains("nameserver 127.0.0.11"));
    assert!(!file("edited").contains("127.0.0.11") && file("edited").contains("# mine"));
    d.docker(&["network", "disconnect", "net", "plain"]).ok();
    assert!(!file("plain").contains("127.0.0.11"));
}

#[test]
fn connections_outlive_the_daemon() {
    let mut d = daemon!();
    d.docker(&["network", "create", "net"]).ok();
    let port = ports::free();
    let publish = format!("{port}:80");
    let script = "mkfifo /f; exec nc -l -p 80 < /f | tee /f > /dev/null";
    let run =
        ["run", "-d", "--name", "echo", "--network", "net", "-p", &publish, "busybox", "sh", "-c", script];
    d.docker(&run).ok();
    server(&d, "web", "hello", &["--network", "net", "--restart", "always"]);
    let connect = || TcpStream::connect(("127.0.0.1", *port)).ok();
    let mut stream = eventually(Duration::from_secs(10), connect).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut echo = move |text: &str| {
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, text.as_bytes());
    };
    echo("before");
    let address = d.inspect("echo")["NetworkSettings"]["Networks"]["net"]["IPAddress"].clone();
    d.kill();
    echo("while nobody is there");
    d.launch();
    echo("after");
    let settings = d.inspect("echo")["NetworkSettings"].clone();
    assert_eq!(settings["Networks"]["net"]["IPAddress"], address);
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostPort"], port.to_string());
    // Names are answered, new containers get other addresses, ports are still held.
    let ask = ["run", "--rm", "--network", "net", "busybox", "wget", "-qO-", "http://web/"];
    assert_eq!(d.docker(&ask).ok(), "hello");
    let taken = d.docker(&["run", "-d", "-p", &publish, "busybox", "true"]);
    taken.fails(125, "port is already allocated");
    d.docker(&["network", "connect", "bridge", "echo"]).ok();
    echo("connected");
    // The policy starts it again in the same place.
    let pid = i32::try_from(d.inspect("web")["State"]["Pid"].as_i64().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let restarted = |document: &serde_json::Value| {
        document["RestartCount"] == 1 && document["State"]["Status"] == "running"
    };
    d.until("web", restarted);
    let again = || Some(d.docker(&ask)).filter(|run| run.code == 0 && run.stdout == "hello");
    assert!(eventually(Duration::from_secs(10), again).is_some());
}

#[test]
fn several_networks_modes_and_static_addresses() {
    if client::skipped_with_20_10("its API has one network at create") {
        return;
    }
    let d = daemon!();
    let net = ports::subnet();
    let (whole, range, own) = (format!("{net}.0/24"), format!("{net}.64/26"), format!("{net}.9"));
    d.docker(&["network", "create", "--subnet", &whole, "--ip-range", &range, "one"]).ok();
    d.docker(&["network", "create", "--internal", "two"]).ok();
    let first = format!("name=one,ip={own},alias=first");
    let flags =
        ["--network", &first, "--network", "two", "--hostname", "here", "--mac-address", "02:42:0a:00:00:09"];
    server(&d, "web", "hello", &flags);
    let networks = d.inspect("web")["NetworkSettings"]["Networks"].clone();
    assert_eq!(networks["one"]["IPAddress"], own);
    assert_eq!(networks["one"]["MacAddress"], "02:42:0a:00:00:09");
    assert_eq!(networks["two"]["Gateway"], "");
    let inner = ["run", "--rm", "--network", "two", "busybox", "wget", "-qO-", "http://here/"];
    assert_eq!(d.docker(&inner).ok(), "hello");
    let given = d.docker(&["run", "--rm", "--network", "one", "busybox", "hostname", "-i"]).ok();
    let last: u8 = given.rsplit('.').next().unwrap().parse().unwrap();
    assert!((64..128).contains(&last), "{given}");
    // The same stack, the same files.
    let mode = ["run", "--rm", "--network", "container:web", "busybox"];
    assert_eq!(d.docker(&[&mode[..], &["wget", "-qO-", "http://127.0.0.1/"]].concat()).ok(), "hello");
    assert_eq!(d.docker(&[&mode[..], &["cat", "/etc/hostname"]].concat()).ok(), "here");
    let host =
        d.docker(&["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"]).ok();
    assert_eq!(host, std::fs::read_link("/proc/self/ns/net").unwrap().to_string_lossy());
    let none = d.docker(&["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"]).ok();
    assert!(!none.contains("eth"), "{none}");
    let twice = d.docker(&["run", "--rm", "--network", "one", "--ip", &own, "busybox", "true"]);
    twice.fails(125, "failed to set up container networking: Address already in use");
    let outside = d.docker(&["run", "--rm", "--network", "one", "--ip", "10.99.0.9", "busybox", "true"]);
    outside.fails(125, "no configured subnet or ip-range contain the IP address 10.99.0.9");
}

#[test]
fn links_and_extra_hosts_are_written_down() {
    let d = daemon!();
    d.docker(&[
        "run", "-d", "--name", "db", "-e", "SECRET=x", "--expose", "5432", "busybox", "sleep", "1000",
    ])
    .ok();
    let run = ["run", "--rm", "--name", "app", "--link", "db:base", "--add-host", "up:host-gateway"];
    let text = d.docker(&[&run[..], &["busybox", "sh", "-c", "cat /etc/hosts; env"]].concat()).ok();
    let settings = d.inspect("db")["NetworkSettings"].clone();
    let (address, gateway) = (settings["IPAddress"].as_str().unwrap(), settings["Gateway"].as_str().unwrap());
    let id = d.inspect("db")["Config"]["Hostname"].as_str().unwrap().to_owned();
    for line in [
        format!("{address}\tbase {id} db"),
        format!("{gateway}\tup"),
        format!("BASE_PORT_5432_TCP=tcp://{address}:5432"),
        "BASE_NAME=/app/base".to_owned(),
        "BASE_ENV_SECRET=x".to_owned(),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    d.docker(&["network", "create", "net"]).ok();
    server(&d, "web", "hello", &["--network", "net"]);
    let run =
        ["run", "--rm", "--network", "net", "--link", "web:site", "busybox", "wget", "-qO-", "http://site/"];
    assert_eq!(d.docker(&run).ok(), "hello");
    // What shares another's network is found where that one is.
    d.docker(&["run", "-d", "--name", "near", "--network", "container:db", "busybox", "sleep", "1000"]).ok();
    let run = ["run", "--rm", "--link", "near:side", "busybox", "cat", "/etc/hosts"];
    assert!(d.docker(&run).ok().lines().any(|line| line.starts_with(&format!("{address}\tside "))));
    let own = d.docker(&["run", "--name", "me", "--network", "container:me", "busybox"]);
    own.fails(125, "cannot join own network namespace");
    // Two that ask for each other's have none.
    d.docker(&["create", "--name", "hen", "--network", "container:egg", "busybox"]).ok();
    d.docker(&["create", "--name", "egg", "--network", "container:hen", "busybox"]).ok();
    d.docker(&["create", "--link", "egg:x", "busybox"]).fails(1, "cannot join own network namespace");
    d.docker(&["create", "--link", "me:x", "busybox"]).fails(1, "cannot join own network namespace");
    // Also of a network that is joined later; what a link means there need not be there yet.
    d.docker(&["network", "create", "later"]).ok();
    let run = ["run", "-d", "--name", "guest", "--network", "net", "--link", "nobody:none", "busybox"];
    d.docker(&[&run[..], &["sleep", "1000"]].concat()).ok();
    d.docker(&["network", "connect", "later", "web"]).ok();
    d.docker(&["network", "connect", "--link", "web:place", "later", "guest"]).ok();
    assert_eq!(d.docker(&["exec", "guest", "wget", "-qO-", "http://place/"]).ok(), "hello");
}

#[test]
fn events_tell_of_networks() {
    let d = daemon!();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    d.docker(&["network", "create", "net"]).ok();
    let id = d.docker(&["run", "-d", "--network", "net", "busybox", "true"]).ok();
    d.docker(&["wait", &id]).ok();
    d.docker(&["rm", &id]).ok();
    d.docker(&["network", "rm", "net"]).ok();
    let since = since.to_string();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 1;
    let filter = ["events", "--since", &since, "--until", &now.to_string(), "--filter", "type=network"]
        .map(str::to_owned);
    let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
    let format = [
        "--format",
        "{{.Action}} {{index .Actor.Attributes \"name\"}} {{with index .Actor.Attributes \"container\"}}{{.}}{{end}}",
    ];
    let text = d.docker(&[&filter[..], &format].concat()).ok();
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let (connect, disconnect) = (format!("connect net {id}"), format!("disconnect net {id}"));
    assert_eq!(lines, ["create net", &connect, &disconnect, "destroy net"]);
}

#[test]
fn ports_are_added_to_and_taken_from_a_running_container() {
    let mut d = daemon!();
    let (one, two) = (ports::free(), ports::free());
    server(&d, "web", "hello", &["-p", &format!("{one}:80")]);
    d.wharf(&["container", "update", "--publish-add", &format!("{two}:80"), "web"]).ok();
    assert_eq!(fetched(&format!("127.0.0.1:{two}")), "hello");
    d.wharf(&["container", "update", "--publish-rm", &format!("{one}:80"), "web"]).ok();
    assert!(fetch(&format!("127.0.0.1:{one}")).is_none());
    assert_eq!(fetched(&format!("127.0.0.1:{two}")), "hello");
    d.kill();
    d.launch();
    let bound = d.inspect("web")["HostConfig"]["PortBindings"].clone();
    assert_eq!(bound, json!({ "80/tcp": [{ "HostIp": "", "HostPort": two.to_string() }] }));
    d.docker(&["restart", "-t", "0", "web"]).ok();
    assert_eq!(fetched(&format!("127.0.0.1:{two}")), "hello", "it lasts");
    assert!(fetch(&format!("127.0.0.1:{one}")).is_none());
    let wrong = d.wharf(&["container", "update", "--publish-rm", "81", "web"]);
    wrong.fails(1, "port 81/tcp is not published");
}

#[test]
fn limits_are_set_and_changed() {
    let d = daemon!();
    d.docker(&["network", "create", "net"]).ok();
    let limit = "name=net,driver-opt=io.wharf.egress=10mbit";
    d.docker(&["run", "-d", "--name", "slow", "--network", limit, "busybox", "sleep", "1000"]).ok();
    let shown = || d.inspect("slow")["NetworkSettings"]["Networks"]["net"]["DriverOpts"].clone();
    assert_eq!(shown(), json!({ "io.wharf.egress": "10mbit" }));
    d.wharf(&["network", "update", "--driver-opt", "io.wharf.ingress=1gbit", "net", "slow"]).ok();
    assert_eq!(shown(), json!({ "io.wharf.egress": "10mbit", "io.wharf.ingress": "1gbit" }));
    d.wharf(&["network", "update", "--driver-opt", "io.wharf.egress=", "net", "slow"]).ok();
    assert_eq!(shown(), json!({ "io.wharf.ingress": "1gbit" }));
    let wrong = d.wharf(&["network", "update", "--driver-opt", "io.wharf.egress=fast", "net", "slow"]);
    wrong.fails(1, "invalid rate");
}

#[test]
fn networks_come_back_after_a_reboot() {
    let mut d = daemon!();
    let net = ports::subnet();
    let whole = format!("{net}.0/24");
    d.docker(&["network", "create", "--subnet", &whole, "net"]).ok();
    let port = ports::free();
    let flags = ["--network", "net", "-p", &format!("{port}:80"), "--restart", "always"];
    let id = server(&d, "web", "hello", &flags);
    let pid = d.inspect("web")["State"]["Pid"].as_i64().unwrap();
    // As a reboot leaves it: no processes, no interfaces, an empty run-time directory.
    d.kill();
    let helper = format!("net {} ", d.instance());
    let kill = |pid: i32| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _ends_with_its_parent = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    };
    kill(i32::try_from(pid).unwrap());
    // Until all are dead: one that dies still holds its ports. Who is dead has no command line.
    let dead = || {
        let left = [census::processes(&id), census::processes(&helper)].concat();
        left.iter().for_each(|line| kill(line.split([' ', ':']).nth(1).unwrap().parse().unwrap()));
        let ends = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty();
        (left.is_empty() && ends).then_some(())
    };
    eventually(Duration::from_secs(20), dead).expect("all are dead");
    let _ = std::fs::remove_dir_all(d.path("run"));
    d.launch();
    d.until("web", |document| document["State"]["Status"] == "running");
    assert_eq!(fetched(&format!("127.0.0.1:{port}")), "hello");
    assert_eq!(d.get("/networks/net").unwrap().json()["IPAM"]["Config"][0]["Subnet"], whole);
}

#[test]
fn lists_prunes_and_configurations() {
    let d = daemon!();
    let net = ports::subnet();
    let whole = format!("{net}.0/24");
    d.docker(&[
        "network",
        "create",
        "--config-only",
        "--subnet",
        &whole,
        "-o",
        "com.docker.network.driver.mtu=1400",
        "conf",
    ])
    .ok();
    d.docker(&["network", "create", "--config-from", "conf", "--label", "", "real"]);
    d.docker(&["network", "create", "--config-from", "conf", "real"]).ok();
    let real = d.get("/networks/real").unwrap().json();
    assert_eq!(real["IPAM"]["Config"][0]["Subnet"], whole);
    assert_eq!(real["ConfigFrom"]["Network"], "conf");
    let mtu =
        d.docker(&["run", "--rm", "--network", "real", "busybox", "cat", "/sys/class/net/eth0/mtu"]).ok();
    assert_eq!(mtu, "1400");
    d.docker(&["network", "rm", "conf"]).fails(1, "configuration network \"conf\" is in use");
    d.docker(&["network", "create", "--label", "keep=1", "kept"]).ok();
    d.docker(&["run", "-d", "--network", "real", "busybox", "sleep", "1000"]).ok();
    let names = |filter: &str| d.docker(&["network", "ls", "--format", "{{.Name}}", "-f", filter]).ok();
    assert_eq!(names("driver=bridge"), "bridge\nkept\nreal");
    assert_eq!(names("dangling=true"), "conf\nkept");
    assert_eq!(names("label=keep"), "kept");
    d.docker(&["network", "prune", "-f", "--filter", "label!=keep"]).ok();
    assert_eq!(names("type=custom"), "conf\nkept\nreal", "what others depend on or use stays");
}

#[test]
fn nothing_is_left_behind() {
    let d = daemon!();
    d.docker(&["network", "create", "net"]).ok();
    for round in 0..10 {
        let run = ["run", "--rm", "-p", "80", "--network", if round % 2 == 0 { "net" } else { "bridge" }];
        d.docker(&[&run[..], &["busybox", "true"]].concat()).ok();
    }
    until_links(&d, 0);
    let network = d.get("/networks/net").unwrap().json();
    assert_eq!(network["Containers"], json!({}));
    d.docker(&["network", "rm", "net"]).ok();
}
