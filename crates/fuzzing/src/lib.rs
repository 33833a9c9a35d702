//! Runs fuzz targets without a fuzzer's compiler: inputs are made of seeds by chance, the same ones at each run.
//!
//! The targets are those of `fuzz/fuzz_targets`, which a real fuzzer runs with more insight; here every test run tries a few
//! thousand inputs of each, and `WHARF_FUZZ_SECONDS` others for so many seconds a target.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Inputs of a target that are tried in every test run.
const USUAL: u32 = 3_000;
/// The longest input.
const LONGEST: usize = 16 << 10;
/// Inputs that others are made of.
const POOL: usize = 64;

/// Numbers that break things, as text.
const NUMBERS: [&str; 9] =
    ["0", "-1", "1", "255", "65536", "4294967296", "18446744073709551615", "9223372036854775808", "1e999"];

/// What a target reads.
pub trait Input<'a>: Sized {
    /// Its value of these bytes; none where they are none.
    fn from(bytes: &'a [u8]) -> Option<Self>;
}

impl<'a> Input<'a> for &'a [u8] {
    fn from(bytes: &'a [u8]) -> Option<Self> {
        Some(bytes)
    }
}

impl<'a> Input<'a> for &'a str {
    fn from(bytes: &'a [u8]) -> Option<Self> {
        str::from_utf8(bytes).ok()
    }
}

impl<'a> Input<'a> for (u8, Vec<u8>) {
    fn from(bytes: &'a [u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        Some((*first, rest.to_owned()))
    }
}

impl<'a> Input<'a> for (&'a [u8], &'a [u8], u8) {
    fn from(bytes: &'a [u8]) -> Option<Self> {
        let (last, rest) = bytes.split_last()?;
        // Mostly a long message and a short reply, now and then the other way round.
        let (message, reply) = rest.split_at(rest.len() - rest.len() / (2 + usize::from(*last % 7)));
        Some((message, reply, *last))
    }
}

/// Numbers that look like chance.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`, which is not 0 (xorshift64*, by Vigna).
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % end
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// What a target starts from.
#[derive(Debug, Clone, Copy)]
pub struct Seeds<'a> {
    /// Sound inputs.
    pub whole: &'a [&'a [u8]],
    /// Words of its language.
    pub words: &'a [&'a str],
    /// Makes sums and the like right again, which chance never does.
    pub mend: Option<fn(&mut [u8])>,
}

/// Runs a target on the seeds and on what chance makes of them.
///
/// # Panics
/// When the target does; the input is printed before.
pub fn run(name: &str, seeds: Seeds<'_>, target: impl Fn(&[u8])) {
    let seconds = std::env::var("WHARF_FUZZ_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = end.map_or(0, |_| u64::from(std::process::id()));
    let mut chance = Chance::new(seed);
    let mut pool: Vec<Vec<u8>> = seeds.whole.iter().map(|seed| seed.to_vec()).collect();
    pool.push(Vec::new());
    for input in &pool {
        once(name, input, &target);
    }
    let first = pool.len();
    let mut tried = 0u32;
    while end.map_or(tried < USUAL, |end| !tried.is_multiple_of(256) || Instant::now() < end) {
        tried += 1;
        let mut input = chance.of(&pool).clone();
        for _ in 0..=chance.below(6) {
            change(&mut input, &pool, seeds.words, &mut chance);
        }
        input.truncate(LONGEST);
        if let Some(mend) = seeds.mend.filter(|_| chance.below(8) > 0) {
            mend(&mut input);
        }
        once(name, &input, &target);
        if chance.below(16) == 0 {
            if pool.len() < first + POOL {
                pool.push(input);
            } else {
                let at = first + chance.below(POOL);
                pool[at] = input;
            }
        }
    }
}

fn once(name: &str, input: &[u8], target: &impl Fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let shown = input.escape_ascii();
        // A failed test shows it with its output.
        #[allow(clippy::print_stderr, reason = "the input is what a failure is about")]
        {
            eprintln!("{name} fails on b\"{shown}\"");
        }
        resume_unwind(panic);
    }
}

/// Changes one thing.
fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    let end = (at + 1 + chance.below(32)).min(input.len());
    match chance.below(9) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => {
            input[at] = *chance.of(&[0, b'0', b'"', b'/', b'\n', b' ', 0x7f, 0x80, 0xff])
        }
        2 if at < end => drop(input.drain(at..end)),
        3 if at < end => {
            let copy = input[at..end].to_vec();
            let to = chance.below(input.len() + 1);
            input.splice(to..to, copy);
        }
        4 => replace(input, at..at, number(chance).as_bytes()),
        5 => {
            // A whole number where there is one.
            let digits = |byte: &u8| byte.is_ascii_digit();
            let start = input[at..].iter().position(digits).map_or(at, |more| at + more);
            let stop =
                input[start..].iter().position(|byte| !digits(byte)).map_or(input.len(), |more| start + more);
            replace(input, start..stop, number(chance).as_bytes());
        }
        6 if !words.is_empty() => {
            let stop = if chance.below(2) == 0 { at } else { end };
            let word = words[chance.below(words.len())];
            replace(input, at..stop.max(at), word.as_bytes());
        }
        7 => {
            let other = chance.of(pool);
            let from = chance.below(other.len() + 1);
            let upto = from + chance.below(other.len() - from + 1);
            let stop = if chance.below(2) == 0 { at } else { input.len() };
            replace(input, at..stop, &other[from..upto]);
        }
        _ => replace(input, at..at, &[u8::try_from(chance.below(256)).unwrap_or(0)]),
    }
}

fn replace(input: &mut Vec<u8>, range: std::ops::Range<usize>, with: &[u8]) {
    if input.len() + with.len() <= LONGEST {
        input.splice(range, with.iter().copied());
    }
}

fn number(chance: &mut Chance) -> &'static str {
    NUMBERS[chance.below(NUMBERS.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn chance_finds_what_is_a_few_changes_away() {
        let found = Cell::new(false);
        let seeds = Seeds { whole: &[b"size=12"], words: &["limit"], mend: None };
        run("sample", seeds, |bytes| found.set(found.get() || bytes.ends_with(b"limit") && bytes.len() > 7));
        let tried = Cell::new(0);
        run("sample", seeds, |_| tried.set(tried.get() + 1));
        assert!(found.get() && tried.get() > USUAL);
    }
}
