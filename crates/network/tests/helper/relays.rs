//! What comes to `[::1]`, carried to a container.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use wharf_network::helper::{Helper, Protocol, Relay, Reservation};

use crate::Test;
use crate::host::{Container, Instance, eventually};
use crate::ports::request;

pub const TESTS: &[Test] = &[
    ("relays::connections_are_carried_whole", connections_are_carried_whole),
    ("relays::half_closed_and_refused", half_closed_and_refused),
    ("relays::datagrams_come_back", datagrams_come_back),
];

/// Publishes port 80 of the host as `to`, in all address families.
fn publish(
    instance: &Instance,
    container: &Container,
    protocol: Protocol,
    to: SocketAddr,
) -> Vec<Reservation> {
    let held = instance.helper.reserve(&container.owner, &[request(protocol, 80)]).unwrap();
    let relays: Vec<Relay> = held.iter().filter_map(|port| Helper::relay_for(port, to)).collect();
    assert_eq!(relays.len(), 1);
    instance.helper.relay(&container.owner, &relays).unwrap();
    held
}

fn connections_are_carried_whole() {
    const LENGTH: usize = 40_000_000;
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    web.link();
    let listener = web.enter(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    publish(&instance, &web, Protocol::Tcp, SocketAddr::new(web.address(), 8080));
    // Sends back all it gets.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut other = stream.try_clone().unwrap();
                std::io::copy(&mut other, &mut stream).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
    let clients: Vec<_> = (0..4_u8)
        .map(|seed| {
            std::thread::spawn(move || {
                let stream = TcpStream::connect("[::1]:80").unwrap();
                let mut writer = stream.try_clone().unwrap();
                let data: Vec<u8> = (0..LENGTH / 4).map(|at| (at % 251) as u8 ^ seed).collect();
                let sent = data.clone();
                let sender = std::thread::spawn(move || {
                    writer.write_all(&sent).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let mut received = Vec::new();
                (&stream).read_to_end(&mut received).unwrap();
                sender.join().unwrap();
                assert!(received == data, "{} of {} bytes", received.len(), data.len());
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    eventually("all connections end", || instance.helper.stats().unwrap().relayed == 0);
    // IPv4 is the firewall's; nobody listens there.
    assert!(TcpStream::connect("127.0.0.1:80").is_err());
}

fn half_closed_and_refused() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    web.link();
    let held = publish(&instance, &web, Protocol::Tcp, SocketAddr::new(web.address(), 8080));
    // Nobody listens in the container: the connection ends at once.
    let mut client = TcpStream::connect("[::1]:80").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));

    let listener = web.enter(|| TcpListener::bind("0.0.0.0:8080").unwrap());
    let mut client = TcpStream::connect("[::1]:80").unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let (mut server, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), web.host());
    let mut text = String::new();
    server.read_to_string(&mut text).unwrap();
    assert_eq!(text, "question");
    std::thread::sleep(Duration::from_millis(50));
    server.write_all(b"answer").unwrap();
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");

    // The end of the publication is the end of its connections.
    let mut client = TcpStream::connect("[::1]:80").unwrap();
    client.write_all(b"x").unwrap();
    let (_server, _) = listener.accept().unwrap();
    instance.helper.unreserve(&web.owner, &held).unwrap();
    assert!(matches!(client.read(&mut [0; 8]), Ok(0) | Err(_)));
    assert!(TcpStream::connect("[::1]:80").is_err());
    assert_eq!(instance.helper.stats().unwrap().relayed, 0);
    // What lingers of them is in nobody's way.
    instance.helper.reserve(&web.owner, &[request(Protocol::Tcp, 80)]).unwrap();
    instance.helper.unreserve(&web.owner, &held).unwrap();
    let gone = Relay { from: held[1].clone(), to: SocketAddr::new(web.address(), 8080) };
    assert!(instance.helper.relay(&web.owner, &[gone]).is_err());
}

fn datagrams_come_back() {
    let instance = Instance::start();
    let web = Container::start(&instance, 1, "web");
    web.link();
    let server = web.enter(|| UdpSocket::bind("0.0.0.0:8080").unwrap());
    publish(&instance, &web, Protocol::Udp, SocketAddr::new(web.address(), 8080));
    std::thread::spawn(move || {
        let mut buffer = [0; 65535];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            server.send_to(&buffer[..length], from).unwrap();
        }
    });
    let client = || {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect("[::1]:80").unwrap();
        socket
    };
    let (one, two) = (client(), client());
    let mut buffer = vec![0; 65535];
    for round in 0..100_usize {
        let message = vec![round as u8; 1 + round * 13];
        one.send(&message).unwrap();
        two.send(&message[..1]).unwrap();
        assert_eq!(one.recv(&mut buffer).unwrap(), message.len());
        assert_eq!(&buffer[..message.len()], message);
        assert_eq!(two.recv(&mut buffer).unwrap(), 1);
    }
    assert_eq!(instance.helper.stats().unwrap().relayed, 2);
}
