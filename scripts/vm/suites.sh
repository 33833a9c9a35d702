#!/bin/bash
# Runs in the machine: every suite that the second disk lists (its package's folder, the program, a name).
# The disk holds the project, which gets the path it has on the host, since the suites were compiled with it.
export RUST_BACKTRACE=0 TERM=dumb HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/project
mount /dev/vdb /run/project || { echo "machine: no second disk"; exit 1; }
. /run/project/machine.env
mkdir -p "$PROJECT"
umount /run/project
mount /dev/vdb "$PROJECT"
cd "$PROJECT" || exit 1
. /etc/os-release
echo "machine: $PRETTY_NAME, $(uname -r), $(stat -fc %T /sys/fs/cgroup), AppArmor $(cat /sys/module/apparmor/parameters/enabled), up $(cut -d' ' -f1 /proc/uptime) s"
failed=()
while read -r folder program name; do
  echo "machine: $name at $(cut -d' ' -f1 /proc/uptime) s"
  (cd "$folder" && exec timeout "$SUITE_SECONDS" "$program" "${ARGUMENTS[@]}" </dev/null 2>&1) || failed+=("$name")
done <suites
echo "machine: ${#failed[@]} suites failed: ${failed[*]}"
echo "machine: exit ${#failed[@]}"
