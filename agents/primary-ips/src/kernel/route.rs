//! The default route: where an address goes whose interface nobody named.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteFlags, RouteHeader, RouteType};

use super::Kernel;
use super::datagram::{attributes, number};
use super::request::Request;

/// `struct rtmsg` and `struct rtnexthop` (linux/rtnetlink.h).
const HEADER_LENGTH: usize = 12;
const NEXT_HOP_INDEX: std::ops::Range<usize> = 4..8;

/// The family of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

struct DefaultRoute {
    metric: u32,
    link: u32,
}

impl Kernel {
    /// The link of the default route with the lowest metric in the main table; None without one.
    pub(crate) fn default_route(&mut self, family: Family) -> Result<Option<u32>> {
        let header = RouteHeader {
            address_family: family.into(),
            table: libc::RT_TABLE_MAIN,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        let request = Request::new(libc::RTM_GETROUTE, header);
        let routes = self.route.dump(&request, "routes", |kind, payload| match kind {
            libc::RTM_NEWROUTE => parse(payload, family),
            _ => Ok(None),
        })?;
        match routes {
            Ok(routes) => Ok(routes.into_iter().min_by_key(|route| route.metric).map(|route| route.link)),
            // "FIB table does not exist": a node that has never had a route of this family.
            Err(refusal) if refusal.errno == Errno::ENOENT => Ok(None),
            Err(refusal) => Err(refusal).context("cannot read the main routing table"),
        }
    }
}

/// A default route of the main table that leads somewhere. What the request already excludes is looked at again: kernels
/// before 4.20, and those without the family, answer with all routes.
fn parse(payload: &[u8], family: Family) -> Result<Option<DefaultRoute>> {
    let header = RouteHeader::parse(payload)?;
    // A route whose carrier is gone (RTNH_F_LINKDOWN) still says where the addresses belong.
    let dead = header.flags.contains(RouteFlags::Dead);
    if header.address_family != family.into()
        || header.destination_prefix_length != 0
        || header.table != libc::RT_TABLE_MAIN
        || header.kind != RouteType::Unicast
        || dead
    {
        return Ok(None);
    }
    let (mut metric, mut link) = (0, None);
    for attribute in attributes(&payload[HEADER_LENGTH..]) {
        match attribute? {
            (libc::RTA_PRIORITY, value) => metric = number(value)?,
            (libc::RTA_OIF, value) => link = Some(number(value)?),
            (libc::RTA_MULTIPATH, value) => {
                link = link.or(value.get(NEXT_HOP_INDEX).map(number).transpose()?);
            }
            _ => {}
        }
    }
    Ok(link.map(|link| DefaultRoute { metric, link }))
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}
