//! The addresses that this node's kernel has.

use std::net::IpAddr;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;

use super::listed::Found;

/// All but those that never leave the node or the link.
pub(crate) fn addresses() -> Result<Vec<Found>> {
    let all = getifaddrs().context("the kernel does not tell its addresses")?;
    let found = all.filter_map(|one| {
        let address = one.address.as_ref().and_then(ip)?;
        let prefix = one.netmask.as_ref().and_then(ip).map(length);
        Some(Found { address, prefix, at: one.interface_name.clone(), interface: Some(one.interface_name) })
    });
    let local = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    Ok(found.filter(|one| !local(one.address)).collect())
}

fn ip(one: &SockaddrStorage) -> Option<IpAddr> {
    let four = one.as_sockaddr_in().map(|one| IpAddr::V4(one.ip()));
    four.or_else(|| one.as_sockaddr_in6().map(|one| IpAddr::V6(one.ip())))
}

/// The length of the prefix that a netmask stands for.
fn length(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netmasks_have_lengths() {
        for (mask, expected) in
            [("255.255.255.0", 24), ("255.255.255.255", 32), ("ffff:ffff:ffff:ffff::", 64), ("0.0.0.0", 0)]
        {
            assert_eq!(length(mask.parse().unwrap()), expected);
        }
    }
}
