//! Every fuzz target, from seeds: `cargo test -p fuzzing --test targets [-- NAME]`.
#![allow(clippy::print_stdout, reason = "it is its own harness")]

// The targets name the fuzzer's crate.
extern crate self as libfuzzer_sys;

mod seeds;

use fuzzing::{Input, Seeds};

/// The fuzzer's macro, for [`fuzzing::run`].
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $kind:ty| $body:block) => {
        pub(crate) fn run(bytes: &[u8]) {
            if let Some($input) = <$kind as $crate::Input>::from(bytes) $body
        }
    };
}

macro_rules! targets {
    ($($name:ident: $path:literal),* $(,)?) => {
        $(
            #[allow(unused_attributes, reason = "a fuzzer's program has no main function of its own")]
            #[allow(unused_imports, reason = "the fuzzer's macro, and what the unit tests of a module would use")]
            #[path = $path]
            mod $name;
        )*

        const TARGETS: &[(&str, Seeds<'static>, fn(&[u8]))] =
            &[$((stringify!($name), seeds::$name, $name::run)),*];
    };
}

targets! {
    api_bodies: "../../../fuzz/fuzz_targets/api_bodies.rs",
    auth_challenges: "../../../fuzz/fuzz_targets/auth_challenges.rs",
    build_definitions: "../../../fuzz/fuzz_targets/build_definitions.rs",
    dns_messages: "../../../fuzz/fuzz_targets/dns_messages.rs",
    dockerfiles: "../../../fuzz/fuzz_targets/dockerfiles.rs",
    image_documents: "../../../fuzz/fuzz_targets/image_documents.rs",
    layer_compressions: "../../../fuzz/fuzz_targets/layer_compressions.rs",
    link_headers: "../../../fuzz/fuzz_targets/link_headers.rs",
    log_reader: "../../../fuzz/fuzz_targets/log_reader.rs",
    references: "../../../fuzz/fuzz_targets/references.rs",
    registry_documents: "../../../fuzz/fuzz_targets/registry_documents.rs",
    server_manifests: "../../../fuzz/fuzz_targets/server_manifests.rs",
    server_requests: "../../../fuzz/fuzz_targets/server_requests.rs",
    tar_reader: "../../../fuzz/fuzz_targets/tar_reader.rs",
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let mut count = 0;
    for (name, seeds, target) in TARGETS {
        if wanted.is_empty() || wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            fuzzing::run(name, *seeds, target);
            count += 1;
        }
    }
    println!("{count} fuzz targets ran");
}
