#!/usr/bin/env bash
# Makes a disk of stock Debian with systemd: image.sh SUITE FOLDER leaves FOLDER/{disk,vmlinuz,initrd}.
set -euo pipefail
suite=$1 folder=$2
here=$(dirname "$(readlink -f "$0")")
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
packages=systemd-sysv,udev,kmod,dbus,linux-image-amd64,initramfs-tools,apparmor,busybox-static,ca-certificates,iproute2,procps,tar,xz-utils
root=$folder/root.partial
trap 'rm -rf "$root" "$folder/disk.partial"' EXIT
rm -rf "$root"; mkdir -p "$folder/debs"
debootstrap --variant=minbase --cache-dir="$(readlink -f "$folder/debs")" --include="$packages" "$suite" "$root" "$mirror" >"$folder/debootstrap.log" ||
  { tail -n 20 "$folder/debootstrap.log"; exit 1; }
install -m 755 "$here/suites.sh" "$root/usr/local/sbin/suites"
install -m 644 "$here/suites.service" "$root/etc/systemd/system/suites.service"
systemctl --quiet --root="$root" enable suites.service 2>/dev/null ||
  { mkdir -p "$root/etc/systemd/system/multi-user.target.wants"; ln -sf ../suites.service "$root/etc/systemd/system/multi-user.target.wants/"; }
rm -f "$root"/var/cache/apt/archives/*.deb
echo 127.0.0.1 localhost >"$root/etc/hosts"
echo debian >"$root/etc/hostname"
cp "$root"/boot/vmlinuz-* "$folder/vmlinuz"
cp "$root"/boot/initrd.img-* "$folder/initrd"
rm -f "$folder/disk.partial"
mke2fs -q -t ext4 -d "$root" "$folder/disk.partial" 8G
mv "$folder/disk.partial" "$folder/disk"
