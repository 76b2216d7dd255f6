#!/bin/bash
# Boots the virtual machine of the tests, runs one command in it, and ends as the command ended.
#
#   tests/vm/boot.sh [options] -- 'SHELL COMMAND'
#     -f FILE[:NAME]   puts FILE into /job (the command's directory), with the libraries it needs
#     -m MODULE        loads it first (again for more)
#     -p PROTO:PORT    forwards tcp or udp PORT of the host's loopback to the same PORT inside
#     -t SECONDS       kills the machine after so long (default 120)
#     -l FILE          where the console goes (default: shown only when something went wrong)
#
# The command's output is this script's output, byte for byte. Exit status: the command's own, or
# 124 time limit, 125 the machine died.
set -euo pipefail
cd "$(dirname "$0")/../.."

FILES=() MODULES=() FORWARD='' LIMIT=120 CONSOLE=
while getopts f:m:p:t:l: option; do
    case $option in
    f) FILES+=("$OPTARG") ;;
    m) MODULES+=("$OPTARG") ;;
    p) FORWARD+=",hostfwd=${OPTARG%%:*}:127.0.0.1:${OPTARG#*:}-:${OPTARG#*:}" ;;
    t) LIMIT=$OPTARG ;;
    l) CONSOLE=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
KIT=${PINHOLE_VM_KIT:-$(tests/vm/kit.sh)}

WORK=$(mktemp -d) QEMU='' READER=''
finish() {
    local process
    for process in $QEMU $READER; do kill "$process" 2>/dev/null || true; done
    rm -rf "$WORK"
}
trap finish EXIT
CONSOLE=${CONSOLE:-$WORK/console}

# The libraries that FILE needs and that the base does not have lie beside it in the archive.
add() {
    local source=${1%%:*} name library
    name=${1#*:}
    [ "$name" != "$1" ] || name=$(basename "$source")
    install -D -m 755 "$source" "$WORK/tree/job/$name"
    { ldd "$source" 2>/dev/null || true; } | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' |
        while read -r library; do
            [ -e "$WORK/tree$library" ] || install -D -m 755 "$(readlink -e "$library")" "$WORK/tree$library"
        done
}
mkdir -p "$WORK/tree/job"
printf "MODULES='%s' NETWORK='%s'\n" "${MODULES[*]}" "$FORWARD" >"$WORK/tree/job/settings"
printf '%s\n' "$*" >"$WORK/tree/job/command"
for file in "${FILES[@]}"; do add "$file"; done

# The kernel unpacks one archive after the other, but looks for the next only at a multiple of 4.
cp "$KIT/base.cpio.gz" "$WORK/initrd"
truncate -s %512 "$WORK/initrd"
(cd "$WORK/tree" && find . -mindepth 1 | cpio --quiet -o -H newc -R 0:0) >>"$WORK/initrd"

NETWORK=(-nic none)
# Not restrict=on: libslirp then drops every datagram that leaves the guest, answers too.
[ -z "$FORWARD" ] || NETWORK=(-netdev "user,id=net$FORWARD" -device virtio-net-pci,netdev=net,romfile=)

# A pipe of our own: QEMU holds a port whose stdin is at its end for unplugged, and the guest's
# first write would wait for ever.
mkfifo "$WORK/output"
cat "$WORK/output" &
READER=$!
# The kernel would test its timer against the time that passes, and panic on a busy host.
# Never KVM: a /dev/kvm that opens may still not run a stock kernel.
timeout "$LIMIT" qemu-system-x86_64 -M q35 -cpu max -accel tcg,thread=multi -smp 2 -m 1024 \
    -nodefaults -display none -monitor none -no-reboot \
    -kernel "$KIT/kernel" -initrd "$WORK/initrd" \
    -append "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic random.trust_cpu=on mitigations=off nokaslr no_timer_check" \
    -serial "file:$CONSOLE" \
    -chardev "file,id=job,path=$WORK/output" \
    -device virtio-serial-pci -device virtserialport,chardev=job,name=job \
    "${NETWORK[@]}" </dev/null &
QEMU=$!
ENDED=0
wait "$QEMU" || ENDED=$?
QEMU=
[ -e "$CONSOLE" ] || { echo "vm: qemu did not start (is a forwarded port taken?)" >&2; exit 125; }
wait "$READER" || true
READER=
show() { echo "vm: $1; the console's end:" >&2; tail -30 "$CONSOLE" >&2; }
if [ "$ENDED" = 124 ]; then
    show "killed after $LIMIT s"
    exit 124
fi
STATUS=$(tr -d '\r' <"$CONSOLE" | sed -n 's/^exit status \([0-9]*\)$/\1/p' | tail -1)
[ -n "$STATUS" ] || { show "the machine ended without a word"; exit 125; }
[ "$STATUS" = 0 ] || show "the command failed with $STATUS"
exit "$STATUS"
