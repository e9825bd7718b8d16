//! The kernel's TCP connections, listed and ended (sock_diag(7)).

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use nix::libc;
use ocf::Deadline;
use rtnetlink::packet_core::NetlinkSerializable;
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use super::datagram::Refusal;
use super::socket::Netlink;

/// Message types of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
/// The states of include/net/tcp_states.h in which there is a client to be told: ESTABLISHED, SYN_SENT to CLOSING and the unfinished handshakes (TCP_NEW_SYN_RECV). A listening socket stays with its service,
/// which would not open it again; TIME_WAIT and CLOSE have nobody at the other end.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12;
/// `struct inet_diag_sockid` (linux/inet_diag.h): ports, addresses, interface, cookie.
const IDENTITY: usize = 48;
/// `struct inet_diag_req_v2` (linux/inet_diag.h): four bytes, the states, the identity.
const REQUEST: usize = 8 + IDENTITY;

/// A connection as the kernel identifies it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connection {
    family: u8,
    identity: [u8; IDENTITY],
}

#[derive(Debug, Clone, Copy)]
enum Request {
    List { family: u8 },
    Destroy(Connection),
}

/// The kernel's table of TCP connections.
pub(crate) struct Connections(Netlink);

impl Connections {
    /// Opens it. Nothing asked of it waits beyond `deadline`.
    pub(crate) fn open(deadline: Deadline) -> Result<Self> {
        Ok(Self(Netlink::open(NETLINK_SOCK_DIAG, deadline)?))
    }

    /// All connections over IPv4 and IPv6 that have somebody at the other end.
    pub(crate) fn list(&mut self) -> Result<Vec<Connection>> {
        let mut connections = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let request = Request::List { family: u8::try_from(family)? };
            let found = self.0.dump(&request, "TCP connections", |_, payload| Connection::parse(payload).map(Some))?;
            connections.extend(found.context("cannot list TCP connections (CONFIG_INET_DIAG, module tcp_diag)")?);
        }
        Ok(connections)
    }

    /// Ends connections; the answers are in the same order: `ENOENT` if one has ended by itself, `EOPNOTSUPP` if the
    /// kernel was built without CONFIG_INET_DIAG_DESTROY.
    pub(crate) fn end(&mut self, connections: &[Connection]) -> Result<Vec<Result<(), Refusal>>> {
        let what = format!("{} TCP connections to end", connections.len());
        self.0.carry_out(connections, 0, &what, |connection| Request::Destroy(*connection))
    }
}

impl Connection {
    /// Reads `struct inet_diag_msg` (linux/inet_diag.h): family, three bytes, identity, counters.
    fn parse(payload: &[u8]) -> Result<Self> {
        let identity = payload.get(4..4 + IDENTITY).context("a connection cut short")?.try_into()?;
        Ok(Self { family: payload[0], identity })
    }

    /// Its address on this node; of an IPv4 connection of an IPv6 socket the IPv4 address.
    pub(crate) fn local(&self) -> IpAddr {
        // Behind the two ports; an IPv4 address takes the first of the 16 bytes.
        let [a, b, c, d] = std::array::from_fn(|offset| self.identity[4 + offset]);
        if i32::from(self.family) == libc::AF_INET {
            return Ipv4Addr::new(a, b, c, d).into();
        }
        let bytes: [u8; 16] = std::array::from_fn(|offset| self.identity[4 + offset]);
        IpAddr::V6(bytes.into()).to_canonical()
    }
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        match self {
            Self::List { .. } => SOCK_DIAG_BY_FAMILY,
            Self::Destroy(_) => SOCK_DESTROY,
        }
    }

    fn buffer_len(&self) -> usize {
        REQUEST
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (family, identity) = match self {
            Self::List { family } => (*family, [0; IDENTITY]),
            Self::Destroy(connection) => (connection.family, connection.identity),
        };
        buffer[0] = family;
        // IPPROTO_TCP is 6 (RFC 9293); what follows are no extensions and a byte of padding.
        buffer[1..4].copy_from_slice(&[6, 0, 0]);
        buffer[4..8].copy_from_slice(&CONNECTED.to_ne_bytes());
        buffer[8..REQUEST].copy_from_slice(&identity);
    }
}
