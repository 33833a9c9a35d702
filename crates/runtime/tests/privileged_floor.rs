//! How long a launch takes; prints, asserts nothing about time.
#![allow(clippy::print_stdout, reason = "a measurement that says its figures")]
#![allow(unreachable_pub, dead_code, reason = "the fixture is shared between test files")]

mod common;

use std::time::Instant;

use common::{Fixture, shell};

#[test]
#[ignore = "a measurement"]
fn launch_and_exec_take_this_long() {
    let fixture = Fixture::new("true");
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let before = Instant::now();
            let running = fixture.start().unwrap();
            let started = before.elapsed();
            running.wait();
            (started, before.elapsed())
        })
        .collect();
    times.sort();
    println!("launch: median {:?} to exec, {:?} to the end", times[100].0, times[100].1);
    let fixture = Fixture::new("sleep 1000");
    let running = fixture.start().unwrap();
    let mut process = shell("");
    process.args = vec!["true".to_owned()];
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let before = Instant::now();
            fixture.exec(&running, &process).unwrap().wait();
            before.elapsed()
        })
        .collect();
    times.sort();
    println!("exec: median {:?}", times[100]);
    running.kill();
    running.wait();
}
