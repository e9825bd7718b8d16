//! Duplicate address detection of IPv6, waited for on the kernel's own events.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use ocf::Deadline;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::Kernel;
use super::address::Present;
use super::datagram::{Content, messages};
use super::socket::{Netlink, Received};

/// Two events of 10,000 addresses fit; beyond that, events are lost and the addresses are read instead.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// A change of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressEvent {
    /// The address is there, with these flags.
    Present(Present),
    /// The address is gone.
    Gone(Present),
    /// Events were lost: read the addresses anew.
    Lost,
}

/// The changes of IPv6 addresses since [`Kernel::watch_ipv6`].
pub(crate) struct AddressEvents {
    socket: Netlink,
    read: Vec<AddressEvent>,
}

/// What became of the addresses that were waited for; those in neither list can be used.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DadReport {
    /// Another host has the address: the kernel keeps it, marked, and does not answer for it.
    pub(crate) failed: Vec<(Ipv6Addr, u32)>,
    /// Neither confirmed nor refuted at the deadline.
    pub(crate) unfinished: Vec<(Ipv6Addr, u32)>,
    /// Taken away meanwhile.
    pub(crate) gone: Vec<(Ipv6Addr, u32)>,
}

impl Kernel {
    /// Begins to collect changes of IPv6 addresses. To miss none, call it before adding them.
    pub(crate) fn watch_ipv6(&mut self) -> Result<AddressEvents> {
        let mut socket = Netlink::open(NETLINK_ROUTE, self.deadline)?;
        // Needs CAP_NET_ADMIN; with less room events are lost, which is noticed and dealt with.
        setsockopt(socket.socket(), sockopt::RcvBufForce, &RECEIVE_BUFFER).ok();
        // Broadcasts pass over a socket without a port number (`do_one_broadcast` in net/netlink/af_netlink.c).
        socket.socket().bind_auto().context("cannot bind a netlink socket")?;
        socket.socket().add_membership(libc::RTNLGRP_IPV6_IFADDR).context("cannot listen to changes of addresses")?;
        Ok(AddressEvents { socket, read: Vec::new() })
    }

    /// Waits until duplicate address detection has ended for all of `addresses` (each with the index of its link).
    pub(crate) fn wait_for_dad(
        &mut self,
        events: &mut AddressEvents,
        addresses: &[(Ipv6Addr, u32)],
        deadline: Deadline,
    ) -> Result<DadReport> {
        let mut waiting = Waiting { open: addresses.iter().copied().collect(), report: DadReport::default() };
        waiting.settle_all(&self.addresses()?);
        while !waiting.open.is_empty() {
            match events.next(deadline)? {
                None => break,
                Some(AddressEvent::Present(present)) => waiting.settle(&present),
                Some(AddressEvent::Gone(present)) => waiting.gone(&present),
                Some(AddressEvent::Lost) => waiting.settle_all(&self.addresses()?),
            }
        }
        Ok(waiting.end())
    }
}

impl AddressEvents {
    /// The next change, None at `deadline`.
    pub(crate) fn next(&mut self, deadline: Deadline) -> Result<Option<AddressEvent>> {
        let what = "changes of addresses";
        loop {
            if let Some(event) = self.read.pop() {
                return Ok(Some(event));
            }
            match self.socket.receive(what)? {
                Received::Datagram => {
                    let mut found = messages(self.socket.datagram())
                        .map(|message| AddressEvent::parse(&message?.content))
                        .collect::<Result<Vec<_>>>()
                        .with_context(|| format!("the kernel's message about {what}"))?;
                    found.reverse();
                    self.read = found.into_iter().flatten().collect();
                }
                Received::Lost => {
                    // Until the socket has been empty once, the kernel throws more away without a word
                    // (NETLINK_S_CONGESTED in net/netlink/af_netlink.c); what is looked at before that may be outdated.
                    while !matches!(self.socket.receive(what)?, Received::Empty) {}
                    return Ok(Some(AddressEvent::Lost));
                }
                Received::Empty if !self.socket.readable_before(deadline)? => return Ok(None),
                Received::Empty => {}
            }
        }
    }
}

#[cfg(test)]
impl AddressEvents {
    /// Makes the kernel lose events (SOCK_MIN_RCVBUF in include/net/sock.h is what remains).
    pub(super) fn shrink_receive_buffer(&mut self) {
        self.socket.socket().set_rx_buf_sz(1u32).unwrap();
    }
}

impl AddressEvent {
    fn parse(content: &Content<'_>) -> Result<Option<Self>> {
        Ok(match content {
            Content::Entry { kind: libc::RTM_NEWADDR, payload } => Present::parse(payload)?.map(Self::Present),
            Content::Entry { kind: libc::RTM_DELADDR, payload } => Present::parse(payload)?.map(Self::Gone),
            Content::Overrun => Some(Self::Lost),
            Content::Entry { .. } | Content::End(_) | Content::Nothing => None,
        })
    }
}

/// The addresses still waited for and what is known of the others.
struct Waiting {
    open: HashSet<(Ipv6Addr, u32)>,
    report: DadReport,
}

impl Waiting {
    /// A failed address stays tentative (`addrconf_dad_stop` in net/ipv6/addrconf.c), an optimistic one is usable.
    fn settle(&mut self, present: &Present) {
        let Some(key) = key(present).filter(|key| self.open.contains(key)) else { return };
        if present.dad_failed {
            self.report.failed.push(key);
        }
        if present.dad_failed || !present.tentative {
            self.open.remove(&key);
        }
    }

    fn gone(&mut self, present: &Present) {
        if let Some(key) = key(present).filter(|key| self.open.remove(key)) {
            self.report.gone.push(key);
        }
    }

    fn settle_all(&mut self, present: &[Present]) {
        let there: HashSet<_> = present.iter().filter_map(key).collect();
        for address in present {
            self.settle(address);
        }
        self.report.gone.extend(self.open.extract_if(|key| !there.contains(key)));
    }

    fn end(mut self) -> DadReport {
        self.report.unfinished = self.open.into_iter().collect();
        for list in [&mut self.report.failed, &mut self.report.unfinished, &mut self.report.gone] {
            list.sort_unstable();
        }
        self.report
    }
}

fn key(present: &Present) -> Option<(Ipv6Addr, u32)> {
    match present.address {
        IpAddr::V6(address) => Some((address, present.link)),
        IpAddr::V4(_) => None,
    }
}
