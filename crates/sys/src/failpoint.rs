//! Places where a crash can be asked for, so that tests can show that nothing is lost by it.
//!
//! `WHARF_FAILPOINT=create.logged:3` kills the process the third time it comes by [`pass`]`("create.logged")`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The variable that names the place, with `:N` for the N-th time (the first where it is left out).
pub const VARIABLE: &str = "WHARF_FAILPOINT";

struct Wanted {
    name: String,
    left: AtomicU32,
}

/// Passes the place called `name`; kills this process, as `kill -9` does, where that was asked for.
pub fn pass(name: &str) {
    static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| parse(&std::env::var(VARIABLE).ok()?));
    if let Some(wanted) = wanted
        && wanted.name == name
        && wanted.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        // A process may always signal itself; it does not come back from this call.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

fn parse(text: &str) -> Option<Wanted> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let count = count.parse().ok().filter(|count| *count > 0)?;
    Some(Wanted { name: name.to_owned(), left: AtomicU32::new(count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_and_the_time_it_is_meant_at() {
        let once = parse("remove.logged").unwrap();
        assert_eq!((once.name.as_str(), once.left.into_inner()), ("remove.logged", 1));
        assert_eq!(parse("remove.logged:7").unwrap().left.into_inner(), 7);
        assert!(parse("remove.logged:0").is_none() && parse("remove.logged:x").is_none());
        // Nothing is asked for: the test goes on.
        pass("remove.logged");
    }
}
