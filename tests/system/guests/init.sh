#!/bin/sh
# The first process of a machine of user-mode Linux: what this machine's disk holds, read-only, some memory to
# write to, and one program ($GUEST, run by $PYTHON). When it ends the machine is switched off.
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t cgroup2 groups /sys/fs/cgroup
export HOME=/tmp PATH="${PYTHON%/*}:/usr/sbin:/usr/bin:/sbin:/bin" PYTHONPATH="$CHECKOUT" LANG=C.UTF-8
cd /tmp || exit
"$PYTHON" -P "$GUEST" 2>&1
echo o >/proc/sysrq-trigger
sleep 60
