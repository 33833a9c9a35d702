//! Names by the host's files.

use tempfile::TempDir;
use wharf_distribution::client::{Client, Config, Kind, NameFiles, Target};

use crate::script::{Script, answer};
use crate::{hasty, manifest, repository};

/// A hosts and a resolv.conf file of one's own.
pub(crate) struct Files {
    directory: TempDir,
}

impl Files {
    pub(crate) fn new(hosts: &str, resolv_conf: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("hosts"), hosts).unwrap();
        std::fs::write(directory.path().join("resolv.conf"), resolv_conf).unwrap();
        Self { directory }
    }

    pub(crate) fn settings(&self) -> NameFiles {
        let at = |name: &str| self.directory.path().join(name);
        NameFiles { hosts: at("hosts"), resolv_conf: at("resolv.conf") }
    }
}

#[tokio::test]
async fn hosts_are_found_by_file_and_their_address_makes_them_insecure() {
    let registry = Script::start(|_| answer("200 OK", &[], manifest().as_bytes())).await;
    let files = Files::new("127.0.0.1 registry.test # here\n", "");
    let client = Client::new(Config { names: files.settings(), ..hasty() }).unwrap();
    let name = format!("registry.test:{}/a", registry.address.port());
    repository(&client, &name).manifest(&Target::Tag("x".into()), None).await.unwrap();
    assert_eq!(registry.seen()[0].header("host").unwrap(), name.trim_end_matches("/a"));
}

#[tokio::test]
async fn an_unknown_name_is_told_with_who_was_asked() {
    // Nobody serves names on this address.
    let files = Files::new("", "nameserver 127.0.0.99\noptions timeout:1 attempts:1\n");
    let client = Client::new(Config { names: files.settings(), ..hasty() }).unwrap();
    let error =
        repository(&client, "nowhere.test/a").manifest(&Target::Tag("x".into()), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://nowhere.test/v2/\": dial tcp: lookup nowhere.test on 127.0.0.99:53: server misbehaving"
    );
    assert_eq!(error.kind(), Kind::Unavailable);
}
