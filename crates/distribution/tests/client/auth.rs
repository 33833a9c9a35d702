//! Who is told what: tokens, passwords, and to whom they never go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wharf_distribution::client::{Client, Config, Credentials, Kind, Target};
use wharf_oci::image::media_type;
use wharf_oci::reference::Reference;

use crate::script::{Reply, Script, Seen, answer, refuse};
use crate::{client, hasty, manifest, password, repository};

fn good() -> Reply {
    answer("200 OK", &[("Content-Type", media_type::OCI_MANIFEST)], manifest().as_bytes())
}

/// A registry that wants tokens of its own `/token`, accepting those that `valid` accepts.
async fn token_registry(
    token: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    valid: impl Fn(&str) -> bool + Send + Sync + 'static,
) -> Script {
    Script::start(move |seen| {
        if seen.path.starts_with("/token") {
            return token(seen);
        }
        let shown = seen.header("authorization").unwrap_or_default();
        if valid(&shown) {
            return good();
        }
        let host = seen.header("host").unwrap();
        let challenge = format!(
            "Bearer realm=\"http://{host}/token\",service=\"box\",scope=\"repository:a:pull\",error=\"invalid_token\""
        );
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
    .await
}

fn token(value: &str) -> Reply {
    answer("200 OK", &[("Content-Type", "application/json")], format!(r#"{{"token":"{value}"}}"#).as_bytes())
}

#[tokio::test]
async fn an_anonymous_token_serves_many_requests() {
    let registry = token_registry(|_| token("t1"), |shown| shown == "Bearer t1").await;
    let repository = repository(&client(), &format!("{}/a", registry.address));
    for _ in 0..3 {
        repository.manifest(&Target::Tag("x".into()), None).await.unwrap();
    }
    assert_eq!(registry.count("/token"), 1);
    let asked = registry.seen().into_iter().find(|seen| seen.path.starts_with("/token")).unwrap();
    assert_eq!(asked.path, "/token?scope=repository%3Aa%3Apull&service=box");
    assert_eq!(asked.header("authorization"), None);
}

#[tokio::test]
async fn a_password_gets_a_token_and_is_not_shown_to_the_registry() {
    let registry = token_registry(
        |seen| {
            if seen.header("authorization").as_deref() == Some("Basic bWU6cHc=") {
                return token("mine");
            }
            answer(
                "401 Unauthorized",
                &[("Content-Type", "application/json")],
                br#"{"details":"incorrect username or password"}"#,
            )
        },
        |shown| shown == "Bearer mine",
    )
    .await;
    let client = client();
    let reference = Reference::parse(&format!("{}/a", registry.address)).unwrap();
    let mine = client.repository(&reference, password("me", "pw"));
    mine.resolve(&Target::Tag("x".into())).await.unwrap();
    assert!(registry.seen().iter().any(|seen| seen.path.starts_with("/token?account=me&")));

    // Somebody else's token is not used for another one's password.
    let wrong = client.repository(&reference, password("me", "no"));
    let error = wrong.resolve(&Target::Tag("x".into())).await.unwrap_err();
    let url = format!("http://{}/v2/a/manifests/x", registry.address);
    assert_eq!(error.to_string(), format!("Head \"{url}\": unauthorized: incorrect username or password"));
    assert_eq!(error.kind(), Kind::Unauthorized);
    let to_registry = |seen: &Seen| seen.path.starts_with("/v2/");
    assert!(
        registry
            .seen()
            .iter()
            .filter(|seen| to_registry(seen))
            .all(|seen| { !seen.header("authorization").is_some_and(|shown| shown.starts_with("Basic")) })
    );
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_fetched_again() {
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    let current = Arc::clone(&fetched);
    let registry = token_registry(
        move |_| token(&format!("t{}", count.fetch_add(1, Ordering::SeqCst) + 1)),
        move |shown| shown == format!("Bearer t{}", current.load(Ordering::SeqCst)),
    )
    .await;
    let repository = repository(&client(), &format!("{}/a", registry.address));
    repository.resolve(&Target::Tag("x".into())).await.unwrap();
    fetched.fetch_add(1, Ordering::SeqCst);
    repository.resolve(&Target::Tag("x".into())).await.unwrap();
    assert_eq!(registry.count("/token"), 2);
}

#[tokio::test]
async fn a_registry_that_never_takes_its_tokens_is_not_asked_for_ever() {
    let registry = token_registry(|_| token("t"), |_| false).await;
    let repository = repository(&client(), &format!("{}/a", registry.address));
    let error = repository.manifest(&Target::Tag("x".into()), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.to_string().contains("unauthorized: authentication required"), "{error}");
    assert!(registry.seen().len() < 8, "{}", registry.seen().len());
}

#[tokio::test]
async fn an_identity_token_goes_by_form() {
    let registry = token_registry(
        |seen| {
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            let good = seen.method == "POST"
                && form.contains("grant_type=refresh_token&refresh_token=id%2Ftoken&")
                && form.contains("service=box")
                && form.contains("scope=repository%3Aa%3Apull");
            if good {
                answer("200 OK", &[], br#"{"access_token":"t"}"#)
            } else {
                refuse("400 Bad", "UNKNOWN", "form")
            }
        },
        |shown| shown == "Bearer t",
    )
    .await;
    let reference = Reference::parse(&format!("{}/a", registry.address)).unwrap();
    let identity = Credentials::Identity { username: String::new(), token: "id/token".into() };
    client().repository(&reference, identity).resolve(&Target::Tag("x".into())).await.unwrap();
}

#[tokio::test]
async fn a_registry_token_is_passed_on() {
    let registry = token_registry(|_| refuse("500 No", "UNKNOWN", ""), |shown| shown == "Bearer given").await;
    let reference = Reference::parse(&format!("{}/a", registry.address)).unwrap();
    let repository = client().repository(&reference, Credentials::Bearer("given".into()));
    repository.resolve(&Target::Tag("x".into())).await.unwrap();
}

#[tokio::test]
async fn basic_credentials_are_needed_and_sent() {
    let registry = Script::start(|seen| {
        if seen.header("authorization").as_deref() == Some("Basic bWU6cHc=") {
            return good();
        }
        answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"Registry Realm\"")], b"")
    })
    .await;
    let reference = Reference::parse(&format!("{}/a", registry.address)).unwrap();
    let target = Target::Tag("x".into());
    let anonymous = client().repository(&reference, Credentials::Anonymous);
    let error = anonymous.resolve(&target).await.unwrap_err();
    let url = format!("http://{}/v2/a/manifests/x", registry.address);
    assert_eq!(error.to_string(), format!("Head \"{url}\": no basic auth credentials"));
    client().repository(&reference, password("me", "pw")).resolve(&target).await.unwrap();

    let login = client().login(&registry.address.to_string(), &password("me", "pw")).await.unwrap();
    assert_eq!(login.identity_token, "");
    let error = client().login(&registry.address.to_string(), &password("me", "no")).await.unwrap_err();
    let url = format!("http://{}/v2/", registry.address);
    assert_eq!(error.to_string(), format!("login attempt to {url} failed with status: 401 Unauthorized"));
}

#[tokio::test]
async fn a_login_gives_the_identity_token() {
    let registry = token_registry(
        |seen| {
            let offline = seen.path.contains("offline_token=true") && seen.path.contains("client_id=docker");
            assert!(offline, "{}", seen.path);
            answer("200 OK", &[], br#"{"token":"t","refresh_token":"keep me"}"#)
        },
        |shown| shown == "Bearer t",
    )
    .await;
    let login = client().login(&registry.address.to_string(), &password("me", "pw")).await.unwrap();
    assert_eq!(login.identity_token, "keep me");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect() {
    let foreign = Script::start(|_| good()).await;
    let there = foreign.address;
    let registry = Script::start(move |seen| {
        if seen.header("authorization").is_none() {
            return answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b"");
        }
        if seen.path == "/v2/" {
            return answer("200 OK", &[], b"");
        }
        answer("307 Temporary Redirect", &[("Location", &format!("http://{there}/elsewhere?sig=1"))], b"")
    })
    .await;
    let reference = Reference::parse(&format!("{}/a", registry.address)).unwrap();
    let repository = client().repository(&reference, password("me", "pw"));
    repository.manifest(&Target::Tag("x".into()), None).await.unwrap();
    let seen = foreign.seen();
    assert!(!seen.is_empty());
    assert!(seen.iter().all(|seen| seen.header("authorization").is_none()));
}

#[tokio::test]
async fn mirrors_come_first_and_see_no_credentials() {
    let wants = |seen: &Seen| {
        (seen.header("authorization").is_none())
            .then(|| answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=x")], b""))
    };
    let mirror = Script::start(|seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        path if path.starts_with("/v2/library/a/") => good(),
        _ => refuse("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown"),
    })
    .await;
    let broken = Script::start(move |seen| wants(seen).unwrap_or_else(good)).await;
    let hub = Script::start(move |seen| wants(seen).unwrap_or_else(good)).await;
    let url = |script: &Script| format!("http://{}", script.address);
    let config = Config { mirrors: vec![url(&broken), url(&mirror)], hub: url(&hub), ..hasty() };
    let client = Client::new(config).unwrap();
    let at = |name: &str| client.repository(&Reference::parse(name).unwrap(), password("me", "pw"));
    at("a").manifest(&Target::Tag("x".into()), None).await.unwrap();
    assert_eq!(hub.seen().len(), 0);
    at("b").manifest(&Target::Tag("x".into()), None).await.unwrap();
    assert!(hub.count("/v2/library/b/manifests/x") > 0);
    for mirror in [&mirror, &broken] {
        assert!(mirror.seen().iter().all(|seen| seen.header("authorization").is_none()));
    }
    // Nothing is ever written to a mirror.
    let before = mirror.seen().len();
    let _ = at("a")
        .for_push()
        .put_manifest(&Target::Tag("x".into()), media_type::OCI_MANIFEST, manifest().into())
        .await;
    assert_eq!(mirror.seen().len(), before);
}
