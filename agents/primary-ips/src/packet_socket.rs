//! Raw frames out of and into one interface (packet(7)).
#![allow(unsafe_code, reason = "nix cannot build a sockaddr_ll, nor attach a filter to a socket")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, recv, send, setsockopt, socket, sockopt,
};
use ocf::Deadline;

/// Room for the answers of some thousand hosts at once; a frame occupies up to 2,304 bytes of it.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// How long a full transmit queue is given to drain before the next try.
const QUEUE_DRAINS: Duration = Duration::from_millis(1);

/// Which frames a socket takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Listen {
    /// None: it only sends.
    Nothing,
    /// ARP.
    Arp,
    /// IPv6 neighbour solicitations and advertisements.
    Neighbours,
}

/// A socket on one interface.
pub(crate) struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// A socket on the interface with the index `link`.
    pub(crate) fn open(link: u32, listen: Listen) -> Result<Self> {
        // Protocol 0 takes in nothing (packet(7)), so that no frame slips in before the filter and the interface are set.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)
            .context("cannot open a packet socket (needs CAP_NET_RAW)")?;
        if listen != Listen::Nothing {
            // Needs CAP_NET_ADMIN; without it the default has to do.
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).ok();
        }
        let protocol = match listen {
            Listen::Nothing => 0,
            Listen::Arp => libc::ETH_P_ARP,
            Listen::Neighbours => {
                // The host's whole IPv6 traffic would come in otherwise.
                take_only(&socket, &NEIGHBOUR_DISCOVERY).context("cannot filter what a packet socket takes in")?;
                libc::ETH_P_IPV6
            }
        };
        let address = interface(link, u16::try_from(protocol)?)?;
        bind(socket.as_raw_fd(), &address).with_context(|| format!("cannot bind a packet socket to link {link}"))?;
        Ok(Self(socket))
    }

    /// Sends a frame, trying again until `deadline` while the interface has no room for it. False if the interface is
    /// down or gone.
    pub(crate) fn send(&self, frame: &[u8], deadline: Deadline) -> Result<bool> {
        loop {
            match send(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(true),
                Err(Errno::ENETDOWN | Errno::ENODEV | Errno::ENXIO) => return Ok(false),
                // The socket's or the interface's queue is full.
                Err(Errno::EAGAIN | Errno::ENOBUFS) if deadline.sleep(QUEUE_DRAINS) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    bail!("an interface took no frame until the deadline, {:.1?} after the start", deadline.budget())
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot send a frame"),
            }
        }
    }

    /// Takes a frame that has come in, without waiting, and returns its length as far as it fits into `frame`.
    pub(crate) fn receive(&self, frame: &mut [u8]) -> Result<Option<usize>> {
        loop {
            match recv(self.0.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(length) => return Ok(Some(length)),
                // The interface went down (packet(7)): nothing comes in.
                Err(Errno::EAGAIN | Errno::ENETDOWN | Errno::ENODEV) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot receive a frame"),
            }
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The address of an interface for bind(2).
fn interface(link: u32, protocol: u16) -> Result<LinkAddr> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET)?,
        sll_protocol: protocol.to_be(),
        sll_ifindex: i32::try_from(link)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address))?;
    // SAFETY: the pointer is to a whole sockaddr_ll that lives beyond the call, and the length is its size.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }.context("not a link address")
}

/// A classic BPF program over the frame (Documentation/networking/filter.rst): IPv6 whose next header is ICMPv6 and whose
/// message is of type 135 or 136.
const NEIGHBOUR_DISCOVERY: [libc::sock_filter; 7] = [
    load_byte(14 + 6),
    unless_equal(58, 4),
    load_byte(14 + 40),
    if_equal(135, 1),
    unless_equal(136, 1),
    take(u32::MAX),
    take(0),
];

const fn load_byte(position: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, [0, 0], position)
}

/// Skips so many instructions if the byte equals `value`.
const fn if_equal(value: u32, skip: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, [skip, 0], value)
}

/// Skips so many instructions if the byte does not equal `value`.
const fn unless_equal(value: u32, skip: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, [0, skip], value)
}

/// Ends the program: so many bytes of the frame are wanted.
const fn take(bytes: u32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, [0, 0], bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "codes have 8 bits; libc has them wider than struct sock_filter")]
const fn instruction(code: u32, [jt, jf]: [u8; 2], k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn take_only(socket: &OwnedFd, program: &[libc::sock_filter]) -> Result<()> {
    // The kernel only reads it (`copy_bpf_fprog_from_user` in net/core/filter.c).
    let program = libc::sock_fprog { len: u16::try_from(program.len())?, filter: program.as_ptr().cast_mut() };
    let length = libc::socklen_t::try_from(size_of_val(&program))?;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: the pointer is to a whole sock_fprog whose instructions live beyond the call; the kernel copies both.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const program).cast(), length) };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, UdpSocket};

    use super::*;
    use crate::frame::{Form, Hardware, announcement, probe};
    use crate::kernel::Kernel;
    use crate::netns::Namespace;

    fn open(network: &Namespace, listen: Listen) -> PacketSocket {
        network.run(|| {
            let deadline = Deadline::after(Duration::from_secs(10));
            let link = Kernel::open(deadline).unwrap().link_named("eth0").unwrap().unwrap().index;
            PacketSocket::open(link, listen).unwrap()
        })
    }

    fn drain(socket: &PacketSocket) -> Vec<Vec<u8>> {
        let mut frame = [0; 2048];
        std::iter::from_fn(|| {
            let length = socket.receive(&mut frame).unwrap()?;
            Some(frame[..length].to_vec())
        })
        .collect()
    }

    #[test]
    fn a_socket_takes_in_what_it_is_there_for_and_nothing_else() {
        let (here, there) = (Namespace::new(), Namespace::new());
        here.cable("eth0", &there, "eth0");
        there.add_address("eth0", "2001:db8::9/64");
        there.ip("neighbour add 2001:db8::1 lladdr 02:00:00:00:00:0a dev eth0");
        let sockets = [Listen::Arp, Listen::Neighbours, Listen::Nothing].map(|listen| open(&here, listen));
        for socket in &sockets {
            drain(socket);
        }
        let own = Hardware([0x02, 0, 0, 0, 0, 0x0b]);
        let [v4, v6]: [IpAddr; 2] = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let sender = open(&there, Listen::Nothing);
        let frames = [probe(v4, own), announcement(v6, own, Form::Request), probe(v6, own)];
        let deadline = Deadline::after(Duration::from_secs(10));
        for frame in &frames {
            assert!(sender.send(frame, deadline).unwrap());
        }
        there.run(|| UdpSocket::bind("[2001:db8::9]:0").unwrap().send_to(b"x", "[2001:db8::1]:9").unwrap());
        let [arp, neighbours, nothing] = sockets.map(|socket| drain(&socket));
        assert_eq!((arp, nothing), (vec![frames[0].clone()], vec![]));
        // The kernel of the other end has neighbours of its own to ask for.
        assert!(neighbours.iter().all(|frame| frame[20] == 58 && matches!(frame[54], 135 | 136)), "{neighbours:x?}");
        assert!(frames[1..].iter().all(|frame| neighbours.contains(frame)), "{neighbours:x?}");
        let all = open(&here, Listen::Arp);
        assert_eq!(drain(&all), Vec::<Vec<u8>>::new(), "nothing from before it was opened");
    }
}
