//! The addresses the node has: one dump, and only the attributes that matter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, anyhow};
use nix::libc;
use rtnetlink::packet_route::address::{AddressFlags, AddressHeader};

use super::Kernel;
use super::datagram::{attributes, number};
use super::request::Request;

/// Attribute types of linux/if_addr.h.
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_FLAGS: u16 = 8;
/// `struct ifaddrmsg` (linux/if_addr.h).
const HEADER_LENGTH: usize = 8;

/// An address as the kernel has it on a link.
#[expect(clippy::struct_excessive_bools, reason = "the kernel sets these flags independently of each other")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Present {
    /// The node's own address.
    pub(crate) address: IpAddr,
    /// The other end, where the address is one of a point-to-point pair.
    pub(crate) peer: Option<IpAddr>,
    /// Prefix length.
    pub(crate) prefix: u8,
    /// Index of the link that carries it.
    pub(crate) link: u32,
    /// IPv4: hangs on a primary address of the same subnet and, unless promote_secondaries is set, goes with it.
    pub(crate) secondary: bool,
    /// IPv6: a privacy address (RFC 8981), made and dropped by the kernel.
    pub(crate) temporary: bool,
    /// IPv6: duplicate address detection has not confirmed it.
    pub(crate) tentative: bool,
    /// IPv6: duplicate address detection found another owner; the kernel does not answer for it.
    pub(crate) dad_failed: bool,
    /// Not used as a source address of new connections.
    pub(crate) deprecated: bool,
    /// Without an end of validity.
    pub(crate) permanent: bool,
}

impl Kernel {
    /// All addresses of all links, IPv4 and IPv6, in the kernel's order.
    pub(crate) fn addresses(&mut self) -> Result<Vec<Present>> {
        let request = Request::new(libc::RTM_GETADDR, AddressHeader::default());
        Ok(self.route.dump(&request, "addresses", |kind, payload| match kind {
            libc::RTM_NEWADDR => Present::parse(payload),
            _ => Ok(None),
        })??)
    }
}

impl Present {
    /// Reads the body of RTM_NEWADDR or RTM_DELADDR; None for a family other than IPv4 and IPv6.
    ///
    /// AddressMessage::parse would build every attribute of every address, for twice the processor time, and fails
    /// on the first one whose size a newer kernel changed.
    pub(crate) fn parse(payload: &[u8]) -> Result<Option<Self>> {
        let header = AddressHeader::parse(payload)?;
        let family = i32::from(u8::from(header.family));
        if family != libc::AF_INET && family != libc::AF_INET6 {
            return Ok(None);
        }
        let (mut local, mut address, mut flags) = (None, None, u32::from(header.flags.bits()));
        for attribute in attributes(&payload[HEADER_LENGTH..]) {
            match attribute? {
                (IFA_LOCAL, value) => local = Some(ip(value)?),
                (IFA_ADDRESS, value) => address = Some(ip(value)?),
                (IFA_FLAGS, value) => flags = number(value)?,
                _ => {}
            }
        }
        // IFA_LOCAL is the node's own address; IPv6 leaves it out where it equals IFA_ADDRESS (linux/if_addr.h).
        let own = local.or(address).ok_or_else(|| anyhow!("an entry of link {} without address", header.index))?;
        let flags = AddressFlags::from_bits_retain(flags);
        // IFA_F_SECONDARY and IFA_F_TEMPORARY are the same bit (linux/if_addr.h).
        let first_bit = flags.contains(AddressFlags::Secondary);
        Ok(Some(Self {
            address: own,
            peer: address.filter(|&other| other != own),
            prefix: header.prefix_len,
            link: header.index,
            secondary: first_bit && own.is_ipv4(),
            temporary: first_bit && own.is_ipv6(),
            tentative: flags.contains(AddressFlags::Tentative),
            dad_failed: flags.contains(AddressFlags::Dadfailed),
            deprecated: flags.contains(AddressFlags::Deprecated),
            permanent: flags.contains(AddressFlags::Permanent),
        }))
    }
}

fn ip(value: &[u8]) -> Result<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(value) {
        return Ok(Ipv4Addr::from(bytes).into());
    }
    let bytes =
        <[u8; 16]>::try_from(value).map_err(|_| anyhow!("an address of {} bytes, expected 4 or 16", value.len()))?;
    Ok(Ipv6Addr::from(bytes).into())
}
