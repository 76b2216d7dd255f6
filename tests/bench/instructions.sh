#!/bin/sh
# Instructions per RTP packet in the core (callgrind): a figure that noise does not move.
# tests/bench/instructions.sh [VIEWERS [SECONDS]]; the profile is left in target/tmp/fanout.callgrind.
set -eu
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
echo "$log" | awk -v viewers="$viewers" '
    /^packets/ { packets = $2 }
    /Collected/ { instructions = $4 }
    END {
        if (!packets || !instructions) { print "nothing was counted"; exit 1 }
        printf "%d instructions per packet (%d viewers, %d packets)\n", instructions / packets, viewers, packets
    }'
