#!/bin/bash
# Proves Pinhole against the kernel's own camera, USB and encoder drivers, in a virtual machine
# that is emulated: no KVM, no Docker, nothing but Debian's packages.
#
#   tests/vm/run.sh                     everything: at most 15 minutes, kit included
#   tests/vm/run.sh GROUP [PART]        vivid, usb, encoder, m2m, on-demand, overload, netns, outside
#                                       or rounds; only the cases whose name holds PART
#
# A line per case with its figures, a line per group, and at the end "N passed, M failed". The
# last status is 0 only if nothing failed; 77: this machine cannot run it, with the reason.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/parts.sh

skip() { echo "SKIP vm: $1"; exit 77; }
[ "$(uname -m)" = x86_64 ] || skip "the machine is emulated for amd64 hosts only"
command -v apt-cache >/dev/null || skip "needs Debian's packages"
COMPILER=$(tests/vm/kit.sh compiler 2>/dev/null) ||
    { [ "$(id -u)" = 0 ] && apt-get -qq update && COMPILER=$(tests/vm/kit.sh compiler); } ||
    skip "apt knows no kernel: apt-get update"
PACKAGES=(qemu-system-x86 cpio kmod xz-utils binutils busybox-static v4l-utils iproute2
    make "$COMPILER" patch zstd ffmpeg)
missing=()
for package in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} != 0 ]; then
    [ "$(id -u)" = 0 ] || skip "needs: apt-get install ${missing[*]}"
    echo "vm: installing ${missing[*]}"
    apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null || skip "cannot install ${missing[*]}"
fi

START=$SECONDS
PINHOLE_VM_KIT=$(tests/vm/kit.sh)
export PINHOLE_VM_KIT
cargo build --release --quiet
PROGRAM=$(program vm)
echo "vm: kit and programs ready after $((SECONDS - START)) s"

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
PASSED=0 FAILED=0 ENVIRONMENT=

# What the USB camera shows: a picture that moves and is not easy to compress.
frames() {
    mkdir -p "$WORK/frames"
    ffmpeg -v error -f lavfi -i testsrc2=size=640x480:rate=30 -frames:v 15 \
        -pix_fmt yuvj422p -q:v 6 "$WORK/frames/%02d.jpg"
}

# The processor time that others on the host of this machine took, and all time, in ticks.
stolen() { awk '/^cpu /{ for (i = 2; i <= 9; i++) all += $i; print $9 + 0, all }' /proc/stat; }

# tally FILE NAME STATUS SECONDS: adds a group's own last line to the sum
tally() {
    local line
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$1" | tail -1 || true)
    # A machine that died in the middle of a group is a failure of its own.
    [ -n "$line" ] || { line="0 passed, 1 failed"; [ "$3" = 0 ] || echo "FAIL  $2: ended with status $3"; }
    PASSED=$((PASSED + ${line%% passed*}))
    line=${line#*, }
    FAILED=$((FAILED + ${line%% failed*}))
    local steal all
    read -r steal all < <(stolen)
    echo "vm: $2 took $4 s, $((100 * (steal - STEAL) / (all - ALL + 1))) % of this machine's time stolen"
}

# inside GROUP SECONDS [boot.sh options]: one machine for one group of cases
inside() {
    local name=$1 limit=$2 begun=$SECONDS status=0
    shift 2
    echo "vm: $name"
    tests/vm/boot.sh -t "$limit" -f "$PROGRAM:vm" "$@" -- "$ENVIRONMENT ./vm cases $name '$PART'" 2>&1 |
        tee "$WORK/log" | grep --line-buffered -av '^[0-9]* passed, ' || status=${PIPESTATUS[0]}
    tally "$WORK/log" "$name" "$status" $((SECONDS - begun))
}

# those NAME SECONDS COMMAND [boot.sh options]: one machine for a test program of cargo's own kind
those() {
    local name=$1 limit=$2 command=$3 begun=$SECONDS status=0
    shift 3
    echo "vm: $name"
    tests/vm/boot.sh -t "$limit" "$@" -- "($command) 2>/tmp/errors || { cat /tmp/errors; false; }" 2>&1 |
        sed -u 's/^test \(.*\) \.\.\. ok$/ok    \1/; s/^test \(.*\) \.\.\. FAILED$/FAIL  \1/
            s/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed;.*/\1 passed, \2 failed/' |
        tee "$WORK/log" | grep --line-buffered -avE '^[0-9]* passed, |^$|^running ' || status=${PIPESTATUS[0]}
    tally "$WORK/log" "$name" "$status" $((SECONDS - begun))
}

# A viewer on this side of a real UDP socket, while the camera inside is disturbed: until the viewer
# has seen enough and the machine is killed.
outside() {
    local begun=$SECONDS http udp status=0
    # Free ones: the machine must have the number that its viewers are told.
    http=$(port STREAM) udp=$(port DGRAM)
    echo "vm: outside"
    cat >"$WORK/pinhole.toml" <<TOML
[server]
listen = "0.0.0.0:$http"
[access]
anonymous = true
[ice]
port = $udp
advertise = ["127.0.0.1"]
[[camera]]
name = "cam"
source = "v4l2:/dev/video0"
size = "640x360"
fps = 10
encoder = "software"
TOML
    tests/vm/boot.sh -t 240 -m vivid -p "tcp:$http" -p "udp:$udp" -f target/release/pinhole \
        -f "$WORK/pinhole.toml" -f "$PROGRAM:vm" -- \
        'modprobe -r vivid; modprobe vivid num_inputs=1 node_types=0x1 input_types=0x0
        >pinhole.log
        tail -f pinhole.log | while read -r line; do case $line in *WARN*|*ERROR*) echo "$line" ;; esac; done &
        ./pinhole run --config pinhole.toml 2>>pinhole.log & ./vm disturb 200' \
        >"$WORK/machine.log" 2>&1 &
    local machine=$!
    "$PROGRAM" view "http://127.0.0.1:$http/whep/cam" 45 6 | tee "$WORK/log" || status=${PIPESTATUS[0]}
    kill "$machine" 2>/dev/null || true
    wait "$machine" 2>/dev/null || true
    grep -av '^qemu-system' "$WORK/machine.log" | sed 's/^/      | /' || true
    echo "$((status == 0)) passed, $((status != 0)) failed" >>"$WORK/log"
    tally "$WORK/log" outside "$status" $((SECONDS - begun))
}

GROUPS_ASKED=${1:-vivid usb encoder m2m on-demand overload netns outside rounds} PART=${2:-}
for group in $GROUPS_ASKED; do
    read -r STEAL ALL < <(stolen)
    case $group in
    vivid) inside vivid 600 ;;
    # One pool for all threads: it measures what is held, not how many pools there are.
    rounds) ENVIRONMENT=MALLOC_ARENA_MAX=1 inside rounds 1200 ;;
    usb)
        frames
        pictures=()
        for file in "$WORK"/frames/*.jpg; do pictures+=(-f "$file:frames/$(basename "$file")"); done
        inside usb 600 -f target/release/pinhole "${pictures[@]}"
        ;;
    encoder) inside encoder 600 ;;
    on-demand) inside on-demand 600 -f target/release/pinhole ;;
    overload) inside overload 1500 -f target/release/pinhole ;;
    # The encoder alone, without a camera before it.
    m2m)
        those m2m 600 "PINHOLE_M2M_NODE=/dev/video0 ./m2m --test-threads=1 $PART" \
            -m vh264 -f "$(program m2m):m2m"
        ;;
    outside) outside ;;
    # Debian's kernel has what the host's may lack: VLANs. What has none in it runs on the host.
    netns)
        those netns 600 \
            "PINHOLE_NETNS_VLAN=real PINHOLE_NETNS_TEST=/job/netns PINHOLE_NETNS_PROGRAM=/job/pinhole
            export PINHOLE_NETNS_VLAN PINHOLE_NETNS_TEST PINHOLE_NETNS_PROGRAM; bash run.sh ${PART:-vlan every_address each_interface}" \
            -m veth -m 8021q -m sch_tbf -f target/release/pinhole -f tests/netns/run.sh \
            -f "$(program netns):netns"
        ;;
    *) echo "vm: no group $group"; exit 2 ;;
    esac
done
echo "$PASSED passed, $FAILED failed (vm stage: $((SECONDS - START)) s)"
[ "$FAILED" = 0 ]
