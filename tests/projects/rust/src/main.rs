//! Prints the SHA-256 of what it reads.

use std::io::{Read, Write};

use sha2::{Digest, Sha256};

fn main() -> std::io::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text)?;
    let sum = Sha256::digest(&text);
    writeln!(std::io::stdout(), "{sum:x}")
}
