//! `docker context`: the stock client and ours leave the same behind and say the same.

use std::path::Path;
use std::process::Command;

use wharf_testkit::Run;
use wharf_testkit::client;

/// Runs both clients with configurations of their own; what they leave must be the same.
struct Both {
    folder: std::path::PathBuf,
}

impl Both {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("wharf-contexts-{}-{name}", std::process::id()));
        for client in ["docker", "wharf"] {
            std::fs::create_dir_all(folder.join(client)).unwrap();
        }
        Self { folder }
    }

    fn run(&self, args: &[&str]) -> Run {
        let run = |name: &str, program: &Path| {
            let mut command: Command = client::command(program, "", &self.folder.join(name));
            command.env_remove("DOCKER_HOST").current_dir(self.folder.join(name)).arg("context").args(args);
            client::run(command, b"")
        };
        let theirs = run("docker", &client::program("docker"));
        let ours = run("wharf", Path::new(env!("CARGO_BIN_EXE_wharf")));
        let plain = |text: &str| text.replace("/docker/", "/wharf/");
        let said = |run: &Run| (run.code, plain(&run.stdout), plain(&run.stderr));
        assert_eq!(said(&ours), said(&theirs), "context {args:?}");
        ours
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn contexts_are_made_changed_and_removed_as_by_docker() {
    let both = Both::new("life");
    assert_eq!(
        both.run(&["create", "far", "--docker", "host=tcp://1.2.3.4:2375", "--description", "d e"]).code,
        0
    );
    both.run(&["create", "far"]);
    for bad in ["a", "default", "x y"] {
        assert_eq!(both.run(&["create", bad]).code, 1);
    }
    both.run(&["create", "near", "--from", "far"]);
    both.run(&["create", "odd", "--docker", "foo=1"]);
    both.run(&["create", "odd", "--docker", "host=bad"]);
    both.run(&["update", "far", "--description", "new", "--docker", "host=unix:///x.sock"]);
    both.run(&["update", "nope"]);
    assert!(
        both.run(&["inspect", "far", "--format", "{{.Endpoints.docker.Host}}"])
            .ok()
            .contains("unix:///x.sock")
    );
    both.run(&["ls", "-q"]);
    both.run(&["use", "far"]);
    both.run(&["rm", "far"]);
    both.run(&["rm", "-f", "far", "nope"]);
    both.run(&["rm", "default"]);
    both.run(&["rm", "nope"]);
    assert_eq!(both.run(&["ls", "-q"]).ok(), "default\nnear");
}

#[test]
fn contexts_travel_between_the_clients() {
    let both = Both::new("travel");
    both.run(&["create", "far", "--docker", "host=tcp://1.2.3.4:2376"]);
    both.run(&["export", "far"]);
    both.run(&["export", "far"]);
    // Each takes the other's archive.
    let (theirs, ours) = (both.folder.join("docker"), both.folder.join("wharf"));
    for (from, to) in [(&theirs, &ours), (&ours, &theirs)] {
        std::fs::copy(from.join("far.dockercontext"), to.join("other")).unwrap();
    }
    both.run(&["import", "again", "other"]);
    both.run(&["import", "again", "other"]);
    assert_eq!(
        both.run(&["inspect", "again", "--format", "{{.Endpoints.docker.Host}}"]).ok(),
        "tcp://1.2.3.4:2376"
    );
    std::fs::write(ours.join("junk"), "no archive").unwrap();
    let mut command = client::command(env!("CARGO_BIN_EXE_wharf"), "", &ours);
    command.env_remove("DOCKER_HOST").current_dir(&ours).args(["context", "import", "bad", "junk"]);
    assert_eq!(client::run(command, b"").code, 1);
}
