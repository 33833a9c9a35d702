#!/usr/bin/env bash
# Installs what the tests need and runs them all; needs root, rustup and package archives. Arguments go to cargo test.
# The black-box suites then run once more with wharf in the place of the stock docker client;
# WHARF_TEST_CLIENT=docker-20 puts that of Debian 12 there, less what tests/client-20.10.txt says it lacks.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-needs.sh gcc libc6-dev busybox-static procps tar xz-utils ca-certificates curl openssl debian-archive-keyring \
  dnsutils iproute2 nftables iptables conntrack iperf3 iputils-ping e2fsprogs btrfs-progs git openssh-client debootstrap \
  wget gpgv util-linux bsdutils
scripts/clients.sh
export RUST_BACKTRACE=0
cargo test --workspace "$@"
suites=(api cp events hello images life logs network options pull push streams survival)
WHARF_TEST_CLIENT=wharf cargo test -p wharf "${suites[@]/#/--test=}" "$@"
