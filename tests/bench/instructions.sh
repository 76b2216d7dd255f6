#!/bin/sh
# Instructions per RTP packet in the core (callgrind): a figure that noise does not move.
# tests/bench/instructions.sh [VIEWERS [SECONDS]]; the profile is left in target/tmp/fanout.callgrind.
# Of 8 viewers and 4 seconds it fails where there are 5 % more than EXPECTED: one who means that,
# or has made them fewer, commits the new figure.
set -eu
EXPECTED=11290
cd "$(dirname "$0")/../.."
viewers=${1:-8} seconds=${2:-4}
out=${CARGO_TARGET_DIR:-target}/tmp/fanout.callgrind
bench=$(cargo rustc --release --bench fanout --message-format=json -- -C strip=none |
    sed -n 's/.*"executable":"\([^"]*fanout[^"]*\)".*/\1/p')
log=$(valgrind --tool=callgrind --collect-atstart=no '--toggle-collect=*timed_turn*' \
    --callgrind-out-file="$out" "$bench" --workload "$viewers" "$seconds" 2>&1) || {
    echo "$log" >&2
    exit 1
}
gate=0
[ "$viewers $seconds" != "8 4" ] || gate=$EXPECTED
echo "$log" | awk -v viewers="$viewers" -v expected="$gate" '
    /^packets/ { packets = $2 }
    /Collected/ { instructions = $4 }
    END {
        if (!packets || !instructions) { print "nothing was counted"; exit 1 }
        each = instructions / packets
        printf "%d instructions per packet (%d viewers, %d packets)", each, viewers, packets
        if (expected) printf ", %+.1f %% of the %d committed", 100 * (each / expected - 1), expected
        print ""
        if (expected && each > 1.05 * expected) { print "FAIL more than 5 % above"; exit 1 }
    }'
