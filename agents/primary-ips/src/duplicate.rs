//! Who else has the addresses: asked on their links, all at once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use ocf::Deadline;

use crate::frame::{Hardware, claim, probe};
use crate::kernel::{Kernel, Link};
use crate::packet_socket::{Listen, PacketSocket};

/// How often each address is asked for: once more than necessary, for the frame that gets lost. RFC 5227 section 2.1.1
/// asks three times, one to two seconds apart, for hosts that boot at the same moment on a sleeping network. Here the
/// check is part of the outage, and a host that serves the address answers in well under a millisecond.
const PROBES: u32 = 2;
/// Least time between the two probes of an address: longer than a switch or a virtual machine is paused as a rule.
const PROBE_SPACING: Duration = Duration::from_millis(15);
/// How long answers are waited for after the last probe, and twice that nearly after the first. Kernels answer in their
/// interrupt handling, whatever their processes do; and this is part of every failover.
const LAST_ANSWER: Duration = Duration::from_millis(30);
/// So many probes go out at a time, one such burst a step. At 32,000 frames a second the answers of a segment on which
/// every address is taken fit into the receive buffer many times over, and 500 addresses take 16 ms a round.
const BURST: usize = 32;
const STEP: Duration = Duration::from_millis(1);
/// So many frames are looked at between two looks at the clock, even if they come faster than that.
const FRAMES_AT_ONCE: usize = 1000;
/// The longest frame whose contents matter: a neighbour advertisement with options.
const FRAME: usize = 256;

/// An address and the host that answers for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Duplicate {
    /// The address.
    pub(crate) address: IpAddr,
    /// Index of the link on which the host answers.
    pub(crate) link: u32,
    /// The host's hardware address.
    pub(crate) hardware: Hardware,
}

/// An address to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Probe {
    /// The address.
    pub(crate) address: IpAddr,
    /// Index of the link on which it is asked for.
    pub(crate) link: u32,
}

impl Duplicate {
    /// A sentence's beginning, with the name that the link has among `links`.
    pub(crate) fn describe(&self, links: &[Link]) -> String {
        let link = links.iter().find(|link| link.index == self.link);
        let link = link.map_or_else(|| format!("link {}", self.link), |link| link.name.clone());
        format!("{} is in use by {} on {link}", self.address, self.hardware)
    }
}

/// Asks for all of `probes` and returns who, other than this node, has one of the addresses. Whether this node has them
/// itself does not matter. It takes some 70 ms, and from 640 addresses on 63 ms more for each further 1,000.
///
/// Over a link that is not among `links`, is down or without carrier, is not Ethernet or does not use ARP, nobody can be
/// asked: its addresses are passed over.
pub(crate) fn who_else(deadline: Deadline, probes: &[Probe], links: &[Link]) -> Result<Vec<Duplicate>> {
    let own = Kernel::open(deadline)?.hardware_addresses()?.into_iter().map(Hardware).collect();
    let mut enquiry = Enquiry::new(own, probes.iter().copied().collect());
    let senders: HashMap<u32, Hardware> =
        links.iter().filter_map(|link| Some((link.index, Hardware(link.speaks_arp()?)))).collect();
    let mut questions = Vec::with_capacity(probes.len());
    for Probe { address, link } in probes {
        if let Some(&sender) = senders.get(link) {
            questions.push((enquiry.socket(*link, *address)?, probe(*address, sender)));
        }
    }
    if !questions.is_empty() {
        enquiry.ask(&questions, deadline)?;
    }
    Ok(enquiry.found.into_iter().collect())
}

/// An enquiry under way.
struct Enquiry {
    /// This node's hardware addresses: on a segment with two of its interfaces each answers for the other.
    own: HashSet<Hardware>,
    asked_for: HashSet<Probe>,
    sockets: Vec<(u32, PacketSocket)>,
    places: HashMap<(u32, Listen), usize>,
    found: BTreeSet<Duplicate>,
}

impl Enquiry {
    fn new(own: HashSet<Hardware>, asked_for: HashSet<Probe>) -> Self {
        Self { own, asked_for, sockets: Vec::new(), places: HashMap::new(), found: BTreeSet::new() }
    }

    /// The place in `sockets` of the one on which this address is asked for.
    fn socket(&mut self, link: u32, address: IpAddr) -> Result<usize> {
        let listen = if address.is_ipv4() { Listen::Arp } else { Listen::Neighbours };
        if let Some(&place) = self.places.get(&(link, listen)) {
            return Ok(place);
        }
        self.sockets.push((link, PacketSocket::open(link, listen)?));
        self.places.insert((link, listen), self.sockets.len() - 1);
        Ok(self.sockets.len() - 1)
    }

    /// Sends every question, each to its socket, and listens for the answers.
    fn ask(&mut self, questions: &[(usize, Vec<u8>)], deadline: Deadline) -> Result<()> {
        for _ in 0..PROBES {
            let start = Instant::now();
            for (burst, step) in questions.chunks(BURST).zip(0..) {
                self.listen(start + STEP * step, deadline)?;
                for (socket, frame) in burst {
                    // False if the link went down meanwhile: then nobody can be asked there.
                    self.sockets[*socket].1.send(frame, deadline)?;
                }
            }
            self.listen(start + PROBE_SPACING, deadline)?;
        }
        self.listen(Instant::now() + LAST_ANSWER, deadline)
    }

    /// Listens until `until`.
    fn listen(&mut self, until: Instant, deadline: Deadline) -> Result<()> {
        loop {
            self.take_in()?;
            let pause = until.saturating_duration_since(Instant::now());
            if pause.is_zero() {
                return Ok(());
            }
            if deadline.passed() {
                bail!(
                    "the duplicate address check of {} addresses did not end within {:.1?}; give the action more time, \
                     or set duplicate_check=off",
                    self.asked_for.len(),
                    deadline.budget()
                );
            }
            let mut readable: Vec<_> =
                self.sockets.iter().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
            match poll(&mut readable, deadline.at_most(pause).poll_timeout()) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for answers to the duplicate address check"),
            }
        }
    }

    fn take_in(&mut self) -> Result<()> {
        let mut frame = [0; FRAME];
        for (link, socket) in &self.sockets {
            for _ in 0..FRAMES_AT_ONCE {
                let Some(length) = socket.receive(&mut frame)? else { break };
                let Some(claim) = claim(&frame[..length]) else { continue };
                let ours = self.own.contains(&claim.hardware);
                if !ours && self.asked_for.contains(&Probe { address: claim.address, link: *link }) {
                    self.found.insert(Duplicate { address: claim.address, link: *link, hardware: claim.hardware });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
