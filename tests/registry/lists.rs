//! Manifest lists, put together by Docker's client and by Wharf's: the same files, the same documents, the same words.

use serde_json::json;
use wharf_testkit::registry::Registry;
use wharf_testkit::{Daemon, client};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Images of two repositories, and their names.
fn images(registry: &Registry) -> [String; 2] {
    let tar = wharf_testkit::image::layer(&[wharf_testkit::image::Entry::File("f", 0o644, b"f")]).unwrap();
    let name = |path: &str| format!("{}/{path}", registry.host());
    registry.put_image("x", "one", LAYER, &[&tar], &[&tar]);
    registry.put_image("y", "two", LAYER, &[&tar], &[&tar]);
    [name("x:one"), name("y:two")]
}

#[test]
fn both_clients_make_the_same_list() {
    let registry = Registry::start();
    let [one, two] = images(&registry);
    let list = format!("{}/x:both", registry.host());
    let d = Daemon::start_empty(env!("CARGO_BIN_EXE_wharf"), &[]);
    let steps: [&[&str]; 12] = [
        &["create", "--insecure", &list, &one, &two],
        &["create", "--insecure", &list, &one],
        &["annotate", &list, &two, "--arch", "arm64", "--variant", "v8", "--os-features", "a,b"],
        &["annotate", &list, &two, "--arch", "none"],
        &["annotate", &list, "nosuch:tag", "--arch", "arm64"],
        &["inspect", &list],
        &["inspect", "-v", &list],
        &["inspect", &list, &two],
        &["push", "--insecure", &list],
        &["inspect", "--insecure", &list],
        &["push", "--purge", "--insecure", &list],
        &["rm", &list],
    ];
    let told = |run: &dyn Fn(&[&str]) -> client::Run| -> Vec<String> {
        let said = steps.iter().map(|step| {
            let run = run(&[&["manifest"], *step].concat());
            format!("{step:?} {} {} {}", run.code, run.stdout, run.stderr.trim_start_matches("wharf: "))
        });
        said.collect()
    };
    let (theirs, ours) = (told(&|words| d.docker(words)), told(&|words| d.wharf(words)));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(ours, theirs);
    }
    assert!(theirs[8].contains("Pushed ref "), "a manifest of another repository is brought along");
    let document = registry.ask("GET", "/v2/x/manifests/both", &[], b"").json();
    assert_eq!(
        document["manifests"][1]["platform"],
        json!({ "architecture": "arm64", "os": "linux", "os.features": ["a", "b"], "variant": "v8" })
    );
}
