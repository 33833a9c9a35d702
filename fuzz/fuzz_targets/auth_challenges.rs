//! Reads any text as a `WWW-Authenticate` header: bounded, and what is written anew reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf_distribution::client::challenge::{Challenge, parse};

fn write(challenges: &[Challenge]) -> String {
    let mut text = String::new();
    for challenge in challenges {
        text.push_str(&format!("{} ", challenge.scheme));
        for (name, value) in &challenge.parameters {
            text.push_str(&format!("{name}=\"{}\",", value.replace('\\', "\\\\").replace('"', "\\\"")));
        }
        text.push(',');
    }
    text
}

fuzz_target!(|text: &str| {
    let challenges = parse(text);
    assert!(challenges.len() <= 16);
    assert!(challenges.iter().all(|challenge| challenge.parameters.len() <= 32));
    let written = write(&challenges);
    if written.len() <= 8 << 10 {
        assert_eq!(parse(&written), challenges, "{written}");
    }
});
