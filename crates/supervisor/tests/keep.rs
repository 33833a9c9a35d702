//! A namespace and other descriptors of the daemon's that last as long as the supervisor does. Needs root.

mod common;

use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::fs::MetadataExt;

use common::*;
use wharf_oci::runtime::{Namespace, NamespaceKind, Spec};
use wharf_shim::Handle;
use wharf_shim::protocol::{Carried, Event, RestartPolicy};
use wharf_sys::namespace::{self, flags};
use wharf_sys::pidfd::PidFd;

/// A new network namespace, as a file.
fn network() -> OwnedFd {
    let made = std::thread::spawn(|| {
        namespace::unshare(flags::NETWORK).unwrap();
        namespace::open("/proc/thread-self/ns/net".as_ref()).unwrap()
    });
    made.join().unwrap()
}

fn inode(fd: &OwnedFd) -> u64 {
    std::fs::File::from(fd.try_clone().unwrap()).metadata().unwrap().st_ino()
}

fn fixture(script: &str) -> Fixture {
    let fixture = Fixture::new(script);
    let path = fixture.directory.path().join("config.json");
    let mut spec: Spec = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    spec.linux.as_mut().unwrap().namespaces.push(Namespace::new(NamespaceKind::Network));
    std::fs::write(path, serde_json::to_vec(&spec).unwrap()).unwrap();
    fixture
}

#[tokio::test]
async fn a_container_keeps_its_network_over_restarts() {
    let mut fixture = fixture("readlink /proc/self/ns/net; sleep 0.1; exit 1");
    fixture.config.restart = RestartPolicy::OnFailure { maximum_retry_count: 1 };
    let network = network();
    let given = [(Carried::Netns, network.as_fd()), (Carried::Kept(7), network.as_fd())];
    let (handle, mut events) = Handle::spawn(fixture.executable(), &fixture.config, &given).unwrap();
    let launched = handle.launch().await.unwrap();
    let kinds: Vec<Carried> = launched.descriptors.kept.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Carried::Netns, Carried::Kept(7)]);
    assert!(launched.descriptors.kept.iter().all(|(_, fd)| inode(fd) == inode(&network)));
    while !matches!(next(&mut events).await, Event::Exited { restart_in_ms: None, .. }) {}
    let name = format!("net:[{}]\n", inode(&network));
    assert_eq!(fixture.logged("stdout"), format!("{name}{name}"));
}

#[tokio::test]
async fn what_is_kept_is_given_back_and_handed_on() {
    let fixture = fixture("exec sleep 100");
    let (network, other) = (network(), std::fs::File::open("/").unwrap());
    let given = [(Carried::Netns, network.as_fd())];
    let (handle, events) = Handle::spawn(fixture.executable(), &fixture.config, &given).unwrap();
    let launched = handle.launch().await.unwrap();
    for file in ["/tmp", "/"] {
        let file = std::fs::File::open(file).unwrap();
        handle.keep(vec![(Carried::Kept(1), file.into())]).await.unwrap();
    }
    let (_, descriptors) = handle.status().await.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", launched.pid)).unwrap();
    let supervisor: i32 = stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    PidFd::open(supervisor).unwrap().kill().unwrap();
    drop((handle, events));

    let (handle, mut events) = Handle::adopt(fixture.executable(), &fixture.config, &descriptors).unwrap();
    drop(descriptors);
    let (_, descriptors) = handle.status().await.unwrap();
    let kept: Vec<(Carried, u64)> = descriptors.kept.iter().map(|(kind, fd)| (*kind, inode(fd))).collect();
    let root = inode(&other.into());
    assert_eq!(kept, [(Carried::Netns, inode(&network)), (Carried::Kept(1), root)]);
    handle.kill_all().await.unwrap();
    end(&mut events).await;
}
