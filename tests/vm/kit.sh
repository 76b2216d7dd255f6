#!/bin/bash
# Makes what the virtual machine of the tests is made of, out of Debian's packages alone:
#
#   tests/vm/kit.sh              makes what is missing, prints the kit's directory
#
#   target/vm/<kernel>/kernel       the image that QEMU boots
#   target/vm/<kernel>/base.cpio.gz init, busybox and a few tools, the modules and our M2M encoder
#   target/vm/deb/                  packages as they were fetched
#
# Nothing of it is installed. Each part is made once per kernel version and again when the script
# that makes it has changed. Needs the packages that `PACKAGES` names on this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
HERE=$PWD/tests/vm OUT=$PWD/target/vm

# The test's device drivers: what is plugged in, what is emulated, what spoils the network.
MODULES=(virtio_pci virtio_console virtio_net vivid videobuf2-vmalloc uvcvideo vhci-hcd sch_netem)
# The networks of tests/netns.
MODULES+=(veth 8021q sch_tbf)
# What the modules of encoder/ lean on.
MODULES+=(videobuf2-v4l2 videobuf2-dma-contig)
TOOLS=(/usr/bin/v4l2-ctl /bin/bash /sbin/ip /sbin/tc)

say() { echo "vm kit: $*" >&2; }

# The meta package moves on every few days and its old kernel leaves the archive, so it is asked.
kernel_version() {
    apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-\([0-9][^ ]*\)$/\1/p' | head -1
}

# fetch PACKAGE...: into deb/, unless this version is there
fetch() {
    local package missing=()
    for package in "$@"; do
        compgen -G "$OUT/deb/${package}_*.deb" >/dev/null || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "fetching ${missing[*]}"
    # As root apt warns on stderr that it cannot drop its rights in this directory: harmless.
    (cd "$OUT/deb" && apt-get -qq download "${missing[@]}" 2>"$OUT/apt.log") ||
        { cat "$OUT/apt.log" >&2; say "apt-get download failed (apt-get update?)"; exit 1; }
}

# The kernel of the bzImage, unpacked here: QEMU starts a vmlinux through its PVH note, and the
# emulated processor is spared some four seconds of decompression at every boot.
unpack_kernel() { # BZIMAGE VMLINUX
    local sectors offset length
    sectors=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
    read -r offset length < <(od -An -tu4 -j $((0x248)) -N8 "$1")
    tail -c +$(((sectors + 1) * 512 + offset + 1)) "$1" | head -c "$length" | xz -dc --single-stream >"$2"
}

# Where a program and the libraries that it needs lie on this machine.
closure() {
    local file
    for file in "$@"; do
        readlink -e "$file" >/dev/null || { say "no $file"; exit 1; }
        echo "$file"
        ldd "$file" 2>/dev/null | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p'
    done | sort -u
}

# The files of a module and of all that it depends on.
module_files() { # ROOT VERSION MODULE
    modprobe --dirname "$1" --set-version "$2" --show-depends "$3" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
}

kernel_part() {
    local root=$KIT/root
    fetch "linux-image-$VERSION"
    rm -rf "$root"
    dpkg-deb -x "$OUT/deb/linux-image-${VERSION}"_*.deb "$root"
    depmod --basedir "$root" "$VERSION"
    unpack_kernel "$root/boot/vmlinuz-$VERSION" "$KIT/kernel"
}

base_part() {
    local tree=$KIT/tree file module
    rm -rf "$tree"
    mkdir -p "$tree"/{bin,sbin,usr/bin,lib/modules/"$VERSION"/extra}
    install -m 755 "$HERE/init.sh" "$tree/init"
    install -m 755 /bin/busybox "$tree/bin/busybox"
    for file in $(closure "${TOOLS[@]}"); do
        install -D -m 755 "$(readlink -e "$file")" "$tree$file"
    done
    for module in "${MODULES[@]}"; do
        module_files "$KIT/root" "$VERSION" "$module"
    done | sort -u >"$KIT/modules.list"
    while read -r file; do
        install -D -m 644 "$file" "$tree${file#"$KIT/root"}"
    done <"$KIT/modules.list"
    find "$KIT/encoder" -maxdepth 1 -name "*.ko" -exec cp {} "$tree/lib/modules/$VERSION/extra/" \;
    cp "$KIT/root/lib/modules/$VERSION"/modules.{order,builtin,builtin.modinfo} "$tree/lib/modules/$VERSION/"
    depmod --basedir "$tree" "$VERSION"
    (cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$KIT/base.cpio.gz"
    rm -rf "$tree"
}

encoder_part() {
    local base=${VERSION%-amd64} series
    series=$(cut -d. -f1-2 <<<"$VERSION")
    fetch "linux-source-$series" "linux-headers-$VERSION" "linux-headers-$base-common" "linux-kbuild-$series"
    "$HERE/encoder/build.sh" "$OUT/deb" "$VERSION" "$KIT/encoder"
}

# part NAME FILES...: runs NAME_part unless it was done with these very files
part() {
    local name=$1 stamp start=$SECONDS
    shift
    stamp=$(cat "$@" | sha256sum)
    [ "$(cat "$KIT/$name.stamp" 2>/dev/null)" = "$stamp" ] && return 1
    "${name}_part"
    echo "$stamp" >"$KIT/$name.stamp"
    say "$name made in $((SECONDS - start)) s"
}

VERSION=$(kernel_version)
[ -n "$VERSION" ] || { say "apt knows no linux-image-amd64 (apt-get update?)"; exit 1; }
KIT=$OUT/$VERSION
mkdir -p "$KIT" "$OUT/deb"
part kernel "$HERE/kit.sh" && rm -f "$KIT/base.stamp"
part encoder "$HERE"/encoder/* && rm -f "$KIT/base.stamp"
part base "$HERE/kit.sh" "$HERE/init.sh" || true
echo "$KIT"
