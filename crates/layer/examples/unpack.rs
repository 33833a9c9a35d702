//! Unpacks an archive file into an empty directory and says how long it took: `unpack ARCHIVE DIRECTORY`.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::fs::File;
use std::time::Instant;

use wharf_layer::{UnpackOptions, Whiteouts, decompressor, unpack};
use wharf_sys::root::Root;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(archive), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("usage: unpack ARCHIVE DIRECTORY".into());
    };
    let target = Root::open(target)?;
    let start = Instant::now();
    let (compression, input) = decompressor(File::open(archive)?)?;
    let summary = unpack(input, &target, &UnpackOptions::new(Whiteouts::Overlay))?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = summary.stream_size as f64 / 1e6 / seconds;
    println!(
        "{compression}, {} members, {rate:.0} MB/s, {seconds:.2} s, {}",
        summary.entries, summary.diff_id
    );
    Ok(())
}
