#!/bin/bash
# Proves in network namespaces that Pinhole tells viewers the right addresses and answers from
# them: two interfaces, a VLAN, both families, several addresses on one interface, a container
# bridge, a cable without carrier, a slow link.
#
#   tests/netns/run.sh          needs root (or CAP_SYS_ADMIN and CAP_NET_ADMIN), ip and tc
#
#   PINHOLE_NETNS_TEST=FILE     the test's program, built already
#   PINHOLE_NETNS_VLAN=real     a kernel without 8021q fails; else a cable stands in for the VLAN
#
# Exit code 77: this machine cannot run it, with the reason on the last line.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() { echo "SKIP netns: $1"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
command -v ip >/dev/null && command -v tc >/dev/null || skip "needs ip and tc (apt-get install iproute2)"

GATEWAY=pinhole-gateway-$$ PEER=pinhole-peer-$$
cleanup() { ip netns del "$GATEWAY" 2>/dev/null || true; ip netns del "$PEER" 2>/dev/null || true; }
trap cleanup EXIT
ip netns add "$GATEWAY" 2>/dev/null && ip netns add "$PEER" || skip "cannot make network namespaces"
ip netns exec "$GATEWAY" true || skip "cannot enter network namespaces (where / is no mount point, as in a plain chroot)"
gw() { ip -n "$GATEWAY" "$@"; }
peer() { ip -n "$PEER" "$@"; }

# cable NAME: a veth pair, NAME at both ends, up at both
cable() {
    ip link add "$1" netns "$GATEWAY" type veth peer name "$1" netns "$PEER"
    gw link set "$1" up
    peer link set "$1" up
}
# both NAME PREFIX4 PREFIX6: addresses .1 and ::1 at the gateway, .2 and ::2 at the peer
both() {
    gw addr add "$2.1/24" dev "$1"; gw addr add "$3::1/64" dev "$1" nodad
    peer addr add "$2.2/24" dev "$1"; peer addr add "$3::2/64" dev "$1" nodad
}

gw link set lo up
peer link set lo up
cable eth0; both eth0 10.77.1 fd77:1
cable eth1; both eth1 10.77.2 fd77:2
gw addr add 10.77.1.100/24 dev eth0 # a second address, which the kernel would not answer from
if gw link add link eth0 name eth0.20 type vlan id 20 2>/dev/null; then
    peer link add link eth0 name eth0.20 type vlan id 20
    gw link set eth0.20 up; peer link set eth0.20 up
    echo "netns: eth0.20 is a VLAN"
elif [ "${PINHOLE_NETNS_VLAN-}" = real ]; then
    echo "netns: FAIL eth0.20 can be no VLAN here"; exit 1
else
    cable eth0.20
    echo "netns: NOTE no 8021q in this kernel: eth0.20 is an untagged cable with a VLAN's name"
fi
both eth0.20 10.77.20 fd77:20
cable docker0; both docker0 172.17.0 fd17:0
cable eth8; both eth8 10.77.8 fd77:8
gw link set eth8 down # a spare, plugged in by a test
cable eth9; both eth9 10.77.9 fd77:9
peer link set eth9 down # no carrier
# The kernel tells of carriers with a delay, on a slow machine a second: until then eth9 counts as
# up, and IPv6 has no route over the others.
soon() {
    for _ in {1..200}; do ! "$@" >/dev/null 2>&1 || return 0; sleep 0.05; done
    echo "netns: FAIL not so within 10 s: $*"; exit 1
}
has_no_carrier() { ! gw -o link show "$1" | grep -q ' state UP '; }
soon has_no_carrier eth9
for net in fd77:1: fd77:2: fd77:20: fd17:0:; do
    soon gw route get "$net:2"
    soon peer route get "$net:1"
done
gw addr add 2001:db8:1::dead/64 dev eth1 nodad preferred_lft 0 # deprecated

# Given where this runs alone, in the machine of tests/vm.
BINARY=${PINHOLE_NETNS_TEST:-$(. tests/parts.sh && program netns)}

export PINHOLE_NETNS_PEER=$PEER
# An emulated machine does not code and play for eight viewers in time.
FEW=(); [ -z "${PINHOLE_NETNS_PROGRAM-}" ] || FEW=(--skip key_frames_for_several_viewers)
ip netns exec "$GATEWAY" "$BINARY" --ignored --test-threads=1 --skip as_a_ --skip as_one_ "${FEW[@]}" "$@"
