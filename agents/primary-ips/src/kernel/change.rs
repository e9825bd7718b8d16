//! Addresses added and removed.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::address::{AddressFlags, AddressHeader};

use super::address::{IFA_ADDRESS, IFA_FLAGS, IFA_LOCAL, Present};
use super::datagram::Refusal;
use super::request::Request;
use super::{Family, Kernel};

/// Attribute types of linux/if_addr.h.
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
/// A lifetime without end, `INFINITY_LIFE_TIME` in include/net/addrconf.h.
const FOREVER: u32 = u32::MAX;

/// How long an address is preferred as a source of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// Without end.
    Forever,
    /// For so many seconds; 0: never, deprecated from the start.
    Seconds(u32),
}

/// An address to be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NewAddress {
    /// The address.
    pub(crate) address: IpAddr,
    /// Prefix length.
    pub(crate) prefix: u8,
    /// Index of the link that is to carry it.
    pub(crate) link: u32,
    /// Do not make a route to the subnet (IFA_F_NOPREFIXROUTE).
    pub(crate) no_prefix_route: bool,
    /// How long it is preferred; it stays valid in any case.
    pub(crate) preferred: Lifetime,
    /// IPv6: no duplicate address detection (IFA_F_NODAD).
    pub(crate) no_dad: bool,
}

/// An address to be removed, named so that no other one is meant: the kernel takes the first one that agrees with what
/// the request names (`inet_rtm_deladdr` in net/ipv4/devinet.c: local address, and prefix length and subnet of
/// IFA_ADDRESS; `inet6_addr_del` in net/ipv6/addrconf.c: local address and prefix length).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OldAddress {
    /// The node's own address.
    pub(crate) address: IpAddr,
    /// The other end of a point-to-point pair.
    pub(crate) peer: Option<IpAddr>,
    /// Prefix length.
    pub(crate) prefix: u8,
    /// Index of the link that carries it.
    pub(crate) link: u32,
}

impl From<&Present> for OldAddress {
    fn from(present: &Present) -> Self {
        Self { address: present.address, peer: present.peer, prefix: present.prefix, link: present.link }
    }
}

impl Kernel {
    /// Adds addresses; the answers are in the order of `wanted`.
    ///
    /// `EEXIST` says that the link has the address already: IPv4 with this prefix length, IPv6 with any
    /// (`__inet_insert_ifa`, `ipv6_add_addr`). It is also the answer for an address that was added by this very call
    /// when the kernel's first answer was lost on the way and the request was repeated.
    ///
    /// # Errors
    /// The socket fails or the deadline passes; some of the addresses are then there.
    pub(crate) fn add(&mut self, wanted: &[NewAddress]) -> Result<Vec<Result<(), Refusal>>> {
        let what = format!("{} new addresses", wanted.len());
        self.route.carry_out(wanted, NLM_F_CREATE | NLM_F_EXCL, &what, NewAddress::request)
    }

    /// Removes addresses in this order; the answers are in the same order. [`Kernel::withdraw`] puts them into an order
    /// that spares addresses of others.
    ///
    /// `EADDRNOTAVAIL` says that the link does not have the address (any more), `ENODEV` that the link is gone. Both are
    /// also the answer for an address removed by this very call when the kernel's first answer was lost on the way.
    ///
    /// # Errors
    /// The socket fails or the deadline passes; some of the addresses are then gone.
    pub(crate) fn remove(&mut self, doomed: &[OldAddress]) -> Result<Vec<Result<(), Refusal>>> {
        self.route.carry_out(doomed, 0, &format!("{} addresses to remove", doomed.len()), OldAddress::request)
    }
}

impl NewAddress {
    fn request(&self) -> Request<AddressHeader> {
        let mut request = about_own(libc::RTM_NEWADDR, self.address, self.address, self.prefix, self.link);
        if let IpAddr::V4(address) = self.address
            && let Some(broadcast) = broadcast(address, self.prefix)
        {
            request = request.with(IFA_BROADCAST, broadcast.octets());
        }
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Noprefixroute, self.no_prefix_route);
        flags.set(AddressFlags::Nodad, self.no_dad && self.address.is_ipv6());
        if !flags.is_empty() {
            request = request.with(IFA_FLAGS, flags.bits().to_ne_bytes());
        }
        if let Lifetime::Seconds(preferred) = self.preferred {
            // `struct ifa_cacheinfo` (linux/if_addr.h): preferred and valid lifetime, and two times that only answers have.
            let lifetimes = [preferred, FOREVER, 0, 0].map(u32::to_ne_bytes);
            request = request.with(IFA_CACHEINFO, lifetimes.concat());
        }
        request
    }
}

impl OldAddress {
    fn request(&self) -> Request<AddressHeader> {
        about_own(libc::RTM_DELADDR, self.address, self.peer.unwrap_or(self.address), self.prefix, self.link)
    }
}

fn about_own(kind: u16, local: IpAddr, address: IpAddr, prefix: u8, link: u32) -> Request<AddressHeader> {
    let family = if local.is_ipv4() { Family::V4 } else { Family::V6 };
    let header = AddressHeader { family: family.into(), prefix_len: prefix, index: link, ..AddressHeader::default() };
    Request::new(kind, header).with(IFA_LOCAL, octets(local)).with(IFA_ADDRESS, octets(address))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The subnet's broadcast address, which heartbeat:IPaddr2 copies from the fixed address of the subnet and
/// `ip address add … brd +` computes; a subnet of one or two addresses has none (RFC 3021).
fn broadcast(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    (prefix < 31).then(|| Ipv4Addr::from_bits(address.to_bits() | u32::MAX >> prefix))
}

/// Whether an answer means that the link has the address (IPv6: perhaps with another prefix length).
pub(crate) fn added(answer: &Result<(), Refusal>) -> bool {
    answer.as_ref().map_or_else(|refusal| refusal.errno == Errno::EEXIST, |()| true)
}

/// Whether an answer means that the link does not have the address any more.
pub(crate) fn removed(answer: &Result<(), Refusal>) -> bool {
    answer.as_ref().map_or_else(|refusal| matches!(refusal.errno, Errno::EADDRNOTAVAIL | Errno::ENODEV), |()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_address_has_all_host_bits_set() {
        let address = Ipv4Addr::new(192, 0, 2, 77);
        for (prefix, expected) in [
            (24, Some(Ipv4Addr::new(192, 0, 2, 255))),
            (30, Some(Ipv4Addr::new(192, 0, 2, 79))),
            (1, Some(Ipv4Addr::BROADCAST)),
            (31, None),
            (32, None),
        ] {
            assert_eq!(broadcast(address, prefix), expected, "/{prefix}");
        }
    }
}
