//! `docker logs`.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use wharf_testkit::client::eventually;
use wharf_testkit::daemon;

#[test]
fn both_streams_tail_and_timestamps() {
    let d = daemon!();
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "ll",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do echo line $i; sleep 0.05; done; echo oops >&2",
    ])
    .ok();
    let run = d.docker(&["logs", "ll"]);
    assert_eq!(
        (run.stdout.as_str(), run.stderr.as_str()),
        ("line 1\nline 2\nline 3\nline 4\nline 5\n", "oops\n")
    );
    let run = d.docker(&["logs", "--tail", "2", "ll"]);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("line 5\n", "oops\n"));
    assert_eq!(d.docker(&["logs", "--tail", "0", "ll"]).ok(), "");
    let stamped = d.docker(&["logs", "-t", "--tail", "2", "ll"]).ok();
    let (time, text) = stamped.split_once(' ').unwrap();
    assert!(time.len() >= 20 && time.ends_with('Z') && text == "line 5", "{stamped}");
    assert_eq!(d.docker(&["logs", "--since", "1h", "ll"]).stdout.lines().count(), 5);
    assert_eq!(d.docker(&["logs", "--until", "1h", "ll"]).ok(), "");
    assert_eq!(d.docker(&["logs", "--since", time, "--tail", "100", "ll"]).ok(), "line 5");
}

#[test]
fn following_ends_with_the_container() {
    let d = daemon!();
    d.docker(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "ff",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done",
    ])
    .ok();
    assert_eq!(d.docker(&["logs", "-f", "ff"]).ok(), "1\n2\n3\n4\n5\n6");
    let mut child = d.command("docker").args(["logs", "-f", "ff"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut all = String::new();
    child.stdout.take().unwrap().read_to_string(&mut all).unwrap();
    assert_eq!(all, "1\n2\n3\n4\n5\n6\n", "an ended container has nothing to follow");
    child.wait().unwrap();
}

#[test]
fn long_lines_and_a_last_line_without_newline() {
    let d = daemon!();
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "pp",
        "busybox",
        "sh",
        "-c",
        "head -c 50000 /dev/zero | tr '\\0' x; echo; printf tail",
    ]);
    let out = d.docker(&["logs", "pp"]).stdout;
    assert_eq!(out.len(), 50_005);
    assert!(out.ends_with("x\ntail"));
}

#[test]
fn rotation_keeps_the_newest() {
    let d = daemon!();
    let args = [
        "run",
        "--network",
        "none",
        "--name",
        "rr",
        "--log-opt",
        "max-size=20k",
        "--log-opt",
        "max-file=3",
        "busybox",
        "seq",
        "1",
        "5000",
    ];
    d.docker(&args).ok();
    let out = d.docker(&["logs", "rr"]).stdout;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.last(), Some(&"5000"));
    let first: u32 = lines[0].parse().unwrap();
    assert!(first > 1 && first < 5000, "{first}");
    assert_eq!(lines.len() as u32, 5000 - first + 1, "what is kept has no hole");
}

#[test]
fn drivers() {
    let d = daemon!();
    d.docker(&["run", "--network", "none", "--name", "none", "--log-driver", "none", "busybox", "echo", "x"])
        .ok();
    d.docker(&["logs", "none"]).fails(1, "configured logging driver does not support reading");
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "local",
        "--log-driver",
        "local",
        "busybox",
        "echo",
        "kept",
    ])
    .ok();
    assert_eq!(d.docker(&["logs", "local"]).ok(), "kept");
    let run = d.docker(&["create", "--log-driver", "nosuch", "busybox"]);
    assert!(run.code != 0 && run.stderr.contains("nosuch"), "{run:?}");
    d.docker(&["run", "--network", "none", "--log-opt", "max-size=abc", "busybox", "true"]).fails(125, "abc");
    d.docker(&["create", "--log-opt", "bogus=1", "busybox"])
        .fails(1, "unknown log opt 'bogus' for json-file log driver");
    let path = d.inspect("none")["LogPath"].clone();
    assert_eq!(path, "");
}

#[test]
fn the_file_is_dockers_format() {
    let d = daemon!();
    if d.is_peer() {
        return;
    }
    d.docker(&[
        "run",
        "--network",
        "none",
        "--name",
        "jj",
        "busybox",
        "sh",
        "-c",
        r#"echo 'a "quoted" <tag> \ tab	end'"#,
    ])
    .ok();
    std::thread::sleep(Duration::from_millis(100));
    let path = d.inspect("jj")["LogPath"].as_str().unwrap().to_owned();
    let text = std::fs::read_to_string(path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!(line["log"], "a \"quoted\" <tag> \\ tab\tend\n");
    assert_eq!(line["stream"], "stdout");
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn rotated_files_are_compressed_and_read_back() {
    let mut d = daemon!();
    for (driver, name) in [("json-file", "json"), ("local", "local")] {
        let options = ["--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=4"];
        let script = "for n in $(seq 1 900); do echo line $n of a log that is turned over; done; sleep 1000";
        let base = ["run", "-d", "--name", name, "--network", "none", "--log-opt", "compress=true"];
        d.docker(&[&base[..], &options, &["busybox", "sh", "-c", script]].concat()).ok();
        let folder = |d: &wharf_testkit::Daemon| {
            let id = d.inspect(name)["Id"].as_str().unwrap().to_owned();
            let bundle = d.path("data/containers").join(id);
            if driver == "local" { bundle.join("local-logs") } else { bundle }
        };
        let names = |d: &wharf_testkit::Daemon| -> Vec<String> {
            let entries = std::fs::read_dir(folder(d)).unwrap().flatten();
            let mut names: Vec<String> = entries
                .map(|entry| entry.file_name().into_string().unwrap())
                .filter(|name| name.contains(".log"))
                .collect();
            names.sort();
            names
        };
        let compressed = |d: &wharf_testkit::Daemon| {
            let names = names(d);
            let gone = names.iter().all(|name| name.ends_with(".log") || name.ends_with(".gz"));
            (gone && names.iter().any(|name| name.ends_with(".log.1.gz"))).then_some(())
        };
        eventually(Duration::from_secs(10), || compressed(&d)).unwrap_or_else(|| panic!("{:?}", names(&d)));
        let all = eventually(Duration::from_secs(10), || {
            Some(d.docker(&["logs", name]).ok())
                .filter(|text| text.ends_with("line 900 of a log that is turned over"))
        })
        .expect("the last line is there");
        let numbers: Vec<u32> =
            all.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{driver}: no gap and no line twice");
        assert!(numbers.len() > 400, "{driver}: what is compressed is read back: {}", numbers.len());
        assert_eq!(d.docker(&["logs", "-n", "850", name]).ok().lines().count(), numbers.len().min(850));
        // What a daemon was doing when it was killed is done again by the next one.
        std::fs::write(
            folder(&d).join(format!(
                "{}.99{}",
                if driver == "local" {
                    "container.log".to_owned()
                } else {
                    format!("{}-json.log", d.inspect(name)["Id"].as_str().unwrap())
                },
                ".gz.new"
            )),
            "half",
        )
        .unwrap();
        d.kill();
        d.launch();
        eventually(Duration::from_secs(10), || compressed(&d)).unwrap_or_else(|| panic!("{:?}", names(&d)));
        assert_eq!(d.docker(&["logs", name]).ok(), all);
    }
    d.docker(&["run", "--rm", "--network", "none", "--log-opt", "compress=true", "busybox", "true"])
        .fails(125, "compress cannot be true when max-file is less than 2 or max-size is not set");
}
