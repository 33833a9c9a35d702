//! Registries that mean harm: all that they say has an end, and takes nobody where he must not go.

use std::time::Duration;

use wharf_distribution::client::{Client, Config, Error, Kind, Patience, Target};
use wharf_oci::digest::Digest;
use wharf_oci::image::{Descriptor, media_type};

use crate::script::{Reply, Script, Step, answer, head, refuse};
use crate::{client, hasty, manifest, repository};

fn x() -> Target {
    Target::Tag("x".into())
}

/// What a pull of a manifest from a registry that answers `reply` ends with.
async fn manifest_from(reply: Reply) -> Error {
    fetched(reply, &x(), None).await.unwrap_err()
}

async fn fetched(
    reply: Reply,
    target: &Target,
    expected: Option<&Descriptor>,
) -> Result<wharf_distribution::client::Document, Error> {
    let registry = Script::start(move |seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => reply.clone(),
    })
    .await;
    repository(&client(), &format!("{}/a", registry.address)).manifest(target, expected).await
}

#[tokio::test]
async fn oversize_manifests_are_not_read() {
    let announced = head("200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], "Content-Length: 5000000");
    let error = manifest_from(Reply::raw(announced).then(Step::Silence)).await;
    assert_eq!(error.to_string(), "manifest x exceeds the limit of 4194304 bytes");

    let endless = head("200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], "Transfer-Encoding: chunked");
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    let error = manifest_from(Reply::raw(endless).then(Step::Endless(chunk, Duration::ZERO))).await;
    assert_eq!(error.to_string(), "manifest x exceeds the limit of 4194304 bytes");
    assert_eq!(error.kind(), Kind::Hostile);

    let huge = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(b"x"), 1 << 40);
    let result = fetched(Reply::default(), &Target::Digest(huge.digest), Some(&huge)).await;
    assert!(result.unwrap_err().to_string().contains("exceeds the limit"));
}

#[tokio::test]
async fn other_bytes_than_asked_for_are_refused() {
    let text = manifest();
    let typed = [("Content-Type", media_type::OCI_MANIFEST)];
    let asked = Digest::of(b"something else");
    let reply = answer("200 OK", &typed, text.as_bytes());
    let error = fetched(reply.clone(), &Target::Digest(asked), None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("manifest verification failed for digest {asked}"));

    let said = asked.to_string();
    let lie = [typed[0], ("Docker-Content-Digest", said.as_str())];
    let error = manifest_from(answer("200 OK", &lie, text.as_bytes())).await;
    assert_eq!(error.to_string(), format!("manifest verification failed for digest {asked}"));

    let real = Digest::of(text.as_bytes());
    assert!(fetched(reply, &Target::Digest(real), None).await.is_ok());
}

#[tokio::test]
async fn wrong_media_types_and_schema_1_are_refused_by_name() {
    let text = manifest();
    let of_type = |kind: &'static str| answer("200 OK", &[("Content-Type", kind)], text.as_bytes());
    let error = manifest_from(of_type("text/html; charset=utf-8")).await;
    assert_eq!(error.to_string(), "unsupported manifest media type and no default available: text/html");
    let error = manifest_from(of_type(media_type::DOCKER_INDEX)).await;
    assert!(error.to_string().starts_with("mediaType in manifest list should be"), "{error}");
    let error = manifest_from(of_type("application/vnd.docker.distribution.manifest.v1+prettyjws")).await;
    assert!(error.to_string().contains("schema 1"), "{error}");
    let error = manifest_from(answer("200 OK", &[], br#"{"schemaVersion":1,"fsLayers":[]}"#)).await;
    assert!(error.to_string().contains("schema 1"), "{error}");
    let error = manifest_from(answer("200 OK", &[], b"<html>")).await;
    assert_eq!(error.kind(), Kind::Hostile);
}

#[tokio::test]
async fn an_amplifying_index_is_refused() {
    let entry =
        format!(r#"{{"mediaType":"{}","digest":"{}","size":2}}"#, media_type::OCI_INDEX, Digest::of(b""));
    let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![entry; 1001].join(","));
    let error =
        manifest_from(answer("200 OK", &[("Content-Type", media_type::OCI_INDEX)], text.as_bytes())).await;
    assert!(error.to_string().ends_with("more than 1000 manifests"), "{error}");
}

#[tokio::test]
async fn header_bombs_end() {
    let many: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    let error = manifest_from(Reply::raw(format!("HTTP/1.1 200 OK\r\n{many}\r\n"))).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let error = manifest_from(Reply::raw(large)).await;
    assert!(error.to_string().contains("exceeded the limit") || error.kind() == Kind::Unavailable, "{error}");
    let endless = Reply::raw("HTTP/1.1 200 OK\r\nX: ").then(Step::Endless(vec![b'y'; 4096], Duration::ZERO));
    let error = manifest_from(endless).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error}");
}

#[tokio::test]
async fn redirects_end_and_never_lose_their_privacy() {
    let registry = Script::start(|seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        path => answer("302 Found", &[("Location", &format!("{path}y"))], b""),
    })
    .await;
    let error =
        repository(&client(), &format!("{}/a", registry.address)).manifest(&x(), None).await.unwrap_err();
    assert!(error.to_string().ends_with("stopped after 10 redirects"), "{error}");
    assert_eq!(registry.count("/v2/a/"), 11);

    let authority = crate::tls::authority();
    let config = authority.server(&["127.0.0.1"]);
    let secure = Script::start_tls(config, |seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => answer("302 Found", &[("Location", "http://127.0.0.1:1/secret")], b""),
    })
    .await;
    let certs = authority.certs_d(&[&secure.address.to_string()]);
    let settings = Config { certificates: vec![certs.path().to_owned()], ..hasty() };
    let repository = repository(&Client::new(settings).unwrap(), &format!("{}/a", secure.address));
    let error = repository.manifest(&x(), None).await.unwrap_err();
    assert!(error.to_string().ends_with("redirect from https to http://127.0.0.1:1 refused"), "{error}");
    assert_eq!(error.kind(), Kind::Hostile);
}

/// An address of this machine that is not loopback, where there is one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback())
}

#[tokio::test]
async fn a_registry_elsewhere_cannot_send_anybody_to_this_host() {
    let Some(own) = own_address() else {
        println!("skipped: no address but loopback");
        return;
    };
    let inside = Script::start(|_| answer("200 OK", &[], br#"{"token":"t"}"#)).await;
    let target = inside.address;
    let settings = Config { insecure: vec![format!("{own}/32")], ..hasty() };

    let realm = Script::start_at(&format!("{own}:0"), None, move |_| {
        let challenge = format!("Bearer realm=\"http://{target}/latest/meta-data\",service=x");
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await;
    let at = |address| repository(&Client::new(settings.clone()).unwrap(), &format!("{address}/a"));
    let error = at(realm.address).manifest(&x(), None).await.unwrap_err();
    assert!(error.to_string().contains("an address of this host"), "{error}");

    let redirect = Script::start_at(&format!("{own}:0"), None, move |seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => answer("307 Temporary Redirect", &[("Location", &format!("http://{target}/secret"))], b""),
    })
    .await;
    let error = at(redirect.address).manifest(&x(), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Hostile, "{error}");
    assert!(inside.seen().is_empty());
}

#[tokio::test]
async fn a_secure_registry_cannot_name_a_token_server_without_tls() {
    let authority = crate::tls::authority();
    let token = Script::start(|_| answer("200 OK", &[], br#"{"token":"t"}"#)).await;
    let realm = format!("Bearer realm=\"http://{}/token\"", token.address);
    let secure = Script::start_tls(authority.server(&["registry.test"]), move |_| {
        answer("401 Unauthorized", &[("WWW-Authenticate", &realm)], b"")
    })
    .await;
    let name = format!("registry.test:{}", secure.address.port());
    let certs = authority.certs_d(&[&name]);
    let settings = Config { certificates: vec![certs.path().to_owned()], ..hasty() };
    // By its address the registry would count as insecure: a name that only a proxy can resolve does not.
    let proxy = crate::proxy::forwarder(secure.address).await;
    let settings = Config { proxies: proxy.settings(), ..settings };
    let repository = repository(&Client::new(settings).unwrap(), &format!("{name}/a"));
    let error = repository.manifest(&x(), None).await.unwrap_err();
    assert!(error.to_string().contains("must be asked by https"), "{error}");
    assert!(token.seen().is_empty());
}

#[tokio::test]
async fn lists_that_go_in_circles_or_elsewhere_end() {
    let registry = Script::start(|seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        path if path.starts_with("/v2/a/") => {
            answer("200 OK", &[("Link", "</v2/a/tags/list?last=y>; rel=\"next\"")], br#"{"tags":["y"]}"#)
        }
        _ => answer(
            "200 OK",
            &[("Link", "<http://127.0.0.9/v2/b/tags/list>; rel=\"next\"")],
            br#"{"tags":["y"]}"#,
        ),
    })
    .await;
    let at = |name: &str| repository(&client(), &format!("{}/{name}", registry.address));
    assert_eq!(at("a").tags().await.unwrap(), ["y", "y"]);
    assert_eq!(registry.count("/v2/a/"), 2);
    assert_eq!(at("b").tags().await.unwrap_err().kind(), Kind::Hostile);
}

#[tokio::test]
async fn silence_ends() {
    let patience = Patience { answer: Duration::from_secs(2), ..hasty().patience };
    let registry = Script::start(|seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => Reply(vec![Step::Silence]),
    })
    .await;
    let client = Client::new(Config { patience, attempts: 2, ..hasty() }).unwrap();
    let error =
        repository(&client, &format!("{}/a", registry.address)).manifest(&x(), None).await.unwrap_err();
    assert!(error.to_string().ends_with("net/http: timeout awaiting response headers"), "{error}");
    assert_eq!(registry.count("/v2/a/"), 2);
}

#[tokio::test]
async fn what_is_shown_is_printable() {
    let reply = refuse("404 Not Found", "MANIFEST_UNKNOWN", "\\u001b[2Jgone");
    let error = manifest_from(reply).await;
    assert_eq!(error.to_string(), "manifest unknown: \u{fffd}[2Jgone");
}
