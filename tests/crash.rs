//! Nothing that was answered is lost, whenever the daemon dies: random load, `kill -9` at random moments and at the
//! engine's failpoints, and after every restart a comparison with what the clients were told.
//!
//! `WHARF_CRASH_ROUNDS` says how often (20), `WHARF_CRASH_SEED` repeats a run's choices.

#![allow(
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test program that tells its rounds, in modules of its own"
)]

mod crash {
    pub mod check;
    pub mod load;
}

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crash::load::{Random, Worker};
use wharf_testkit::{client, daemon, http, image};

const WORKERS: u64 = 4;

/// Where the daemon can be made to die, and how often load comes by there, roughly.
const FAILPOINTS: [(&str, u64); 14] = [
    ("create.mounts", 6),
    ("create.bundle", 6),
    ("create.logged", 6),
    ("log.written", 12),
    ("start.supervised", 6),
    ("start.launched", 6),
    ("start.logged", 6),
    ("stop.intended", 3),
    ("end.heard", 6),
    ("end.logged", 6),
    ("remove.logged", 4),
    ("remove.snapshot", 4),
    ("remove.discarded", 4),
    ("rename.logged", 2),
];

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_answered_is_lost() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("WHARF_CRASH_SEED", now.as_secs());
    let rounds = number("WHARF_CRASH_ROUNDS", 20);
    println!("WHARF_CRASH_SEED={seed} WHARF_CRASH_ROUNDS={rounds}");
    let mut random = Random::new(seed);
    let mut d = daemon!();
    if d.is_peer() {
        return;
    }
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::new(number, seed)).collect();
    for round in 0..rounds {
        let failpoint = (round % 2 == 1).then(|| FAILPOINTS[random.below(FAILPOINTS.len() as u64) as usize]);
        let place = failpoint.map(|(name, often)| format!("{name}:{}", 1 + random.below(often)));
        if let Some(place) = &place {
            d.stop();
            // The place may be reached while the daemon finds its way: then it died there, and runs on without.
            if !d.try_launch(&[("WHARF_FAILPOINT", place)]) {
                d.launch();
            }
        }
        let patience = if place.is_some() { 2500 } else { 100 + random.below(900) };
        let done = AtomicBool::new(false);
        let socket = d.socket();
        std::thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(|| worker.run(&socket, &done));
            }
            let died =
                client::eventually(Duration::from_millis(patience), || d.has_ended().then_some(())).is_some();
            if !died || place.is_none() {
                d.kill();
            }
            println!(
                "round {round}: {}{}",
                place.as_deref().unwrap_or("at random"),
                if died { "" } else { ", killed" }
            );
            done.store(true, Ordering::Relaxed);
        });
        if random.below(6) == 0 {
            // A new daemon may die as well, while it finds its way.
            let place = ["recover.swept", "recover.known"][random.below(2) as usize];
            assert!(!d.try_launch(&[("WHARF_FAILPOINT", place)]));
        }
        d.launch();
        crash::check::everything(&d, &mut workers, round);
    }
}

#[test]
fn an_image_is_loaded_or_not() {
    let mut d = daemon!();
    if d.is_peer() {
        return;
    }
    for (number, place) in ["images.blobs", "images.layers", "images.recorded"].into_iter().enumerate() {
        let file = format!("number {number}");
        let layer = image::layer(&[image::Entry::File("file", 0o644, file.as_bytes())]).unwrap();
        let busybox = std::fs::read("/bin/busybox").unwrap();
        let program = image::layer(&[image::Entry::File("busybox", 0o755, &busybox)]).unwrap();
        let tag = format!("crash:{number}");
        let archive = image::archive(&tag, &serde_json::json!({}), &[layer, program]).unwrap();
        d.stop();
        assert!(d.try_launch(&[("WHARF_FAILPOINT", place)]));
        let answer = http::request(&d.socket(), "POST", "/images/load", Some(&archive));
        assert!(
            !answer.is_ok_and(|reply| reply.text().contains("Loaded image")),
            "it died before it could say so"
        );
        assert!(
            client::eventually(Duration::from_secs(5), || d.has_ended().then_some(())).is_some(),
            "{place}"
        );
        d.launch();
        let there = d.get(&format!("/images/{tag}/json")).unwrap().status;
        assert_eq!(there, if place == "images.recorded" { 200 } else { 404 }, "{place}");
        let again = http::request(&d.socket(), "POST", "/images/load", Some(&archive)).unwrap();
        assert!(again.text().contains("Loaded image: crash:"), "{}", again.text());
        let said = d.docker(&["run", "--rm", "--network", "none", &tag, "/busybox", "cat", "/file"]).ok();
        assert_eq!(said, file, "{place}");
    }
}
