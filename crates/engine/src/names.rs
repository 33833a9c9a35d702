//! Names of containers: which are allowed, and inventing one where none was given.

use crate::error::{Error, Result};

/// Checks a name given by a client and strips the slash that old clients put before it.
pub fn check(given: &str) -> Result<&str> {
    let name = given.strip_prefix('/').unwrap_or(given);
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_alphanumeric());
    let mut length = 0;
    let rest = characters.all(|one| {
        length += 1;
        one.is_ascii_alphanumeric() || matches!(one, '_' | '.' | '-')
    });
    if first && rest && length > 0 {
        return Ok(name);
    }
    Err(Error::invalid(format!(
        "Invalid container name ({given}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

/// An invented name. `attempt`: how many were found taken before; a number is added after a few.
pub fn invent(attempt: u32) -> String {
    let [low, high, number, _] = random();
    let first = FIRST[usize::from(low) % FIRST.len()];
    let second = SECOND[usize::from(high) % SECOND.len()];
    if attempt < 4 { format!("{first}_{second}") } else { format!("{first}_{second}{number}") }
}

/// A new container id: 64 hex digits, never all decimal in the first twelve (they become host names, and a
/// host name of digits alone reads as a number).
pub fn new_id() -> String {
    loop {
        let mut bytes = [0_u8; 32];
        fill(&mut bytes);
        let id = hex::encode(bytes);
        if id[..12].bytes().any(|digit| digit.is_ascii_alphabetic()) {
            return id;
        }
    }
}

fn random() -> [u8; 4] {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    bytes
}

/// Fills `bytes` from the kernel's generator.
fn fill(mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(length) => bytes = &mut bytes[length..],
            // Only an interruption is possible once the generator is seeded, which it is before any daemon.
            Err(_) => continue,
        }
    }
}

const FIRST: [&str; 64] = [
    "amber", "ample", "ardent", "azure", "balmy", "bold", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "cheery", "clever", "copper", "coral", "crisp", "daring", "deft", "eager", "early", "earnest",
    "fair", "fleet", "fond", "free", "fresh", "gentle", "glad", "golden", "grand", "hale", "hardy", "hearty",
    "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow", "merry", "mild",
    "nimble", "noble", "patient", "placid", "plucky", "proud", "quick", "quiet", "ready", "robust", "serene",
    "sharp", "silver", "steady", "stout", "sunny", "swift", "trusty", "vivid",
];

const SECOND: [&str; 96] = [
    "abel",
    "agnesi",
    "ampere",
    "archimedes",
    "babbage",
    "banneker",
    "bardeen",
    "bohr",
    "boole",
    "boyle",
    "brahe",
    "cannon",
    "cantor",
    "carson",
    "cerf",
    "chandra",
    "church",
    "clarke",
    "cori",
    "curie",
    "darwin",
    "diffie",
    "dijkstra",
    "dirac",
    "edison",
    "einstein",
    "elion",
    "engelbart",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "franklin",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goodall",
    "hamilton",
    "hawking",
    "heisenberg",
    "hertz",
    "hodgkin",
    "hoover",
    "hopper",
    "hypatia",
    "joliot",
    "kalam",
    "kepler",
    "khayyam",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "lamarr",
    "leavitt",
    "leibniz",
    "linnaeus",
    "lovelace",
    "maxwell",
    "mayer",
    "mcclintock",
    "meitner",
    "mendel",
    "mirzakhani",
    "morse",
    "napier",
    "newton",
    "nobel",
    "noether",
    "noyce",
    "ohm",
    "pascal",
    "pasteur",
    "pauling",
    "planck",
    "ptolemy",
    "raman",
    "ramanujan",
    "ride",
    "ritchie",
    "rubin",
    "sagan",
    "shannon",
    "somerville",
    "tesla",
    "thompson",
    "torvalds",
    "turing",
    "volta",
    "wiles",
    "wilson",
    "wozniak",
    "wright",
    "wu",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["ab", "/web", "a.b-c_d", "0x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a", "_ab", "-ab", "a b", "a/b", "ä2", "//ab"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        let message = check("a").unwrap_err();
        assert_eq!(
            message.message(),
            "Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn invented_names_are_valid() {
        for attempt in 0..8 {
            assert!(check(&invent(attempt)).is_ok());
        }
    }

    #[test]
    fn ids_are_long_and_not_numbers() {
        let id = new_id();
        assert_eq!(id.len(), 64);
        assert!(id[..12].parse::<u64>().is_err());
        assert_ne!(id, new_id());
    }
}
