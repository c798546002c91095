#!/bin/sh
# The first process of a machine of user-mode Linux: what this machine's disk holds, read-only, some memory to
# write to, and one program ($GUEST, run by $PYTHON). When it ends the machine is switched off.
echo BOOTED
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run # not /tmp: the checkout may lie there
mkdir /run/tmp
mount -t cgroup2 groups /sys/fs/cgroup
export HOME=/run/tmp TMPDIR=/run/tmp PATH="${PYTHON%/*}:/usr/sbin:/usr/bin:/sbin:/bin" PYTHONPATH="$CHECKOUT" LANG=C.UTF-8
cd "$HOME" || exit
"$PYTHON" -P "$GUEST" 2>&1
echo o >/proc/sysrq-trigger
sleep 60
