#!/usr/bin/env bash
# Installs what the tests need and runs them all; needs root, rustup and package archives. Arguments go to cargo test.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-needs.sh gcc libc6-dev busybox-static procps tar xz-utils ca-certificates curl debian-archive-keyring
scripts/clients.sh
export RUST_BACKTRACE=0
cargo test --workspace "$@"
