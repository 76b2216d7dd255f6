#!/bin/bash
# Builds the hardware encoder of the virtual machine: the kernel's vicodec with an H.264 face
# (vicodec.patch, h264_face.h), and v4l2-mem2mem, which Debian's amd64 kernel lacks.
#
#   tests/vm/encoder/build.sh DEB_DIRECTORY KERNEL_VERSION COMPILER OUT PACKAGE...
#
# Out of Debian's packages linux-source, linux-headers and what these lean on (PACKAGEs), none of
# which is installed. Called by tests/vm/kit.sh.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd) DEB=$1 VERSION=$2 COMPILER=$3 OUT=$4
shift 4
BASE=${VERSION%-amd64} SERIES=$(cut -d. -f1-2 <<<"$VERSION")

say() { echo "vm encoder: $*" >&2; }
for tool in "$COMPILER" make; do
    command -v "$tool" >/dev/null || { say "needs $tool"; exit 1; }
done

rm -rf "$OUT"
mkdir -p "$OUT"/headers "$OUT"/source
for package in "linux-headers-$VERSION" "$@"; do
    dpkg-deb -x "$DEB/${package}"_*.deb "$OUT/headers"
done
HEADERS=$OUT/headers/usr/src
# The packaged Makefile names the place where the package would be installed.
echo "include $HEADERS/linux-headers-$BASE-common/Makefile" >"$HEADERS/linux-headers-$VERSION/Makefile"

TREE=linux-source-$SERIES
dpkg-deb --fsys-tarfile "$DEB/linux-source-${SERIES}"_*.deb | tar -xO "./usr/src/$TREE.tar.xz" |
    tar -xJ -C "$OUT/source" --strip-components=4 --wildcards \
        "$TREE/drivers/media/test-drivers/vicodec/*.[ch]" \
        "$TREE/drivers/media/v4l2-core/v4l2-mem2mem.c"
cd "$OUT/source"
mv vicodec/* .
patch --quiet -p1 <"$HERE/vicodec.patch"
# Not by the patch: the numbers behind it change from kernel to kernel.
sed -i '/ pixfmt_fwht = {/,/}/s/V4L2_PIX_FMT_FWHT/V4L2_PIX_FMT_H264/' vicodec-core.c
cp "$HERE/h264_face.h" .
# The option is off in this kernel, and its headers then declare empty stubs: so it is switched on.
cat >Kbuild <<'KBUILD'
obj-m := v4l2-mem2mem.o vh264.o
vh264-objs := vicodec-core.o codec-fwht.o codec-v4l2-fwht.o
ccflags-y := -DCONFIG_V4L2_MEM2MEM_DEV_MODULE=1
KBUILD
# Without type information, which would take one more tool.
make --silent -C "$HEADERS/linux-headers-$VERSION" M="$PWD" CONFIG_DEBUG_INFO_BTF_MODULES= modules >"$OUT/make.log" 2>&1 ||
    { tail -30 "$OUT/make.log" >&2; exit 1; }
strip --strip-debug ./*.ko
mv ./*.ko "$OUT/"
rm -rf "$OUT/headers" "$OUT/source"
