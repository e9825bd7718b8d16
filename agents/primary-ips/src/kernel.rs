//! What the kernel knows and does about addresses, links and routes, over one netlink socket.
//!
//! This module and its submodules are the only ones to name rtnetlink: its types change every few months.

mod address;
mod batch;
mod change;
pub(crate) mod datagram;
mod events;
mod link;
mod request;
mod route;
mod secondaries;
mod sock_diag;
mod socket;
#[cfg(test)]
mod tests;

use anyhow::Result;
use ocf::Deadline;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

pub(crate) use address::Present;
pub(crate) use change::{Lifetime, NewAddress, OldAddress, added, removed};
pub(crate) use datagram::Refusal;
pub(crate) use events::AddressEvents;
pub(crate) use link::Link;
pub(crate) use route::Family;
pub(crate) use sock_diag::Connections;

use socket::Netlink;

/// A conversation with the kernel of this network namespace.
pub(crate) struct Kernel {
    route: Netlink,
    deadline: Deadline,
    /// Links asked for so far. An action lasts seconds; within it a link keeps its answer.
    links: Vec<Link>,
}

impl Kernel {
    /// Opens it. Nothing asked through it waits beyond `deadline`.
    pub(crate) fn open(deadline: Deadline) -> Result<Self> {
        Ok(Self { route: Netlink::open(NETLINK_ROUTE, deadline)?, deadline, links: Vec::new() })
    }
}
