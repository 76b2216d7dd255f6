//! The addresses of this machine that viewers are told.
//!
//! In: `[ice]`, where HTTP listens, the kernel's list of interfaces. Out: addresses, best first.
//! Not here: the media port itself (`net::udp`), candidates and their priorities (session).
//!
//! The list is read anew for every session: addresses come and go with cables, leases and VPNs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use tracing::{debug, warn};

use crate::config;

/// One address of one interface, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `eth0`, `eth0.20`, `wlan0`
    pub interface: String,
    pub address: IpAddr,
    /// Switched on and with a carrier.
    pub is_up: bool,
    pub is_loopback: bool,
    /// A tunnel: most VPNs, PPP.
    pub is_point_to_point: bool,
    /// IPv6: deprecated, or not (or never to be) valid: no new connection should use it.
    pub is_passing: bool,
    /// IPv6: made up for privacy (RFC 8981), replaced every day.
    pub is_temporary: bool,
}

/// Addresses told to a viewer at most: each costs its browser a connectivity check per address of
/// its own. Those that come last in order are left out.
pub const MAX_ADDRESSES: usize = 16;

/// Interfaces of containers and virtual machines, which nobody outside of this machine reaches.
/// Docker's own networks (`br-` and twelve hex digits) are added in [`is_container`].
const CONTAINERS: [&str; 16] = [
    "docker*", "veth*", "virbr*", "vnet*", "cni*", "flannel*", "cali*", "cilium*", "lxc*", "lxd*",
    "incus*", "podman*", "nerdctl*", "kube*", "vmnet*", "vboxnet*",
];

/// The usable addresses of this machine, best first, [`MAX_ADDRESSES`] at most.
///
/// `listen` is where HTTP is served: on loopback, viewers may be on this machine, so its loopback
/// addresses are told as well. `ice.advertise` replaces everything.
pub fn addresses(ice: &config::Ice, listen: IpAddr) -> Vec<IpAddr> {
    let entries = match getifaddrs() {
        Ok(list) => {
            let flags = v6_flags(&fs::read_to_string("/proc/net/if_inet6").unwrap_or_default());
            list.filter_map(|raw| entry(&raw, &flags)).collect()
        }
        Err(errno) => {
            warn!(%errno, "the kernel does not tell its addresses");
            Vec::new()
        }
    };
    let chosen = select(ice, listen.is_loopback(), &entries);
    debug!(known = entries.len(), ?chosen, "addresses for a viewer");
    chosen
}

/// The interfaces of this machine, whether they have an address or not.
pub fn names() -> Vec<String> {
    let mut names = Vec::new();
    for raw in getifaddrs().into_iter().flatten() {
        if !names.contains(&raw.interface_name) {
            names.push(raw.interface_name);
        }
    }
    names
}

/// Chooses among `entries` and puts the best first: ordinary interfaces, tunnels, IPv4 link-local
/// addresses, loopback, each in the kernel's order with IPv4 and IPv6 taking turns.
///
/// IPv6 link-local addresses are never told (they mean nothing without the viewer's own interface).
/// Containers' interfaces are told when `ice.interfaces` names them or there is nothing else;
/// loopback too, and where `with_loopback` says so.
pub fn select(ice: &config::Ice, with_loopback: bool, entries: &[Entry]) -> Vec<IpAddr> {
    if !ice.advertise.is_empty() {
        return bounded(ice.advertise.iter().copied());
    }
    let stable: HashSet<_> = entries
        .iter()
        .filter(|entry| !entry.is_temporary && !entry.is_passing)
        .filter_map(network)
        .collect();
    let is_usable = |entry: &&Entry| {
        let has_stable_twin = network(entry).is_some_and(|network| stable.contains(&network));
        let is_replaced = entry.is_temporary && has_stable_twin;
        is_sound(entry) && !is_replaced && !matches_any(&ice.exclude, &entry.interface)
    };
    let usable: Vec<_> = entries.iter().filter(is_usable).collect();
    let mut chosen: Vec<_> = if ice.interfaces.is_empty() {
        let open = |rank| rank < Rank::Container || (with_loopback && rank == Rank::Loopback);
        let own = usable.iter().filter(|entry| open(rank(entry)));
        own.copied().collect()
    } else {
        let named = usable
            .iter()
            .filter(|entry| matches_any(&ice.interfaces, &entry.interface));
        named.copied().collect()
    };
    let has_reach = chosen.iter().any(|entry| rank(entry) < Rank::Container);
    if ice.interfaces.is_empty() && !has_reach {
        chosen = usable;
    }
    bounded(in_order(&chosen))
}

/// What an address is worth, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Rank {
    Ordinary,
    Tunnel,
    /// 169.254.0.0/16: reaches a viewer on the same cable only.
    LinkLocal,
    Container,
    Loopback,
}

fn rank(entry: &Entry) -> Rank {
    let is_link_local = matches!(entry.address, IpAddr::V4(v4) if v4.is_link_local());
    if entry.is_loopback {
        Rank::Loopback
    } else if is_container(&entry.interface) {
        Rank::Container
    } else if is_link_local {
        Rank::LinkLocal
    } else if entry.is_point_to_point {
        Rank::Tunnel
    } else {
        Rank::Ordinary
    }
}

fn is_container(interface: &str) -> bool {
    // Only Docker's own: on OpenWrt, `br-lan` is the interface.
    let docker_network = interface
        .strip_prefix("br-")
        .is_some_and(|id| id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    docker_network || matches_any(&CONTAINERS, interface)
}

/// Whether the address can be used from outside at all.
fn is_sound(entry: &Entry) -> bool {
    let is_sound = match entry.address {
        IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => {
            !v6.is_unspecified()
                && !v6.is_multicast()
                && !v6.is_unicast_link_local()
                && v6.to_ipv4_mapped().is_none()
        }
    };
    is_sound && entry.is_up && !entry.is_passing
}

/// The IPv6 network of an entry: interface and first 64 bits.
fn network(entry: &Entry) -> Option<(&str, u64)> {
    let IpAddr::V6(v6) = entry.address else {
        return None;
    };
    Some((&entry.interface, (v6.to_bits() >> 64) as u64))
}

/// By rank; inside of one, the families take turns, so that a cut leaves some of both.
fn in_order(chosen: &[&Entry]) -> impl Iterator<Item = IpAddr> {
    let mut seen = HashMap::new();
    let mut keyed: Vec<_> = chosen
        .iter()
        .map(|entry| {
            let rank = rank(entry);
            let turn = seen.entry((rank, entry.address.is_ipv6())).or_insert(0);
            *turn += 1;
            ((rank, *turn, entry.address.is_ipv6()), entry.address)
        })
        .collect();
    keyed.sort_by_key(|&(key, _)| key);
    keyed.into_iter().map(|(_, address)| address)
}

/// Each address once, [`MAX_ADDRESSES`] at most.
fn bounded(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut seen = HashSet::new();
    addresses
        .filter(|address| seen.insert(*address))
        .take(MAX_ADDRESSES)
        .collect()
}

fn matches_any(patterns: &[impl AsRef<str>], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| matches(pattern.as_ref().as_bytes(), name.as_bytes()))
}

/// Shell patterns with `*` and `?`. Time grows with the product of the lengths, no worse: only
/// the last `*` is ever tried again.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, n));
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            Some(_) | None => {
                let Some((after_star, taken)) = retry else {
                    return false;
                };
                retry = Some((after_star, taken + 1));
                (p, n) = (after_star, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

fn entry(raw: &InterfaceAddress, v6_flags: &HashMap<Ipv6Addr, u32>) -> Option<Entry> {
    let storage = raw.address.as_ref()?;
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    let address = v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))?;
    let v6_flags = match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(v6) => v6_flags.get(&v6).copied().unwrap_or(0),
    };
    let has = |flag| raw.flags.contains(flag);
    Some(Entry {
        interface: raw.interface_name.clone(),
        address,
        is_up: has(InterfaceFlags::IFF_UP) && has(InterfaceFlags::IFF_RUNNING),
        is_loopback: has(InterfaceFlags::IFF_LOOPBACK),
        is_point_to_point: has(InterfaceFlags::IFF_POINTOPOINT),
        is_passing: v6_flags & (IFA_DEPRECATED | IFA_TENTATIVE | IFA_DADFAILED) != 0,
        is_temporary: v6_flags & IFA_TEMPORARY != 0,
    })
}

/// Reads the flags of IPv6 addresses out of `/proc/net/if_inet6`: address, interface number,
/// prefix length, scope, flags, all in hexadecimal, and the name. getifaddrs has no room for them.
fn v6_flags(text: &str) -> HashMap<Ipv6Addr, u32> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
        Some((Ipv6Addr::from_bits(address), flags))
    };
    text.lines().filter_map(line).collect()
}

// linux/if_addr.h
const IFA_TEMPORARY: u32 = 0x01;
const IFA_DADFAILED: u32 = 0x08;
const IFA_DEPRECATED: u32 = 0x20;
const IFA_TENTATIVE: u32 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    /// `eth0 192.168.1.5 down passing temporary ptp`, one per line
    fn entries(text: &str) -> Vec<Entry> {
        let entry = |line: &str| {
            let words: Vec<_> = line.split_whitespace().collect();
            let has = |word| words.contains(&word);
            Entry {
                interface: words[0].to_owned(),
                address: words[1].parse().unwrap(),
                is_up: !has("down"),
                is_loopback: words[0] == "lo",
                is_point_to_point: has("ptp"),
                is_passing: has("passing"),
                is_temporary: has("temporary"),
            }
        };
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(entry)
            .collect()
    }

    fn ice(interfaces: &str, exclude: &str, advertise: &str) -> config::Ice {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        config::Ice {
            interfaces: words(interfaces),
            exclude: words(exclude),
            advertise: advertise
                .split_whitespace()
                .map(|ip| ip.parse().unwrap())
                .collect(),
            ..config::Ice::default()
        }
    }

    fn chosen(ice: &config::Ice, with_loopback: bool, text: &str) -> String {
        let chosen = select(ice, with_loopback, &entries(text));
        chosen
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    const BOARD: &str = "
        lo 127.0.0.1
        eth0 192.168.1.5
        eth0.20 10.20.0.5
        wlan0 192.168.2.5
        docker0 172.17.0.1
        br-0123456789ab 172.18.0.1
        wg0 10.9.0.1 ptp
        lo ::1
        eth0 2001:db8::5
        eth0 fe80::5
        docker0 fd17::1";

    #[test]
    fn a_board_tells_its_lan_its_vlan_and_its_vpn() {
        assert_eq!(
            chosen(&ice("", "", ""), false, BOARD),
            "192.168.1.5 2001:db8::5 10.20.0.5 192.168.2.5 10.9.0.1"
        );
    }

    #[test]
    fn loopback_comes_last_when_http_is_on_loopback() {
        assert_eq!(
            chosen(&ice("", "", ""), true, BOARD),
            "192.168.1.5 2001:db8::5 10.20.0.5 192.168.2.5 10.9.0.1 127.0.0.1 ::1"
        );
    }

    #[test]
    fn with_nothing_else_containers_and_loopback_will_do() {
        let only = "lo 127.0.0.1\ndocker0 172.17.0.1\neth0 192.168.1.5 down\neth0 fe80::5";
        assert_eq!(
            chosen(&ice("", "", ""), false, only),
            "172.17.0.1 127.0.0.1"
        );
        assert_eq!(chosen(&ice("", "", ""), true, only), "172.17.0.1 127.0.0.1");
        assert_eq!(
            chosen(&ice("", "", ""), false, "lo 127.0.0.1\nlo ::1"),
            "127.0.0.1 ::1"
        );
        assert_eq!(chosen(&ice("", "", ""), false, ""), "");
    }

    #[test]
    fn named_interfaces_are_the_only_ones_even_containers() {
        assert_eq!(chosen(&ice("eth0.*", "", ""), true, BOARD), "10.20.0.5");
        assert_eq!(
            chosen(&ice("docker? lo", "", ""), false, BOARD),
            "172.17.0.1 fd17::1 127.0.0.1 ::1"
        );
        assert_eq!(chosen(&ice("eth9", "", ""), true, BOARD), "");
    }

    #[test]
    fn excluded_interfaces_are_never_told() {
        assert_eq!(
            chosen(&ice("", "wlan* wg0 eth0.20", ""), false, BOARD),
            "192.168.1.5 2001:db8::5"
        );
        assert_eq!(chosen(&ice("eth*", "eth0", ""), false, BOARD), "10.20.0.5");
        assert_eq!(chosen(&ice("", "*", ""), true, BOARD), "");
    }

    #[test]
    fn advertised_addresses_replace_all_others() {
        let ice = ice("eth0", "", "203.0.113.7 2001:db8::7 203.0.113.7");
        assert_eq!(chosen(&ice, true, BOARD), "203.0.113.7 2001:db8::7");
    }

    #[test]
    fn an_openwrt_bridge_is_no_container() {
        assert_eq!(
            chosen(&ice("", "", ""), false, "br-lan 192.168.1.1\nbr0 10.0.0.1"),
            "192.168.1.1 10.0.0.1"
        );
    }

    #[test]
    fn passing_ipv6_addresses_are_left_out_and_temporary_ones_where_a_stable_one_is() {
        let slaac = "
            eth0 2001:db8::5
            eth0 2001:db8::abcd temporary
            eth0 2001:db8:1::5 passing
            eth0 fd00::abcd temporary
            wlan0 2001:db8::9 temporary";
        assert_eq!(
            chosen(&ice("", "", ""), false, slaac),
            "2001:db8::5 fd00::abcd 2001:db8::9"
        );
    }

    #[test]
    fn link_local_ipv4_is_better_than_nothing_and_worse_than_the_rest() {
        let cable = "eth0 169.254.7.7\nlo 127.0.0.1";
        assert_eq!(chosen(&ice("", "", ""), false, cable), "169.254.7.7");
        let both = "eth0 169.254.7.7\neth1 10.0.0.1\ntun0 10.1.0.1 ptp";
        assert_eq!(
            chosen(&ice("", "", ""), false, both),
            "10.0.0.1 10.1.0.1 169.254.7.7"
        );
    }

    #[test]
    fn hundreds_of_addresses_are_cut_with_both_families_left() {
        let many: String = (0..200)
            .map(|n| format!("eth0 10.0.0.{n}\neth0 fd00::{n:x}\n"))
            .collect();
        let chosen = select(&ice("", "", ""), false, &entries(&many));
        assert_eq!(chosen.len(), MAX_ADDRESSES);
        assert_eq!(
            chosen.iter().filter(|ip| ip.is_ipv6()).count(),
            MAX_ADDRESSES / 2
        );
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("eth*", "veth0", false),
            ("*.20", "eth0.20", true),
            ("e*h*0", "eth1eth0", true),
            ("e*h?", "eth", false),
            ("?", "", false),
            ("", "", true),
            ("**", "x", true),
            ("*a*a*a*a*a*b", &"a".repeat(60), false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn the_flags_of_ipv6_addresses_are_read_from_proc() {
        let text = "fd000000000000000000000000000002 04 40 00 82     eth0\n\
                    20010db8000000000000000000000005 04 40 00 21     eth0\nnonsense\n";
        let flags = v6_flags(text);
        assert_eq!(flags.len(), 2);
        assert_eq!(
            flags[&"2001:db8::5".parse().unwrap()],
            IFA_DEPRECATED | IFA_TEMPORARY
        );
        assert_eq!(flags[&"fd00::2".parse().unwrap()], 0x82);
    }

    #[test]
    fn this_machine_has_an_address_when_loopback_counts() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let own = addresses(&config::Ice::default(), loopback);
        assert!(!own.is_empty() && own.len() <= MAX_ADDRESSES, "{own:?}");
        assert!(own.contains(&loopback), "{own:?}");
        let names = names();
        assert!(names.contains(&"lo".to_owned()), "{names:?}");
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len(), "{names:?}");
    }
}
