//! Nothing is lost when the daemon or the helper is killed, and nothing stays when all are gone.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use wharf_network::helper::{Helper, Protocol, Relay};
use wharf_sys::netlink::Socket;
use wharf_sys::socket::Kind;

use crate::Test;
use crate::host::{Container, Instance, eventually};
use crate::ports::request;

pub const TESTS: &[Test] = &[
    ("survival::a_killed_helper_comes_back", a_killed_helper_comes_back),
    ("survival::names_without_a_daemon", names_without_a_daemon),
    ("survival::both_killed", both_killed),
    ("survival::what_ended_without_a_daemon", what_ended_without_a_daemon),
    ("survival::one_helper_only", one_helper_only),
    ("survival::root_only", root_only),
    ("survival::many_namespaces_leave_nothing", many_namespaces_leave_nothing),
];

fn kill(helper: &Helper) -> i32 {
    let pid = helper.pid().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    pid
}

fn a_killed_helper_comes_back() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let held = instance.helper.reserve(&web.owner, &[request(Protocol::Tcp, 80)]).unwrap();
    web.link();
    let server = web.enter(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let to = (web.address(), 8080).into();
    let relays: Vec<Relay> = held.iter().filter_map(|port| Helper::relay_for(port, to)).collect();
    instance.helper.relay(&web.owner, &relays).unwrap();
    let firewall = Socket::adopt(instance.helper.firewall().unwrap()).unwrap();
    for _ in 0..5 {
        let old = kill(&instance.helper);
        // A question asked meanwhile waits in the socket, which is still there.
        assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
        assert_eq!(web.ask(&["+tcp", "web"]), ["10.9.1.2"]);
        eventually("another helper", || instance.helper.pid().is_some_and(|pid| pid != old));
        let stats = instance.helper.stats().unwrap();
        assert_eq!((stats.namespaces, stats.resolvers, stats.ports), (1, 1, 2));
        assert!(TcpListener::bind("0.0.0.0:80").is_err());
        let client = std::net::TcpStream::connect("[::1]:80").unwrap();
        drop((server.accept().unwrap(), client));
    }
    // Whoever adopts the table's socket from the new helper has the same one.
    let another = Socket::adopt(instance.another().firewall().unwrap()).unwrap();
    assert_eq!(another.port(), firewall.port());
}

fn names_without_a_daemon() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    let pid = instance.helper.pid();
    let mut instance = instance;
    // The daemon dies: its descriptors go.
    instance.helper = instance.another();
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
    // The next one finds all as it was, and giving it back once more changes nothing.
    assert_eq!(instance.helper.pid(), pid);
    assert_eq!(instance.helper.owners().unwrap(), std::slice::from_ref(&web.owner));
    instance.helper.adopt(&web.owner, web.space.namespace.as_fd(), web.space.resolver.as_ref()).unwrap();
    assert_eq!(instance.helper.stats().unwrap().namespaces, 1);
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
}

fn both_killed() {
    let mut instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    // A second handle that knows nothing, as a new daemon; then the first one and the helper die.
    let old = instance.helper.pid().unwrap();
    let unknowing = instance.another();
    drop(std::mem::replace(&mut instance.helper, unknowing));
    kill(&instance.helper);
    eventually("another helper", || instance.helper.pid().is_some_and(|pid| pid != old));
    assert_eq!(instance.helper.stats().unwrap().namespaces, 0);
    // What the supervisor kept is enough.
    instance.helper.adopt(&web.owner, web.space.namespace.as_fd(), web.space.resolver.as_ref()).unwrap();
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
    kill(&instance.helper);
    assert_eq!(web.ask(&["web"]), ["10.9.1.2"]);
}

fn what_ended_without_a_daemon() {
    let mut instance = Instance::start();
    let (web, db) = (Container::start(&instance, 1, "web"), Container::start(&instance, 2, "db"));
    instance.helper.reserve("supervised", &[request(Protocol::Tcp, 80)]).unwrap();
    instance.helper.reserve(&web.owner, &[request(Protocol::Tcp, 81)]).unwrap();
    let mut inside = db.sleeper();
    // Looks as a supervisor does that waits to start its container again.
    std::fs::write("/run/supervisor", "read wait\n").unwrap();
    let mut supervisor = std::process::Command::new("sh")
        .args(["supervisor", "/containers/supervised"])
        .current_dir("/run")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = instance.helper.pid();
    instance.leave();
    eventually("what ended is let go", || TcpListener::bind("0.0.0.0:81").is_ok());
    instance.helper = instance.another();
    assert_eq!(instance.helper.pid(), pid);
    let mut owners = instance.helper.owners().unwrap();
    owners.retain(|owner| owner != &web.owner);
    assert_eq!(owners, [db.owner.clone(), "supervised".to_owned()]);
    assert_eq!(instance.helper.stats().unwrap().namespaces, 1);
    for child in [&mut inside, &mut supervisor] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn one_helper_only() {
    let instance = Instance::start();
    let pids: Vec<_> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..8).map(|_| scope.spawn(|| instance.another().pid())).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert!(pids.iter().all(|pid| *pid == instance.helper.pid()));
    // It ends by itself, and the next one starts while it does.
    let Instance { .. } = &instance;
    for _ in 0..3 {
        let before = instance.helper.pid();
        let fresh = Instance::start();
        assert_ne!(fresh.helper.pid(), before);
    }
}

fn root_only() {
    let instance = Instance::start();
    let socket = instance.root.join("net/socket");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // Even where the file system lets others pass, they are not listened to.
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let as_user = |uid| {
        let pid = wharf_sys::process::fork_child(|| {
            std::env::set_current_dir(instance.root.join("net")).unwrap();
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
            let connection = wharf_sys::socket::connect("socket".as_ref(), Kind::Messages).unwrap();
            let hello = br#"{"request":"hello","version":1}"#;
            let sent = wharf_sys::socket::send_message(&connection, hello, &[]);
            let answer = wharf_sys::socket::wait_message(&connection, &mut [0; 1024]);
            i32::from(sent.is_ok() && answer.is_ok_and(|(length, _)| length > 0))
        });
        wharf_sys::process::wait(pid.unwrap()).unwrap()
    };
    assert_eq!((as_user(0), as_user(65534)), (1, 0));
}

fn many_namespaces_leave_nothing() {
    let instance = Instance::start();
    let descriptors = || {
        let pid = instance.helper.pid().unwrap();
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    };
    let round = |number: usize| {
        let owner = format!("container-{number}");
        let space = instance.helper.namespace(&owner, number.is_multiple_of(2), None).unwrap();
        instance.helper.reserve(&owner, &[request(Protocol::Tcp, 80)]).unwrap();
        drop(space);
        instance.helper.release(&owner).unwrap();
    };
    let settled = || instance.helper.stats().unwrap().ready == 8;
    (0..4).for_each(round);
    eventually("the pool is full", settled);
    let before = descriptors();
    (0..200).for_each(round);
    eventually("the pool is full again", settled);
    // It opens a file now and then.
    eventually("no descriptor more", || descriptors() == before);
    assert!(instance.helper.owners().unwrap().is_empty());
}
