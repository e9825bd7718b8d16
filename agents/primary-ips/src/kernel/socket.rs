//! A netlink socket on which every wait ends at a deadline.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use ocf::Deadline;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use rtnetlink::sys::{Socket, SocketAddr};

use super::datagram::{Content, Refusal, messages};

/// The kernel writes up to this much of a dump at a time to a reader that offers as much room (`netlink_recvmsg` in
/// net/netlink/af_netlink.c caps `max_recvmsg_len` there).
const BUFFER: usize = 32 * 1024;
/// A list that changes while it is read is read again, after a pause that grows with each reading up to this: whoever
/// changes it, for instance a script that adds thousands of addresses, is to get on with it.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Requests to the kernel over one netlink protocol.
pub(super) struct Netlink {
    protocol: isize,
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
    deadline: Deadline,
}

/// What waited in the socket.
pub(super) enum Received {
    /// A datagram, in [`Netlink::datagram`].
    Datagram,
    /// The kernel threw away what did not fit into the socket or into the buffer.
    Lost,
    /// Nothing.
    Empty,
}

impl Netlink {
    /// A socket for `protocol`, for instance NETLINK_ROUTE. Nothing on it waits beyond `deadline`.
    pub(super) fn open(protocol: isize, deadline: Deadline) -> Result<Self> {
        let socket = new_socket(protocol)?;
        Ok(Self { protocol, socket, buffer: Vec::with_capacity(BUFFER), sequence: 0, deadline })
    }

    /// The socket itself, for options that only one user needs.
    pub(super) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// What [`Netlink::receive`] received last.
    pub(super) fn datagram(&self) -> &[u8] {
        &self.buffer
    }

    /// Sequence numbers for `count` requests; the first of them.
    pub(super) fn number_requests(&mut self, count: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }

    /// Asks for one list and returns its entries as `parse` reads them, or the kernel's refusal. A list that changed
    /// while it was read, or that lost parts on the way, is read again.
    pub(super) fn dump<T, P>(
        &mut self,
        request: &P,
        what: &str,
        parse: impl Fn(u16, &[u8]) -> Result<Option<T>>,
    ) -> Result<Result<Vec<T>, Refusal>>
    where
        P: NetlinkSerializable + Clone,
    {
        let mut rest = Duration::ZERO;
        loop {
            let mut entries = Vec::new();
            let end = self.ask(request, NLM_F_DUMP, what, |kind, payload| {
                entries.extend(parse(kind, payload)?);
                Ok(())
            })?;
            if let Some(end) = end {
                return Ok(end.map(|()| entries));
            }
            rest = (rest + Duration::from_millis(1)).min(LONGEST_PAUSE);
            if !self.deadline.sleep(rest) {
                let budget = self.deadline.budget();
                bail!(
                    "{what} changed during each reading for {budget:.1?}; find out what keeps changing them (ip monitor)"
                );
            }
        }
    }

    /// Asks for one object and returns what `parse` reads, or the kernel's refusal.
    pub(super) fn get<T, P>(
        &mut self,
        request: &P,
        what: &str,
        parse: impl Fn(u16, &[u8]) -> Result<Option<T>>,
    ) -> Result<Result<Option<T>, Refusal>>
    where
        P: NetlinkSerializable + Clone,
    {
        // Only an answer that did not fit into the buffer is asked for again, and `ask` ends at the deadline.
        loop {
            let mut found = None;
            let end = self.ask(request, NLM_F_ACK, what, |kind, payload| {
                found = parse(kind, payload)?;
                Ok(())
            })?;
            if let Some(end) = end {
                return Ok(end.map(|()| found));
            }
        }
    }

    /// Sends one request and hands each entry of the answer to `take`. None when parts of the answer are missing or
    /// outdated and the question must be asked again.
    fn ask<P>(
        &mut self,
        request: &P,
        flags: u16,
        what: &str,
        mut take: impl FnMut(u16, &[u8]) -> Result<()>,
    ) -> Result<Option<Result<(), Refusal>>>
    where
        P: NetlinkSerializable + Clone,
    {
        let sequence = self.number_requests(1);
        let mut bytes = Vec::new();
        append(&mut bytes, request.clone(), flags, sequence);
        self.send(&bytes, what)?;
        let mut whole = true;
        loop {
            match self.receive(what)? {
                Received::Empty => self.wait(what)?,
                Received::Lost => {
                    // The rest of an unfinished dump would block the next one (EBUSY, `__netlink_dump_start`): a fresh
                    // socket has no rest.
                    self.socket = new_socket(self.protocol)?;
                    return Ok(None);
                }
                Received::Datagram => {
                    for message in messages(&self.buffer) {
                        let message = message.with_context(|| format!("the kernel's answer about {what}"))?;
                        if message.sequence != sequence {
                            continue;
                        }
                        whole &= !message.interrupted;
                        match message.content {
                            Content::Entry { kind, payload } => {
                                take(kind, payload).with_context(|| format!("the kernel's answer about {what}"))?;
                            }
                            Content::End(end) => return Ok(whole.then_some(end)),
                            Content::Overrun => whole = false,
                            Content::Nothing => {}
                        }
                    }
                }
            }
        }
    }

    /// Sends `bytes` to the kernel, which has dealt with every request in it when this returns (`netlink_unicast_kernel`
    /// calls `rtnetlink_rcv` directly); only dumps go on afterwards.
    pub(super) fn send(&self, bytes: &[u8], what: &str) -> Result<()> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(bytes, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot send the kernel a request about {what}"));
                }
            }
        }
    }

    /// Takes what waits in the socket, without waiting.
    pub(super) fn receive(&mut self, what: &str) -> Result<Received> {
        while !self.deadline.passed() {
            self.buffer.clear();
            match self.socket.recv_from(&mut self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                // Any process may send to this socket; only the kernel has port number 0 (netlink(7)).
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > self.buffer.len() => {
                    self.buffer.reserve(length);
                    return Ok(Received::Lost);
                }
                Ok(_) => return Ok(Received::Datagram),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Received::Empty),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Lost),
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read the kernel's answer about {what}"));
                }
            }
        }
        bail!("the kernel did not answer about {what} within {:.1?}", self.deadline.budget())
    }

    /// Waits until something can be received; an error at the deadline.
    pub(super) fn wait(&self, what: &str) -> Result<()> {
        if self.readable_before(self.deadline)? {
            return Ok(());
        }
        bail!("the kernel did not answer about {what} within {:.1?}", self.deadline.budget())
    }

    /// Whether something can be received before `deadline`; waits for it.
    pub(super) fn readable_before(&self, deadline: Deadline) -> Result<bool> {
        loop {
            let mut sockets = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut sockets, deadline.poll_timeout()) {
                Ok(0) if deadline.passed() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno).context("cannot wait for the kernel's answer"),
            }
        }
    }
}

/// Appends one request to a batch.
pub(super) fn append<P: NetlinkSerializable>(bytes: &mut Vec<u8>, request: P, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
}

fn new_socket(protocol: isize) -> Result<Socket> {
    let socket = Socket::new(protocol).context("cannot open a netlink socket")?;
    // Each is an improvement that old kernels lack (linux 4.20, 4.3, 4.12); answers are read right without them.
    for (option, set) in [
        ("NETLINK_GET_STRICT_CHK", socket.set_netlink_get_strict_chk(true)),
        ("NETLINK_CAP_ACK", socket.set_cap_ack(true)),
        ("NETLINK_EXT_ACK", socket.set_ext_ack(true)),
    ] {
        if let Err(error) = set
            && error.raw_os_error() != Some(libc::ENOPROTOOPT)
        {
            return Err(error).with_context(|| format!("cannot set {option} on a netlink socket"));
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkHeader;
    use rtnetlink::sys::protocols::NETLINK_ROUTE;

    use super::*;
    use crate::kernel::request::Request;
    use crate::netns::Namespace;

    #[test]
    fn an_answer_larger_than_the_buffer_is_asked_for_again() {
        Namespace::new().run(|| {
            let mut socket = Netlink::open(NETLINK_ROUTE, Deadline::after(Duration::from_secs(10))).unwrap();
            socket.buffer = Vec::with_capacity(64);
            let request = Request::new(libc::RTM_GETLINK, LinkHeader::default());
            let lengths = socket.dump(&request, "links", |_, payload| Ok(Some(payload.len()))).unwrap().unwrap();
            assert!(lengths.iter().all(|&length| length > 64), "{lengths:?}");
            assert!(!lengths.is_empty());
        });
    }
}
