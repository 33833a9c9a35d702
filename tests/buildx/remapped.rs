//! Builds of a daemon whose containers' root is nobody on the host.

use std::fs;

use wharf_testkit::daemon;

use crate::project_of;

/// What steps see and make: their own root, owners of all that is copied and mounted, and nothing of the host's.
const DOCKERFILE: &str = r#"FROM busybox AS made
RUN id -u > /ids && stat -c %u:%g /bin/busybox / >> /ids && awk '{print $2}' /proc/self/uid_map > /first
RUN mkdir /tree && echo 1 > /tree/own && echo 2 > /tree/other && chown 5:6 /tree/other && chmod 4755 /tree/own
FROM busybox
COPY f /plain
COPY --chown=7:8 --chmod=640 f /chowned
COPY --from=made /tree /tree
COPY --from=made /ids /first /
COPY --link --chown=9 f /linked
ADD --chown=10:11 packed.tar /packed
RUN --mount=type=bind,target=/c --mount=type=bind,from=made,source=/tree,target=/t --mount=type=cache,target=/kept \
    --mount=type=secret,id=s,uid=12,mode=0440 --mount=type=tmpfs,target=/memory \
    stat -c '%n %u:%g' /c/f /t/own /t/other /kept /memory > /seen && echo x > /kept/x && stat -c '%n %u:%g' /kept/x >> /seen && \
    stat -c '%u:%g %a' /run/secrets/s >> /seen
USER 13
WORKDIR /work
RUN touch /tmp/mine && stat -c '%u' /tmp/mine > /tmp/said && ! echo 1 2>/dev/null > /proc/sys/kernel/sysrq
"#;

#[test]
fn root_of_a_step_is_nobody_outside_and_owners_are_those_inside() {
    let p = project_of(
        daemon!("--userns-remap", "default"),
        &[("Dockerfile", DOCKERFILE), ("f", "file\n"), ("s", "secret")],
    );
    let packed = p.path("packed.tar");
    let tar = ["--owner=20", "--group=21", "--numeric-owner", "-cf", &packed, "-C", &p.path(""), "f"];
    assert!(std::process::Command::new("tar").args(tar).status().unwrap().success());
    let secret = format!("id=s,src={}", p.path("s"));
    let flags = ["-t", "x", "--secret", &secret];
    p.build(&flags).ok();
    let first = fs::read_to_string("/etc/subuid").unwrap();
    let first = first.lines().find_map(|line| line.strip_prefix("dockremap:")).unwrap();
    let first = first.split(':').next().unwrap();
    assert_eq!(p.run("x", &["cat", "/ids", "/first"]), format!("0\n0:0\n0:0\n{first}"));
    let owners = "stat -c '%n %u:%g %a' /plain /chowned /tree/own /tree/other /linked /packed/f";
    assert_eq!(
        p.run("x", &["sh", "-c", owners]),
        "/plain 0:0 644\n/chowned 7:8 640\n/tree/own 0:0 4755\n/tree/other 5:6 644\n/linked 9:9 644\n/packed/f 10:11 644"
    );
    let seen = "/c/f 0:0\n/t/own 0:0\n/t/other 5:6\n/kept 0:0\n/memory 0:0\n/kept/x 0:0\n12:0 440";
    assert_eq!(p.run("x", &["cat", "/seen"]), seen);
    assert_eq!(p.run("x", &["cat", "/tmp/said"]), "13");
    let again = p.build(&flags);
    again.ok();
    assert!(again.stderr.matches(" CACHED").count() >= 10, "{}", again.stderr);

    // What comes out has the owners inside, whoever they stand for here.
    p.build(&[&flags[..], &["-o", "type=tar,dest=out.tar"]].concat()).ok();
    let listed =
        std::process::Command::new("tar").args(["--numeric-owner", "-tvf", &p.path("out.tar")]).output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    assert!(listed.lines().any(|line| line.contains(" 7/8 ") && line.ends_with(" chowned")), "{listed}");
}

#[test]
fn an_agent_answers_a_remapped_step() {
    let text = "FROM busybox\nRUN --mount=type=ssh test -w \"$SSH_AUTH_SOCK\" && stat -c %u \"$SSH_AUTH_SOCK\" > /owner\n";
    let p = project_of(daemon!("--userns-remap", "default"), &[("Dockerfile", text)]);
    let socket = p.path("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    p.build(&["-t", "x", "--ssh", &format!("default={socket}")]).ok();
    assert_eq!(p.run("x", &["cat", "/owner"]), "0");
}
