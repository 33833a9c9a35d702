#!/usr/bin/env bash
# Builds Wharf and runs a first container from the image it carries in itself; needs root, rustup and package archives.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-needs.sh gcc libc6-dev
cargo build --release --bin wharf
target/"$(rustc -vV | sed -n 's/^host: //p')"/release/wharf run --rm hello
