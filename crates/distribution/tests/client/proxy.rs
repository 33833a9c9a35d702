//! Through proxies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use wharf_distribution::client::{Client, Config, Proxies, Target};

use crate::script::{Script, answer};
use crate::{hasty, manifest, repository};

/// A proxy that brings every tunnel to one server.
pub(crate) struct Forwarder {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Forwarder {
    pub(crate) fn settings(&self) -> Proxies {
        Proxies {
            http: String::new(),
            https: format!("http://user:pass@{}", self.address),
            none: ".direct.test".into(),
        }
    }
}

pub(crate) async fn forwarder(to: SocketAddr) -> Forwarder {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                log.lock().unwrap().push(String::from_utf8(head).unwrap());
                let mut server = TcpStream::connect(to).await.unwrap();
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    Forwarder { address, heads }
}

#[tokio::test]
async fn tunnels_carry_tls_and_the_name_goes_to_the_proxy() {
    let authority = crate::tls::authority();
    let registry = Script::start_tls(authority.server(&["registry.test"]), |_| {
        answer("200 OK", &[], manifest().as_bytes())
    })
    .await;
    let certs = authority.certs_d(&["registry.test:4433"]);
    let proxy = forwarder(registry.address).await;
    let settings =
        Config { certificates: vec![certs.path().to_owned()], proxies: proxy.settings(), ..hasty() };
    let client = Client::new(settings).unwrap();
    let target = Target::Tag("x".into());
    repository(&client, "registry.test:4433/a").manifest(&target, None).await.unwrap();
    let heads = proxy.heads.lock().unwrap().clone();
    assert!(
        heads[0].starts_with("CONNECT registry.test:4433 HTTP/1.1\r\nHost: registry.test:4433\r\n"),
        "{}",
        heads[0]
    );
    assert!(heads[0].contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n"));
    let seen = registry.seen();
    assert!(seen.iter().all(|seen| seen.header("proxy-authorization").is_none()));
}

#[tokio::test]
async fn plain_requests_go_to_the_proxy_with_their_whole_address() {
    let proxy = Script::start(|_| answer("200 OK", &[], manifest().as_bytes())).await;
    let proxies = Proxies { http: format!("http://u:p@{}", proxy.address), ..Proxies::default() };
    let refused = Script::start(|_| answer("403 Forbidden", &[], b"")).await;
    let proxies = Proxies { https: refused.address.to_string(), ..proxies };
    let settings = Config { proxies, insecure: vec!["registry.test:5000".into()], ..hasty() };
    let repository = repository(&Client::new(settings).unwrap(), "registry.test:5000/a");
    repository.manifest(&Target::Tag("x".into()), None).await.unwrap();
    let seen = proxy.seen();
    assert_eq!(seen.last().unwrap().path, "http://registry.test:5000/v2/a/manifests/x");
    assert_eq!(seen[0].header("proxy-authorization").as_deref(), Some("Basic dTpw"));
    assert_eq!(refused.seen()[0].method, "CONNECT");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told() {
    let proxy = Script::start(|_| answer("407 Proxy Authentication Required", &[], b"")).await;
    let proxies = Proxies { https: proxy.address.to_string(), ..Proxies::default() };
    let client = Client::new(Config { proxies, ..hasty() }).unwrap();
    let error =
        repository(&client, "registry.test/a").manifest(&Target::Tag("x".into()), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://registry.test/v2/\": proxyconnect tcp: 407 Proxy Authentication Required"
    );
}
