#!/bin/bash
# Proves Pinhole on a 32-bit ARM system, where the structures of the kernel and of C differ from
# those of the machines that it is developed on: its tests of rooms, configuration, clips, HTTP and
# UDP, and the whole program with a viewer, emulated by qemu. Not drivers, and no figures.
#
#   tests/arm/run.sh            needs what cross/README.md names for ARMv7, and qemu-user
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/parts.sh

# qemu answers an ioctl with ENOSYS where a kernel says ENOTTY; its speed is no board's.
ELSEWHERE=(--skip what_has_no_input_says_nothing_of_it --skip what_is_no_video_node_says_so
    --skip what_cannot_stream_is_an_error_and_no_panic --skip what_is_no_usb_camera_says_so
    --skip both_jobs_are_done_and_measured_once)
cross/debian.sh armv7 test --no-fail-fast --bin pinhole --lib --test config --test file --test http \
    --test udp -- "${ELSEWHERE[@]}"

# The test picture through encoder, core, DTLS and sockets to a viewer of this machine's own kind.
WORK=$(mktemp -d)
PINHOLE=
cleanup() { [ -z "$PINHOLE" ] || kill "$PINHOLE" 2>/dev/null || true; rm -rf "$WORK"; }
trap cleanup EXIT
HTTP=$(port STREAM)
cat >"$WORK/pinhole.toml" <<TOML
[server]
listen = "127.0.0.1:$HTTP"
[ice]
port = $(port DGRAM)
[[camera]]
name = "cam"
source = "pattern:"
size = "320x240"
fps = 10
TOML
cross/debian.sh armv7 build --quiet --bin pinhole
qemu-arm -L /usr/arm-linux-gnueabihf target/armv7-unknown-linux-gnueabihf/debug/pinhole \
    run --config "$WORK/pinhole.toml" 2>"$WORK/log" &
PINHOLE=$!
VIEWER=$(program vm)
status=0
"$VIEWER" view "http://127.0.0.1:$HTTP/whep/cam" 10 3 || status=$?
kill "$PINHOLE"
wait "$PINHOLE" || { status=$?; echo "FAIL  it ends with status $status"; }
PINHOLE=
sed 's/^/    | /' "$WORK/log"
exit "$status"
