//! Lists of what is in an image, by a scanner that is an image too.

use std::fs;

use crate::project;

/// A scanner that lists the files of a tree.
const SCANNER: &str = r#"set -e
cd "$BUILDKIT_SCAN_SOURCE"
touch x 2>/dev/null && exit 3
files=$(find . -type f -name 'mine*' | sort | tr '\n' ' ')
echo '{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document", "subject": [],
  "predicate": {"spdxVersion": "SPDX-2.3", "name": "'"$files"'"}}' > "$BUILDKIT_SCAN_DESTINATION/list.spdx.json"
"#;

#[test]
fn a_scanner_says_what_is_in_an_image() {
    let p = project(&[
        ("scanner/scan.sh", SCANNER),
        ("scanner/Dockerfile", "FROM busybox\nCOPY scan.sh /\nENTRYPOINT [\"/bin/sh\", \"/scan.sh\"]\n"),
        ("Dockerfile", "FROM busybox\nRUN echo 1 > /mine-one && echo 2 > /etc/mine-two\n"),
    ]);
    p.docker(&["buildx", "build", "-q", "-t", "scanner:1", p.path("scanner").as_str()]).ok();
    let (scanner, out) = ("--sbom=generator=scanner:1", "type=oci,dest=out.tar");
    let run = p.build(&["-o", out, scanner]);
    run.ok();
    assert!(run.stderr.contains("generating sbom using docker.io/library/scanner:1"), "{}", run.stderr);
    let archive = fs::read(p.top.join("out.tar")).unwrap();
    let text = String::from_utf8_lossy(&archive);
    assert!(text.contains(r#""in-toto.io/predicate-type":"https://spdx.dev/Document""#));
    assert!(text.contains(r#""name":"./etc/mine-two ./mine-one ""#));
    // An image has it too, beside its provenance.
    p.build(&["-t", "x", scanner, "--provenance=mode=min"]).ok();
    p.docker(&["run", "--rm", "x", "cat", "/mine-one"]).ok();

    // One that fails, says nonsense or is not there ends the build.
    p.write("scanner/scan.sh", "exit 4\n");
    p.docker(&["buildx", "build", "-q", "-t", "scanner:2", p.path("scanner").as_str()]).ok();
    p.build(&["-o", out, "--sbom=generator=scanner:2"]).fails(1, "exit code: 4");
    p.write("scanner/scan.sh", "ln -s /etc/passwd /run/out/a.json\n");
    p.docker(&["buildx", "build", "-q", "-t", "scanner:3", p.path("scanner").as_str()]).ok();
    p.build(&["-o", out, "--sbom=generator=scanner:3"]).fails(1, "failed to read sbom statement a.json");
    p.build(&["-o", out, "--sbom=generator=127.0.0.1:1/nobody:1"]).fails(1, "127.0.0.1:1/nobody:1");
}
