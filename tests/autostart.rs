//! A command without a daemon starts one; commands at the same moment share it.

use std::process::Command;

/// In namespaces of its own, where the default socket and roots are nobody's: what happens there ends with it.
const SCRIPT: &str = r#"
for folder in /run /var/lib /var/log; do mount -t tmpfs none $folder; done
for number in 1 2 3 4; do
  ( "$0" ps -q >"$1/out.$number" 2>"$1/err.$number"; echo $? >"$1/code.$number" ) &
done
wait
for attempt in $(seq 1200); do
  count=$(pgrep -fc "^wharf daemon"); [ "$count" = 1 ] && break; sleep 0.1
done
echo "daemons $count"
"$0" ps -q && echo "answers"
kill "$(cat /run/wharf/daemon.pid)"
cat /var/log/wharf.log >"$1/log"
"#;

#[test]
fn commands_at_the_same_moment_share_one_daemon() {
    let folder = tempfile();
    let output = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", SCRIPT])
        .args([env!("CARGO_BIN_EXE_wharf"), &folder])
        .env_remove("DOCKER_HOST")
        .env_remove("WHARF_HOST")
        .env("DOCKER_CONFIG", &folder)
        .output()
        .expect("run unshare");
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for number in 1..=4 {
        let (code, error) = (read(&format!("code.{number}")), read(&format!("err.{number}")));
        assert_eq!(code.trim(), "0", "command {number}: {error}\n{}", read("log"));
        assert_eq!(read(&format!("out.{number}")), "");
    }
    let first = (1..=4).map(|number| read(&format!("err.{number}"))).collect::<String>();
    assert!(first.contains("wharf: no daemon at /run/wharf/wharf.sock; starting one"), "{first}");
    assert_eq!(said, "daemons 1\nanswers\n", "{}", read("log"));
    std::fs::remove_dir_all(folder).expect("remove the folder");
}

#[test]
fn it_can_be_turned_off() {
    let folder = tempfile();
    let script = "mount -t tmpfs none /run; exec \"$0\" ps";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_wharf")])
        .env_remove("DOCKER_HOST")
        .env_remove("WHARF_HOST")
        .env("DOCKER_CONFIG", &folder)
        .env("WHARF_AUTOSTART", "0")
        .output()
        .expect("run unshare");
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("/run/wharf/wharf.sock") && !error.contains("starting one"), "{error}");
    std::fs::remove_dir_all(folder).expect("remove the folder");
}

fn tempfile() -> String {
    static COUNTER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("wharf-autostart-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("make a folder");
    folder.display().to_string()
}
