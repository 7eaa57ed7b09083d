#!/bin/bash
# Becomes a machine of its own: mounts an overlay over the host's root, and runs systemd in it as PID 1. Runs in new
# namespaces (machine.py makes them), so that nothing of this is seen outside, and all of it ends with systemd.
#   inside.sh REPOSITORY HIERARCHY...     a control hierarchy is "memory", "name=systemd", …, or "unified" for version 2
set -euo pipefail
repository=$1
shift
scratch=/mnt
mount -t tmpfs -o mode=700 tmpfs "$scratch"
mkdir "$scratch"/{changes,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/changes,workdir=$scratch/work" "$scratch/root"
root=$scratch/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
if [[ $* == unified ]]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
    for hierarchy in "$@"; do
        folder=$root/sys/fs/cgroup/${hierarchy#name=}
        mkdir "$folder"
        case $hierarchy in
            unified) mount -t cgroup2 cgroup2 "$folder" ;;
            name=*) mount -t cgroup -o "none,$hierarchy" cgroup "$folder" ;;
            *) mount -t cgroup -o "$hierarchy" cgroup "$folder" ;;
        esac
    done
fi
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root"/dev/{shm,pts,mqueue}
mount -t tmpfs -o size=4g,mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
# The repository may lie on a file system of its own. What was built in it is out of sight: the package alone runs.
mkdir -p "$root$repository"
mount --rbind "$repository" "$root$repository"
[[ ! -d $root$repository/target ]] || mount -t tmpfs tmpfs "$root$repository/target"
ip link set lo up
hostname framepipe-test
cd "$root"
mkdir -p before
pivot_root . before
umount -l /before
exec env -i container=framepipe-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --unit=basic.target --log-target=journal-or-kmsg --log-level=notice --show-status=0
