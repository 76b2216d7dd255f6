#!/bin/sh
# cargo for a board, with Debian's cross compilers instead of a container:
#
#   cross/debian.sh aarch64 build --profile dist --bin pinhole
#   cross/debian.sh armv7 test --lib        runs what it builds in qemu's emulation (qemu-user)
#
# The packages that it needs are in cross/README.md.
set -eu
case ${1-} in
aarch64) target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu emulator=qemu-aarch64 ;;
armv7) target=armv7-unknown-linux-gnueabihf tools=arm-linux-gnueabihf emulator=qemu-arm ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
shift
name=$(echo "$target" | tr - _)
NAME=$(echo "$name" | tr '[:lower:]' '[:upper:]')
export "CARGO_BUILD_TARGET=$target"
export "CARGO_TARGET_${NAME}_LINKER=$tools-gcc" "CARGO_TARGET_${NAME}_RUNNER=$emulator -L /usr/$tools"
export "CC_$name=$tools-gcc" "CXX_$name=$tools-g++" "AR_$name=$tools-ar"
# libclang reads the kernel's headers for the v4l crate and must be told whose.
export "BINDGEN_EXTRA_CLANG_ARGS_$name=--target=$tools -I/usr/$tools/include"
exec cargo "$@"
