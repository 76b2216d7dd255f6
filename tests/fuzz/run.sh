#!/bin/bash
# Fuzzes one target with the stable compiler.
#
#   tests/fuzz/run.sh                    lists the targets
#   tests/fuzz/run.sh all SECONDS        each for so long (default 10) at most; with CI=true nearly
#                                        the same search every time
#   tests/fuzz/run.sh TARGET SECONDS [libFuzzer options]
#   tests/fuzz/run.sh keep TARGET        adds what was newly reached to the committed corpus, minimized
#
# The corpus is committed in corpus/TARGET; what a run finds stays in target/corpus/TARGET and a
# crashing input in artifacts/TARGET. Exit code 0 only if nothing crashed, hung or leaked.
#
# A search by chance finds something in the end, and then not in the change that is being judged.
# Under CI it is therefore as little chance as can be: what is committed is replayed, whole, and the
# search after it begins at a fixed seed, with the committed corpus alone, and ends after a fixed
# number of inputs, wherever a fast machine would have got to. Chance is for machines of people.
set -euo pipefail
cd "$(dirname "$0")"

targets() { sed -n 's/^name = "\([a-z0-9_]*\)"$/\1/p' Cargo.toml; }
if [ $# = 0 ]; then
    targets
    exit 0
fi

HOST=$(rustc -vV | sed -n 's/^host: //p')
# What `cargo fuzz` passes, less the sanitizer, which stable does not have: edge counters and
# compared values for libFuzzer. --target keeps the flags out of build scripts and macros.
flags=(-Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cllvm-args=-sanitizer-coverage-stack-depth
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0
    -Ccodegen-units=1)

build() {
    RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=target \
        cargo build --quiet --release --target "$HOST" --bin "$1"
}

# How many are tried under CI: what a usual machine does in 10 to 15 s.
inputs() {
    case $1 in
    config) echo 80000 ;;
    gateway) echo 4000 ;;
    h264) echo 700000 ;;
    jpeg) echo 400000 ;;
    offer) echo 10000 ;;
    *) echo 2000000 ;;
    esac
}

# A unit over 25 s is a hang (5 s are not: a busy host may stand still), 1 GiB a leak: no input of
# ours is worth either.
fuzz() { # TARGET SECONDS [options]
    local target=$1 seconds=$2 found=target/corpus/$1
    shift 2
    build "$target" || { echo "fuzz $target: FAILED, it does not build"; return 1; }
    if [ "${CI-}" = true ]; then
        found=target/corpus-ci/$target
        rm -rf "$found"
        set -- -seed=1 "-runs=$(inputs "$target")" "$@"
    fi
    mkdir -p "$found" "artifacts/$target" "corpus/$target"
    local seeds=("corpus/$target") dictionary=none length=4096
    case $target in
    config) seeds+=(../../config) dictionary=toml ;;
    fragment) dictionary=sdp ;;
    offer) seeds+=(../data/offers) dictionary=sdp length=16384 ;;
    whep) dictionary=http ;;
    esac
    local options=("-max_len=$length")
    [ $dictionary = none ] || options+=("-dict=dictionaries/$dictionary.dict")
    options+=(-timeout=25 -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="artifacts/$target/")
    : >"target/$target.log"
    local begun=$SECONDS
    # First what is known, without any change to it.
    if ! "target/$HOST/release/$target" "${seeds[@]}" "${options[@]}" -runs=0 2>>"target/$target.log" ||
        ! "target/$HOST/release/$target" "$found" "${seeds[@]}" "${options[@]}" \
            -max_total_time="$seconds" "$@" 2>>"target/$target.log"; then
        tail -40 "target/$target.log"
        echo "fuzz $target: FAILED, see tests/fuzz/artifacts/$target and tests/fuzz/target/$target.log"
        return 1
    fi
    local runs cover took=$((SECONDS - begun))
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "target/$target.log" | tail -1)
    cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "target/$target.log" | tail -1)
    echo "fuzz $target: $took s, $runs inputs, $cover edges, nothing found"
}

case $1 in
all)
    # Each is asked, whatever the one before it said.
    failed=0
    for target in $(targets); do fuzz "$target" "${2:-10}" || failed=1; done
    exit $failed
    ;;
keep)
    build "$2"
    mkdir -p "corpus/$2"
    "target/$HOST/release/$2" -merge=1 "corpus/$2" "target/corpus/$2"
    ;;
*)
    fuzz "$@"
    ;;
esac
