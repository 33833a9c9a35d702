//! The words of errors, as dockerd 28.5 says them.

use wharf_distribution::client::{ErrorCode, Kind, Target};
use wharf_oci::reference::Reference;

use crate::script::{Script, answer, refuse};
use crate::{client, repository};

async fn pull_error(status: &'static str, code: &'static str, message: &'static str) -> (String, Kind) {
    let registry = Script::start(move |seen| match seen.path.as_str() {
        "/v2/" => answer("200 OK", &[], b""),
        _ => refuse(status, code, message),
    })
    .await;
    let name = format!("{}/a/b:x", registry.address);
    let error = repository(&client(), &name).resolve(&Target::Tag("x".into())).await.unwrap_err();
    let error = error.of_pull(&Reference::parse(&name).unwrap());
    let text = error.to_string().replace(&registry.address.to_string(), "HOST");
    (text, error.kind())
}

#[tokio::test]
async fn refusals_of_a_pull_name_what_was_wanted() {
    assert_eq!(
        pull_error("404 Not Found", "MANIFEST_UNKNOWN", "manifest unknown").await,
        ("manifest for HOST/a/b:x not found: manifest unknown: manifest unknown".into(), Kind::NotFound)
    );
    assert_eq!(
        pull_error("404 Not Found", "NAME_UNKNOWN", "repository name not known to registry").await,
        (
            "repository HOST/a/b not found: name unknown: repository name not known to registry".into(),
            Kind::NotFound
        )
    );
    assert_eq!(
        pull_error("403 Forbidden", "DENIED", "requested access to the resource is denied").await,
        (
            "pull access denied for HOST/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied".into(),
            Kind::NotFound
        )
    );
    assert_eq!(
        pull_error("401 Unauthorized", "UNAUTHORIZED", "authentication required").await,
        ("unauthorized: authentication required".into(), Kind::Unauthorized)
    );
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address() {
    // Held, so that nobody else listens there.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let error =
        repository(&client(), &format!("{address}/a")).resolve(&Target::Tag("x".into())).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{address}/v2/\": dial tcp {address}: connect: connection refused")
    );
}

#[test]
fn codes_are_written_as_words() {
    let code = ErrorCode::Coded { code: "MANIFEST_UNKNOWN".into(), message: "x".into() };
    assert_eq!(code.to_string(), "manifest unknown: x");
}
