#!/usr/bin/env bash
# Fetches the clients that the tests drive and unpacks them into build/clients; nothing is installed.
#   build/clients/docker     docker CLI 28 and its plugins compose and buildx (Debian sid)
#   build/clients/docker-20  docker CLI 20.10 (Debian bookworm)
#   build/clients/docker-registry  the registry that clients and servers are tried with (Debian sid)
#   build/clients/containerd, ctr  another engine that pushes and pulls, and its client (Debian sid)
#   build/clients/skopeo, podman  foreign clients of registries (Debian bookworm)
#   build/clients/runc, crun OCI runtimes that --add-runtime is tried with (Debian bookworm)
# apt does the fetching with a state folder of its own, so that signatures are checked as always.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/build/clients
[ -e "$out/.complete" ] && [ -e "$out/.runtimes" ] && [ -e "$out/docker-registry" ] && [ -e "$out/ctr" ] && [ -e "$out/.registries" ] && exit 0
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keyring" ] || apt-get install -y -qq debian-archive-keyring >/dev/null
mirror=$(awk '/^URIs:.*debian\.org\/debian\/?$/{print $2; exit}' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
mirror=${DEBIAN_MIRROR:-${mirror:-http://deb.debian.org/debian}}

fetch() { # SUITE PACKAGE...: unpacked under build/clients/SUITE
  local suite=$1 root=$out/apt-$1; shift
  mkdir -p "$root"/{lists/partial,cache/archives/partial,etc/preferences.d,deb} "$out/$suite"
  echo "deb [signed-by=$keyring] $mirror $suite main" >"$root/etc/sources.list"
  : >"$root/status"
  local apt=(apt-get -qq -o "Dir::Etc=$root/etc" -o "Dir::Etc::sourcelist=$root/etc/sources.list" -o "Dir::Etc::sourceparts=-"
    -o "Dir::State=$root" -o "Dir::State::lists=$root/lists" -o "Dir::State::status=$root/status"
    -o "Dir::Cache=$root/cache" -o "APT::Architecture=$(dpkg --print-architecture)" -o "APT::Sandbox::User=root")
  "${apt[@]}" update
  (cd "$root/deb" && "${apt[@]}" download "$@")
  for deb in "$root"/deb/*.deb; do dpkg-deb -x "$deb" "$out/$suite"; done
  rm -rf "$root"
}

if [ ! -e "$out/.complete" ]; then
  rm -rf "$out"; mkdir -p "$out"
  fetch sid docker-cli docker-compose docker-buildx
  fetch bookworm docker.io
  ln -sf sid/usr/bin/docker "$out/docker"
  ln -sf bookworm/usr/bin/docker "$out/docker-20"
  touch "$out/.complete"
fi

if [ ! -e "$out/docker-registry" ] || [ ! -e "$out/ctr" ]; then
  fetch sid docker-registry containerd
  for program in docker-registry containerd ctr; do ln -sf "sid/usr/bin/$program" "$out/$program"; done
fi

wrap() { # PROGRAM: with the libraries it was built for
  local program
  program=$(find "$out"/bookworm/usr/*bin -name "$1" -type f | head -n 1)
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$(echo "$out"/bookworm/usr/lib/*-linux-gnu):$(echo "$out"/bookworm/lib/*-linux-gnu)" "$program" >"$out/$1"
  chmod +x "$out/$1"
}

if [ ! -e "$out/.registries" ]; then
  fetch bookworm skopeo podman conmon libgpgme11 libassuan0 libgpg-error0 libsubid4 libdevmapper1.02.1 libseccomp2 libsystemd0
  wrap skopeo; wrap podman
  touch "$out/.registries"
fi
[ -e "$out/.runtimes" ] && exit 0
fetch bookworm runc crun libyajl2 libseccomp2 libcap2 libsystemd0
wrap runc; wrap crun
touch "$out/.runtimes"
