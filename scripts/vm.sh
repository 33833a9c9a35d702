#!/usr/bin/env bash
# Passes the suites in a machine of stock Debian 12 or 13 (pure cgroup v2, the distribution's kernel with its modules,
# AppArmor, systemd), emulated by qemu; needs root and package archives.
#   scripts/vm.sh 12                          every suite
#   scripts/vm.sh 13 life options             those named only
#   scripts/vm.sh 12 life -- a_test --nocapture     what follows -- goes to the suites
# The machine's disk is made once and kept in build/vm; what is written there while the suites run is thrown away.
# Emulation is slow: VM_PATIENCE (6) times the usual is what the suites wait, VM_SUITE_SECONDS (3600) what one may take.
set -euo pipefail
cd "$(dirname "$0")/.."
release=${1:?usage: scripts/vm.sh 12|13 [SUITE...] [-- ARGUMENT...]}; shift
case $release in
12) suite=bookworm ;;
13) suite=trixie ;;
*) echo "no Debian $release here: 12 or 13" >&2; exit 2 ;;
esac
wanted=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do wanted+=("$1"); shift; done
[ $# -gt 0 ] && shift
folder=$PWD/build/vm/$release

scripts/install-needs.sh qemu-system-x86 debootstrap e2fsprogs debian-archive-keyring gcc libc6-dev binutils
scripts/clients.sh
mkdir -p "$folder"
# A machine is kept as long as what makes it stays as it was.
recipe=$(cat scripts/vm/* | sha256sum)
if [ "$(cat "$folder/recipe" 2>/dev/null)" != "$recipe" ]; then
  rm -f "$folder/recipe"
  scripts/vm/image.sh "$suite" "$folder"
  echo "$recipe" >"$folder/recipe"
fi

# The second disk: sources, clients and programs under the paths they were compiled for.
payload=$folder/project
trap 'rm -rf "$payload" "$payload.disk"' EXIT
rm -rf "$payload" "$payload.disk"; mkdir -p "$payload"
git ls-files -z | tar -c --null -T - --ignore-failed-read 2>/dev/null | tar -x -C "$payload"
mkdir -p "$payload/build"; cp -a build/clients "$payload/build/"
keep() { # PROGRAM: without its debugging information, which is nine tenths of it
  mkdir -p "$payload/$(dirname "${1#"$PWD"/}")"
  strip -o "$payload/${1#"$PWD"/}" "$1"
}
cargo test --workspace --no-run --message-format=json >"$folder/programs.json"
sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"name":"\([^"]*\)","src_path".*"profile":{[^}]*"test":true}.*"executable":"\([^"]*\)".*/\1 \3 \2/p' \
  "$folder/programs.json" >"$folder/programs"
: >"$payload/suites"
while read -r package program name; do
  [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || continue
  keep "$program"
  echo "$package $program $name" >>"$payload/suites"
done <"$folder/programs"
[ -s "$payload/suites" ] || { echo "no such suite" >&2; exit 2; }
keep "$PWD/target/x86_64-unknown-linux-gnu/debug/wharf"
{
  printf 'PROJECT=%q\nSUITE_SECONDS=%q\nARGUMENTS=(' "$PWD" "${VM_SUITE_SECONDS:-3600}"
  [ $# -eq 0 ] || printf '%q ' "$@"
  printf ')\nexport WHARF_TEST_PATIENCE=%q\n' "${VM_PATIENCE:-6}"
} >"$payload/machine.env"
mke2fs -q -t ext4 -d "$payload" "$payload.disk" 2G
rm -rf "$payload"

qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 4096 -nodefaults -display none -no-reboot \
  -kernel "$folder/vmlinuz" -initrd "$folder/initrd" \
  -append "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=no mitigations=off" \
  -drive "file=$folder/disk,format=raw,if=virtio,snapshot=on,cache=unsafe" \
  -drive "file=$payload.disk,format=raw,if=virtio,snapshot=on,cache=unsafe" \
  -netdev user,id=net,restrict=on -device virtio-net-pci,netdev=net -device virtio-rng-pci \
  -serial "file:$folder/console.log" -serial stdio </dev/null | tr -d '\r' | tee "$folder/suites.log"
code=$(sed -n 's/^machine: exit //p' "$folder/suites.log")
[ -n "$code" ] || { echo "the machine ended before the suites did; its console:" >&2; tail -n 30 "$folder/console.log" >&2; exit 1; }
[ "$code" -eq 0 ]
