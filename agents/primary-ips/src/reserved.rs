//! Addresses that must not move because this node's own cluster membership depends on them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Corosync's default port, and with knet one more for each of its links, of which there are eight at most
/// (corosync.conf(5), mcastport; KNET_MAX_LINK).
const COROSYNC_PORT: u16 = 5405;
const COROSYNC_LINKS: u16 = 8;

/// The addresses this node's Corosync is bound to, and the words for a refusal. Empty where no Corosync runs.
pub(crate) fn corosync_addresses() -> HashMap<IpAddr, String> {
    let configuration = fs::read_to_string("/etc/corosync/corosync.conf").unwrap_or_default();
    let ports = ports(&configuration);
    let mut bound = HashMap::new();
    for table in ["/proc/self/net/udp", "/proc/self/net/udp6"] {
        let Ok(text) = fs::read_to_string(table) else { continue };
        let sockets = text.lines().skip(1).filter_map(local_address);
        let of_corosync = sockets.filter(|(address, port)| ports.contains(port) && !address.is_unspecified());
        bound.extend(of_corosync.map(|(address, port)| (address, format!("Corosync is bound to it, port {port}"))));
    }
    bound
}

fn ports(configuration: &str) -> HashSet<u16> {
    let named = configuration.lines().filter_map(|line| line.trim().strip_prefix("mcastport:")?.trim().parse().ok());
    let first = named.chain([COROSYNC_PORT]);
    first.flat_map(|port: u16| port..port.saturating_add(COROSYNC_LINKS)).collect()
}

/// The second field of a line of /proc/net/udp and udp6: `ADDRESS:PORT` in hexadecimal, the address as 32-bit words in
/// the host's byte order (`udp4_format_sock` in net/ipv4/udp.c, `__ip6_dgram_sock_seq_show` in net/ipv6/datagram.c).
fn local_address(line: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = line.split_ascii_whitespace().nth(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if !address.is_ascii() {
        return None;
    }
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match address.len() {
        8 => Some((Ipv4Addr::from(word(0)?).into(), port)),
        32 => {
            let mut octets = [0; 16];
            for (at, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some((Ipv6Addr::from(octets).into(), port))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernels_tables_are_read() {
        let line =
            " 3203: 0B004D0A:151D 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0 0";
        assert_eq!(local_address(line), Some(("10.77.0.11".parse().unwrap(), 5405)));
        let line = "  96: B80D0120000000000000000001000000:151D 00000000000000000000000000000000:0000 07";
        assert_eq!(local_address(line), Some(("2001:db8::1".parse().unwrap(), 5405)));
        for odd in ["", "x", "1: 0B00:151D", "1: 0B004D0A", "1: éééé:151D", "1: 0B004D0A:ZZ"] {
            assert_eq!(local_address(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn the_ports_are_the_default_and_the_configured_ones_with_their_links() {
        let ports = ports("totem {\n  interface {\n    mcastport: 6000\n  }\n}\n");
        assert!(ports.contains(&5405) && ports.contains(&5412) && !ports.contains(&5413));
        assert!(ports.contains(&6000) && ports.contains(&6007));
    }
}
