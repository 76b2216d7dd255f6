#!/bin/busybox sh
# The first process of the virtual machine: mounts, loads modules, runs the job that boot.sh laid
# into /job, says how it ended, and switches the machine off.
#
# The job's output goes through a virtio port, byte for byte; the console carries the kernel's own
# words and, last, "exit status N".
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /root /etc
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s /bin
export PATH=/sbin:/usr/bin:/bin HOME=/root
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
ln -s /proc/self/fd /dev/fd
mkdir -p /var && ln -s /run /var/run
# The kernel calls this by path when a driver asks for another module.
echo /bin/modprobe >/proc/sys/kernel/modprobe
hostname vm
ip link set lo up
. /job/settings

# waits up to 2 s
until_true() {
    local tries=100
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        usleep 20000
    done
}
network_is_there() { [ -e /sys/class/net/eth0 ]; }
port_is_there() { PORT=$(ls /dev/vport*p1 2>/dev/null) && [ -n "$PORT" ]; }
finish() {
    sync
    echo "exit status $1" >/dev/console
    poweroff -f
}

for module in virtio_pci virtio_console $MODULES; do
    modprobe "$module" || echo "init: no module $module" >/dev/console
done
if [ -n "$NETWORK" ]; then
    modprobe virtio_net
    until_true network_is_there || finish 125
    ip link set eth0 up
    # No default route: of the outside, only the host's loopback can be reached, as 10.0.2.2.
    ip addr add 10.0.2.15/24 dev eth0
fi
until_true port_is_there || finish 125
cd /job
setsid sh ./command </dev/null >"$PORT" 2>&1
finish $?
