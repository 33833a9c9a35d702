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
# What a test waits for may take this many times longer than it usually does; what comes is waited for no longer.
export WHARF_TEST_PATIENCE=${WHARF_TEST_PATIENCE:-4}
# A test program that waits for ever is ended, after cargo has named the test ("has been running for over 60 seconds"):
# none takes a third of this on two slow cores.
export "CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER=timeout --foreground --kill-after=30 ${WHARF_TEST_SECONDS:-900}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Where WHARF_TEST_REPEAT is set, up to two failed programs run once more, whole. What passes only then is named at the
# end: a defect to be found, in the test or in Wharf, that says nothing of the change at hand.
unsteady=()
tests() {
  local again one
  cargo test --no-fail-fast "$@" 2>&1 | tee "$log" && return
  mapfile -t again < <(sed -n 's/^ *`\(-p [^`]*\)`$/\1/p' "$log")
  [ -n "${WHARF_TEST_REPEAT:-}" ] && [ "${#again[@]}" -ge 1 ] && [ "${#again[@]}" -le 2 ] || exit 101
  for one in "${again[@]}"; do
    printf '\nFAILED, is repeated once: %s\n' "$one"
    # shellcheck disable=SC2086 # A package and a program of it.
    cargo test $one
    unsteady+=("$one${WHARF_TEST_CLIENT:+ (client: $WHARF_TEST_CLIENT)}")
  done
}
tests --workspace "$@"
suites=(api cp events hello images life logs network options pull push streams survival)
WHARF_TEST_CLIENT=wharf tests -p wharf "${suites[@]/#/--test=}" "$@"
for one in "${unsteady[@]}"; do printf 'PASSED ONLY WHEN REPEATED: %s\n' "$one"; done
