//! Hosts made of network namespaces.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wharf_network::helper::protocol::Protocol;
use wharf_network::plane::{Plane, Target, bridge_name};
use wharf_network::types::{
    Attached, Bandwidth, Bridge, Driver, Endpoint, GatewayMode, Mapping, Network, Settings, Subnet,
};
use wharf_sys::namespace::{self, flags};
use wharf_sys::netlink::{Family, Socket};

/// How long a packet that must not come is waited for.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);
/// How long one that must come may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace.
pub(crate) struct Space(OwnedFd);

impl Space {
    /// A new one, loopback up.
    pub(crate) fn new() -> Self {
        let made = std::thread::spawn(|| {
            namespace::unshare(flags::NETWORK).unwrap();
            namespace::loopback_up().unwrap();
            namespace::open(std::path::Path::new("/proc/thread-self/ns/net")).unwrap()
        });
        Self(made.join().unwrap())
    }

    /// Runs something inside.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                namespace::join(self.0.as_fd(), flags::NETWORK).unwrap();
                work()
            });
            match inside.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs something inside that goes on.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            namespace::join(namespace.as_fd(), flags::NETWORK).unwrap();
            work()
        })
    }

    /// A shell's output, which must succeed.
    pub(crate) fn shell(&self, script: &str) -> String {
        let output = self.run(|| Command::new("sh").args(["-ec", script]).output().unwrap());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{script}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Answers every TCP connection to a port with the address it came from, and UDP packets alike, for as
    /// long as the test runs.
    pub(crate) fn serve(&self, port: u16) {
        let tcp = self.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        let udp = self.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(plain(from.ip()).to_string().as_bytes(), from);
            }
        });
    }

    /// Connects, and tells who the server says we are; `None`: nobody answered.
    pub(crate) fn ask(&self, to: impl Into<Goal>) -> Option<IpAddr> {
        self.ask_within(to, PATIENCE)
    }

    /// Whether nobody answers.
    pub(crate) fn is_shut(&self, to: impl Into<Goal>) -> bool {
        self.ask_within(to, SILENCE).is_none()
    }

    pub(crate) fn ask_within(&self, to: impl Into<Goal>, patience: Duration) -> Option<IpAddr> {
        let to = to.into().0;
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, patience).ok()?;
            stream.set_read_timeout(Some(patience)).unwrap();
            let mut text = String::new();
            stream.write_all(b"who\n").ok()?;
            stream.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        })
    }

    /// The same over UDP.
    pub(crate) fn ask_udp(&self, to: impl Into<Goal>, patience: Duration) -> Option<IpAddr> {
        let to = to.into().0;
        self.run(|| {
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.connect(to).ok()?;
            socket.set_read_timeout(Some(patience)).unwrap();
            socket.send(b"who").ok()?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            String::from_utf8_lossy(&buffer[..length]).trim().parse().ok()
        })
    }
}

fn answer(mut stream: TcpStream) {
    let from = stream.peer_addr().map(|peer| plain(peer.ip()).to_string());
    let mut line = [0; 4];
    if stream.read_exact(&mut line).is_ok()
        && let Ok(from) = from
    {
        let _ = stream.write_all(from.as_bytes());
    }
}

fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Something to connect to: `"10.0.0.1:80"`.
pub(crate) struct Goal(SocketAddr);

impl From<&str> for Goal {
    fn from(text: &str) -> Self {
        Self(text.parse().unwrap())
    }
}

impl From<(IpAddr, u16)> for Goal {
    fn from(pair: (IpAddr, u16)) -> Self {
        Self(pair.into())
    }
}

/// A machine with a plane, and a host beside it on the same wire.
///
/// ```text
/// remote 198.51.100.2, 2001:db8::2 ── uplink ── host 198.51.100.1, 2001:db8::1 ── bridges
/// ```
pub(crate) struct World {
    pub(crate) host: Space,
    pub(crate) remote: Space,
    pub(crate) plane: Plane,
    pub(crate) settings: Settings,
    firewall: Option<Socket>,
    _run_dir: tempfile::TempDir,
}

/// Whether packets within a bridge pass the IP firewall; a kernel without `br_netfilter` never does that.
pub(crate) fn bridge_nf(call: u8) -> String {
    format!(
        "for name in iptables ip6tables; do
           file=/proc/sys/net/bridge/bridge-nf-call-$name; test ! -e $file || echo {call} > $file
         done"
    )
}

/// Ids that no other test has.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{number:04x}{:08x}{what}", std::process::id())
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other settings than the usual ones.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::prepared("", change)
    }

    /// With a script that has run on the host before the plane is opened.
    pub(crate) fn prepared(script: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let (host, remote) = (Space::new(), Space::new());
        let pid = std::process::id();
        let fd = std::os::fd::AsRawFd::as_raw_fd(remote.fd());
        host.shell(&format!(
            "ip link add uplink type veth peer name uplink netns /proc/{pid}/fd/{fd}
             ip link set uplink up
             ip addr add 198.51.100.1/24 dev uplink
             ip addr add 2001:db8::1/64 dev uplink nodad
             {script}"
        ));
        remote.shell(
            "ip link set uplink up
             ip addr add 198.51.100.2/24 dev uplink
             ip addr add 2001:db8::2/64 dev uplink nodad",
        );
        let run_dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(&unique("i"), run_dir.path());
        settings.host_root = run_dir.path().to_owned();
        change(&mut settings);
        let firewall = host.run(|| Socket::open(Family::Netfilter).unwrap());
        let plane = host.run(|| {
            let plane = Plane::open(settings.clone(), firewall.duplicate().unwrap().into()).unwrap();
            plane.reconcile(&[], &[]).unwrap();
            plane
        });
        Self { host, remote, plane, settings, firewall: Some(firewall), _run_dir: run_dir }
    }

    /// A daemon's death and new life: the plane is opened again, with what should be there.
    pub(crate) fn reopen(
        &mut self,
        networks: &[Network],
        endpoints: &[Attached],
    ) -> wharf_network::types::Reconciled {
        let firewall = self.firewall.as_ref().unwrap().duplicate().unwrap();
        let (settings, host) = (self.settings.clone(), &self.host);
        let (plane, done) = host.run(|| {
            let plane = Plane::open(settings, firewall.into()).unwrap();
            let done = plane.reconcile(networks, endpoints).unwrap();
            (plane, done)
        });
        self.plane = plane;
        done
    }

    /// The daemon and the net helper die: every descriptor of the socket that owns the table is closed.
    pub(crate) fn kill_owners(&mut self) {
        self.firewall = None;
        // A plane of another instance stands in its place, so that there is one.
        let settings = Settings::new(&unique("dead"), self._run_dir.path());
        let other = self.host.run(|| {
            let socket = Socket::open(Family::Netfilter).unwrap();
            Plane::open(settings, socket.into()).unwrap()
        });
        drop(std::mem::replace(&mut self.plane, other));
    }

    /// Both live again.
    pub(crate) fn revive(&mut self, networks: &[Network], endpoints: &[Attached]) {
        self.firewall = Some(self.host.run(|| Socket::open(Family::Netfilter).unwrap()));
        self.reopen(networks, endpoints);
    }

    /// Makes a network.
    pub(crate) fn network(&self, network: &Network) {
        self.host.run(|| self.plane.create_network(network).unwrap());
    }

    /// A container on a network.
    pub(crate) fn container(&self, network: &Network, addresses: &[&str]) -> Container {
        self.publishing(network, addresses, &[])
    }

    /// A container with published ports.
    pub(crate) fn publishing(&self, network: &Network, addresses: &[&str], ports: &[Mapping]) -> Container {
        let endpoint = endpoint(network, addresses, ports);
        Container::new(self, &endpoint)
    }
}

/// A namespace with its socket, and its endpoint.
pub(crate) struct Container {
    pub(crate) space: Space,
    pub(crate) route: Socket,
    pub(crate) attached: Attached,
}

impl Container {
    pub(crate) fn new(world: &World, endpoint: &Endpoint) -> Self {
        let space = Space::new();
        let route = space.run(|| Socket::open(Family::Route).unwrap());
        let attached = {
            let target = Target { namespace: space.fd().as_fd(), route: route.as_fd() };
            world.host.run(|| world.plane.attach(endpoint, target).unwrap())
        };
        Self { space, route, attached }
    }

    pub(crate) fn target(&self) -> Target<'_> {
        Target { namespace: self.space.fd().as_fd(), route: self.route.as_fd() }
    }
}

/// A bridge network with these subnets, each with its first address as the gateway.
pub(crate) fn bridge(subnets: &[&str]) -> Network {
    let id = unique("network");
    let subnets = subnets
        .iter()
        .map(|text| {
            let net: ipnet::IpNet = text.parse().unwrap();
            Subnet { net, gateway: net.hosts().find(|host| *host != net.network()) }
        })
        .collect();
    Network {
        driver: Driver::Bridge(Bridge {
            interface: bridge_name(&id),
            own: true,
            mode4: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            icc: true,
            masquerade: true,
            inhibit_ipv4: false,
            source4: None,
            source6: None,
        }),
        name: id.clone(),
        id,
        mtu: None,
        internal: false,
        subnets,
    }
}

/// A network with other bridge options.
pub(crate) fn changed(mut network: Network, change: impl FnOnce(&mut Bridge)) -> Network {
    if let Driver::Bridge(bridge) = &mut network.driver {
        change(bridge);
    }
    network
}

/// An endpoint with the network's gateways as default routes.
pub(crate) fn endpoint(network: &Network, addresses: &[&str], ports: &[Mapping]) -> Endpoint {
    let addresses: Vec<ipnet::IpNet> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let has = |gateway: &IpAddr| addresses.iter().any(|net| net.contains(gateway));
    let gateways = network.subnets.iter().filter_map(|subnet| subnet.gateway).filter(has).collect();
    Endpoint {
        id: unique("endpoint"),
        network: network.id.clone(),
        interface: "eth0".into(),
        mac: None,
        gateways,
        addresses,
        on_link: false,
        sysctls: vec![],
        bandwidth: Bandwidth::default(),
        ports: ports.to_vec(),
    }
}

/// A published TCP port: `"0.0.0.0:8080"` to `"10.0.0.2:80"`.
pub(crate) fn tcp(host: &str, container: &str) -> Mapping {
    let (host, container): (SocketAddr, SocketAddr) = (host.parse().unwrap(), container.parse().unwrap());
    Mapping {
        protocol: Protocol::Tcp,
        host: host.ip(),
        host_port: host.port(),
        container: container.ip(),
        container_port: container.port(),
    }
}

pub(crate) fn udp(host: &str, container: &str) -> Mapping {
    Mapping { protocol: Protocol::Udp, ..tcp(host, container) }
}
