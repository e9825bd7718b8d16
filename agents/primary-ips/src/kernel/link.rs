//! One link at a time, by name or index.

use std::collections::HashSet;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_route::link::{LinkFlags, LinkHeader, LinkLayerType};

use super::Kernel;
use super::datagram::attributes;
use super::request::Request;

/// Attribute types of linux/if_link.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_ALT_IFNAME: u16 = 53;
/// Counting statistics costs the kernel more than the rest of the answer (linux/rtnetlink.h).
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// `struct ifinfomsg` (linux/rtnetlink.h).
const HEADER_LENGTH: usize = 16;
/// IFNAMSIZ less the closing zero (linux/if.h); longer names are alternative names (ip-link(8), altname).
const NAME_LENGTH: usize = 15;

/// A network interface.
#[expect(clippy::struct_excessive_bools, reason = "the kernel sets these flags independently of each other")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The kernel's number of it.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Set up by the administrator (IFF_UP).
    pub(crate) up: bool,
    /// A cable is in it, or what corresponds to that (IFF_LOWER_UP).
    pub(crate) carrier: bool,
    /// The loopback interface.
    pub(crate) loopback: bool,
    /// Neighbours are not asked for by ARP or neighbour discovery (IFF_NOARP).
    pub(crate) no_arp: bool,
    /// The hardware address of an Ethernet link.
    pub(crate) hardware: Option<[u8; 6]>,
}

impl Kernel {
    /// The link of this name or alternative name, None if there is none. Remembered for the life of the Kernel.
    pub(crate) fn link_named(&mut self, name: &str) -> Result<Option<Link>> {
        if let Some(known) = self.links.iter().find(|link| link.name == name) {
            return Ok(Some(known.clone()));
        }
        if name.is_empty() {
            return Ok(None);
        }
        let attribute = if name.len() <= NAME_LENGTH { IFLA_IFNAME } else { IFLA_ALT_IFNAME };
        let request = about_links(LinkHeader::default()).with(attribute, [name.as_bytes(), b"\0"].concat());
        self.ask_link(&request, name)
    }

    /// The link of this index, None if there is none. Remembered for the life of the Kernel.
    pub(crate) fn link(&mut self, index: u32) -> Result<Option<Link>> {
        if let Some(known) = self.links.iter().find(|link| link.index == index) {
            return Ok(Some(known.clone()));
        }
        let request = about_links(LinkHeader { index, ..LinkHeader::default() });
        self.ask_link(&request, &index.to_string())
    }

    /// The Ethernet addresses of all links, also of those that only others use.
    pub(crate) fn hardware_addresses(&mut self) -> Result<HashSet<[u8; 6]>> {
        let request = about_links(LinkHeader::default());
        let links = self.route.dump(&request, "interfaces", |kind, payload| match kind {
            libc::RTM_NEWLINK => Link::parse(payload).map(Some),
            _ => Ok(None),
        })?;
        Ok(links?.into_iter().filter_map(|link| link.hardware).collect())
    }

    fn ask_link(&mut self, request: &Request<LinkHeader>, called: &str) -> Result<Option<Link>> {
        let what = format!("interface {called}");
        let answer = self.route.get(request, &what, |kind, payload| match kind {
            libc::RTM_NEWLINK => Link::parse(payload).map(Some),
            _ => Ok(None),
        })?;
        match answer {
            Ok(Some(link)) => {
                self.links.push(link.clone());
                Ok(Some(link))
            }
            Ok(None) => Err(anyhow!("the kernel acknowledged the question for {what} without answering it")),
            // A name no interface can have (too long, with a slash) is refused rather than not found.
            Err(refusal) if matches!(refusal.errno, Errno::ENODEV | Errno::EINVAL | Errno::ERANGE) => Ok(None),
            Err(refusal) => Err(refusal).with_context(|| format!("cannot read {what}")),
        }
    }
}

fn about_links(header: LinkHeader) -> Request<LinkHeader> {
    Request::new(libc::RTM_GETLINK, header).with(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes())
}

impl Link {
    /// The hardware address with which ARP and neighbour discovery can be spoken over this link at the moment.
    pub(crate) fn speaks_arp(&self) -> Option<[u8; 6]> {
        self.hardware.filter(|_| self.up && self.carrier && !self.loopback && !self.no_arp)
    }

    /// Reads the body of RTM_NEWLINK. Other attributes are not looked at: their sizes change with the kernel.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self> {
        let header = LinkHeader::parse(payload)?;
        let (mut name, mut hardware) = (None, None);
        for attribute in attributes(&payload[HEADER_LENGTH..]) {
            match attribute? {
                (IFLA_IFNAME, value) => {
                    name = Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
                }
                (IFLA_ADDRESS, value) if header.link_layer_type == LinkLayerType::Ether => {
                    hardware = value.try_into().ok();
                }
                _ => {}
            }
        }
        Ok(Self {
            index: header.index,
            name: name.ok_or_else(|| anyhow!("link {} without a name", header.index))?,
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            loopback: header.flags.contains(LinkFlags::Loopback),
            no_arp: header.flags.contains(LinkFlags::Noarp),
            hardware,
        })
    }
}
