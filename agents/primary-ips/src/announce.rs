//! The neighbours told where the addresses are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use ocf::Deadline;

pub(crate) use crate::frame::Form;
use crate::frame::{Hardware, announcement};
use crate::kernel::Link;
use crate::packet_socket::{Listen, PacketSocket};

/// The least time worth sleeping for.
const STEP: Duration = Duration::from_millis(1);

/// An address of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owned {
    /// The address.
    pub(crate) address: IpAddr,
    /// Index of the link that carries it.
    pub(crate) link: u32,
}

/// What became of the addresses, by number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Announced.
    pub(crate) sent: usize,
    /// On links that were not given, are down, not Ethernet, or without ARP: nobody is to be told there.
    pub(crate) skipped: usize,
    /// The deadline came before them.
    pub(crate) late: usize,
}

/// Announces each of `owned` once, `rate` a second in all. For IPv6 the form makes no difference.
pub(crate) fn announce(
    deadline: Deadline,
    owned: &[Owned],
    links: &[Link],
    form: Form,
    rate: u32,
) -> Result<Announced> {
    let interval = Duration::from_secs(1) / rate.max(1);
    let mut senders = HashMap::new();
    for link in links {
        if let Some(own) = link.speaks_arp() {
            senders.insert(link.index, (Hardware(own), PacketSocket::open(link.index, Listen::Nothing)?));
        }
    }
    let (known, unknown): (Vec<Owned>, Vec<Owned>) = owned.iter().partition(|owned| senders.contains_key(&owned.link));
    let mut announced = Announced { skipped: unknown.len(), ..Announced::default() };
    let start = Instant::now();
    for (Owned { address, link }, number) in known.into_iter().zip(0..) {
        // Each has its time from the start: a late one delays no other, and what is late goes at once.
        if !sleep_until(start + interval * number, deadline) {
            announced.late = owned.len() - announced.sent - announced.skipped;
            break;
        }
        let (own, socket) = &senders[&link];
        if socket.send(&announcement(address, *own, form), deadline)? {
            announced.sent += 1;
        } else {
            announced.skipped += 1;
        }
    }
    Ok(announced)
}

/// Sleeps until `time`, unless it is less than a step away. False once the deadline has passed.
fn sleep_until(time: Instant, deadline: Deadline) -> bool {
    let pause = time.saturating_duration_since(Instant::now());
    if pause < STEP { !deadline.passed() } else { deadline.sleep(pause) }
}

#[cfg(test)]
mod tests;
