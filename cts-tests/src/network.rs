//! The one network of a rig: a bridge in the driver's namespace, a cable from it to each interface of each node.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::command::command;

/// The bridge in the driver's network namespace.
pub const BRIDGE: &str = "br0";

/// Prefix length of the IPv4 subnet (10.78.0.0/16) of every node's eth0, the bridge and the service addresses.
pub const IPV4_PREFIX: u8 = 16;

/// Prefix length of the IPv6 subnet (2001:db8:78::/64, of the documentation range of RFC 3849).
pub const IPV6_PREFIX: u8 = 64;

/// The observer's own addresses.
pub const OBSERVER: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 78, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 0, 1));

/// The fixed IPv4 address of node `number` on eth0; Corosync is bound to it.
pub fn node_ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, 0, 10 + number)
}

/// The fixed IPv6 address of node `number` on eth0.
pub fn node_ipv6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 0, 0x10 + u16::from(number))
}

/// `count` IPv4 service addresses: 10.78.1.1 … 10.78.1.250, 10.78.2.1 …
pub fn service_ipv4(count: u16) -> Vec<IpAddr> {
    (1..=u8::MAX)
        .flat_map(|third| (1..=250).map(move |fourth| Ipv4Addr::new(10, 78, third, fourth).into()))
        .take(count.into())
        .collect()
}

/// `count` IPv6 service addresses: 2001:db8:78::1:1 …
pub fn service_ipv6(count: u16) -> Vec<IpAddr> {
    (1..=count).map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0x78, 0, 0, 0, 1, last).into()).collect()
}

/// An address with the prefix length of its subnet, as a line of an IP file and as `ip addr add` take it.
pub fn with_prefix(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { IPV4_PREFIX } else { IPV6_PREFIX })
}

/// Runs a list of ip(8) commands in this process's network namespace; all of them succeed, or it is an error.
pub fn ip(batch: &str) -> Result<()> {
    command(["ip", "-batch", "-"]).stdin(batch).within(Duration::from_secs(20)).text().map(drop)
}

/// Makes the bridge with the observer's addresses, in an otherwise empty network namespace.
pub fn create_bridge() -> Result<()> {
    // Snooping would hold back the neighbour solicitations of a node that has just come up, because no querier knows its
    // groups yet.
    ip(&format!(
        "link set lo up\n\
         link add {BRIDGE} address 02:78:00:00:00:fe type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set {BRIDGE} up\n"
    ))?;
    observe_from(BRIDGE)
}

/// Gives an interface of this process's network namespace the observer's addresses.
pub fn observe_from(interface: &str) -> Result<()> {
    let (ipv4, ipv6) = OBSERVER;
    // A duplicate check of the observer's own address would only delay it.
    ip(&format!(
        "addr add {ipv4}/{IPV4_PREFIX} dev {interface}\n\
         addr add {ipv6}/{IPV6_PREFIX} dev {interface} nodad\n"
    ))?;
    // A neighbour that did not answer is asked again after 0.1 s instead of 1 s (ip-sysctl: retrans_time_ms), or an
    // address that came back would be seen up to a second late. One packet is queued for it, not hundreds.
    for family in ["ipv4", "ipv6"] {
        for (setting, value) in [("retrans_time_ms", "100"), ("unres_qlen", "1")] {
            let file = format!("/proc/sys/net/{family}/neigh/{interface}/{setting}");
            fs::write(&file, value).with_context(|| format!("cannot write {value} to {file}"))?;
        }
    }
    Ok(())
}
