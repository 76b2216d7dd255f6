#!/bin/bash
# Makes what the virtual machine of the tests is made of, out of Debian's packages alone:
#
#   tests/vm/kit.sh              makes what is missing, prints the kit's directory
#   tests/vm/kit.sh compiler     prints the package of the compiler that it takes
#
#   target/vm/<kernel>/kernel       the image that QEMU boots
#   target/vm/<kernel>/base.cpio.gz init, busybox and a few tools, the modules and our M2M encoder
#   target/vm/deb/                  packages as they were fetched
#
# Nothing of it is installed. Each part is made once per kernel version and again when the script
# that makes it has changed. Kernel and compiler are those of the release that runs here (Debian 12
# and 13 are known to do). Needs the packages that `PACKAGES` of run.sh names.
set -euo pipefail
cd "$(dirname "$0")/../.."
HERE=$PWD/tests/vm OUT=$PWD/target/vm

# The test's device drivers: what is plugged in, what is emulated, what spoils the network.
MODULES=(virtio_pci virtio_console virtio_net vivid videobuf2-vmalloc uvcvideo vhci-hcd sch_netem)
# The networks of tests/netns.
MODULES+=(veth 8021q sch_tbf)
# What the modules of encoder/ lean on.
MODULES+=(videobuf2-v4l2 videobuf2-dma-contig)
TOOLS=(/usr/bin/v4l2-ctl /usr/bin/taskset /usr/bin/nice /bin/bash /sbin/ip /sbin/tc)

say() { echo "vm kit: $*" >&2; }

# The meta package moves on every few days and its old kernel leaves the archive, so it is asked.
kernel_version() {
    apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-\([0-9][^ ]*\)$/\1/p' | head -1
}

# What the headers of the kernel lean on: their common part, build scripts, the kernel's compiler.
headers_need() { apt-cache depends "linux-headers-$VERSION" | sed -n 's/^ *Depends: //p'; }
compiler() { headers_need | sed -n 's/.*\(gcc-[0-9][0-9]*\).*/\1/p' | head -1; }

# fetch PACKAGE...: into deb/, unless this version is there
fetch() {
    local package missing=()
    for package in "$@"; do
        compgen -G "$OUT/deb/${package}_*.deb" >/dev/null || missing+=("$package")
    done
    if [ ${#missing[@]} = 0 ]; then return; fi
    say "fetching ${missing[*]}"
    # As root apt warns on stderr that it cannot drop its rights in this directory: harmless.
    (cd "$OUT/deb" && apt-get -qq download "${missing[@]}" 2>"$OUT/apt.log") ||
        { cat "$OUT/apt.log" >&2; say "apt-get download failed (apt-get update?)"; exit 1; }
}

# The kernel of the bzImage, unpacked here: QEMU starts a vmlinux through its PVH note, and the
# emulated processor is spared some four seconds of decompression at every boot.
unpack_kernel() { # BZIMAGE VMLINUX
    local sectors offset length magic
    sectors=$(od -An -tu1 -j $((0x1f1)) -N1 "$1")
    read -r offset length < <(od -An -tu4 -j $((0x248)) -N8 "$1")
    head -c $(((sectors + 1) * 512 + offset + length)) "$1" | tail -c "$length" >"$2.packed"
    magic=$(od -An -tx4 -N4 "$2.packed")
    # Behind the packed kernel stands its length in four bytes, which is no part of it.
    case $magic in
    *fd2fb528) head -c -4 "$2.packed" | zstd -dcq >"$2" ;;
    *) xz -dc --single-stream <"$2.packed" >"$2" ;;
    esac
    rm "$2.packed"
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
    [ -e "$root/lib" ] || ln -s usr/lib "$root/lib" # as it would be where it is installed
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
        module=$tree${file#"$KIT/root"}
        install -D -m 644 "$file" "$module"
        # busybox loads them as they are alone.
        case $module in *.xz) xz -d "$module" ;; esac
    done <"$KIT/modules.list"
    find "$KIT/encoder" -maxdepth 1 -name "*.ko" -exec cp {} "$tree/lib/modules/$VERSION/extra/" \;
    cp "$KIT/root/lib/modules/$VERSION"/modules.{order,builtin,builtin.modinfo} "$tree/lib/modules/$VERSION/"
    depmod --basedir "$tree" "$VERSION"
    (cd "$tree" && find . | cpio --quiet -o -H newc -R 0:0 | gzip -1) >"$KIT/base.cpio.gz"
    rm -rf "$tree"
}

encoder_part() {
    local source packages
    source=linux-source-$(cut -d. -f1-2 <<<"$VERSION")
    mapfile -t packages < <(headers_need | grep -E '^linux-(headers-.*-common|kbuild-.*)$')
    fetch "$source" "linux-headers-$VERSION" "${packages[@]}"
    "$HERE/encoder/build.sh" "$OUT/deb" "$VERSION" "$(compiler)" "$KIT/encoder" "${packages[@]}"
}

# part NAME FILES...: runs NAME_part unless it was done with these very files, and lets the base be
# made again after any other. Not to be called in a condition: the shell would go on after errors.
part() {
    local name=$1 stamp start=$SECONDS
    shift
    stamp=$(cat "$@" | sha256sum)
    if [ "$(cat "$KIT/$name.stamp" 2>/dev/null)" = "$stamp" ]; then return; fi
    rm -f "$KIT/$name.stamp" "$KIT/base.stamp"
    "${name}_part"
    echo "$stamp" >"$KIT/$name.stamp"
    say "$name made in $((SECONDS - start)) s"
}

VERSION=$(kernel_version)
[ -n "$VERSION" ] || { say "apt knows no linux-image-amd64 (apt-get update?)"; exit 1; }
[ "${1-}" != compiler ] || { compiler; exit; }
KIT=$OUT/$VERSION
mkdir -p "$KIT" "$OUT/deb"
part kernel "$HERE/kit.sh"
part encoder "$HERE"/encoder/*
part base "$HERE/kit.sh" "$HERE/init.sh"
echo "$KIT"
