//! Another host of the segment, with cables to the test's own network: what it hears, and what it claims.

use std::fs::File;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeSpec;

use crate::command::command;
use crate::{addresses, network, wait};

/// The name of its network (ip-netns(8)); its file is in the private /run.
const NAME: &str = "other";

/// Room for the announcements of ten thousand addresses: each frame takes some 800 bytes of it.
const RECEIVE_BUFFER: usize = 64 << 20;

/// The fixed addresses of eth0 of the test's network after [`OtherHost::on_a_segment`].
pub const FIXED: &[&str] = &["192.0.2.1/24 eth0", "2001:db8::1/64 eth0"];

/// The other host; it goes with the test's namespaces.
#[derive(Debug)]
pub struct OtherHost;

impl OtherHost {
    /// A host at the other end of eth0, both with fixed addresses: 192.0.2.1/24 and 2001:db8::1/64 ([`FIXED`]) here,
    /// 192.0.2.254/24 and 2001:db8::fe/64 there.
    pub fn on_a_segment() -> Result<Self> {
        let host = Self::new()?;
        host.cable("eth0")?;
        network::ip("addr add 192.0.2.1/24 brd + dev eth0\naddr add 2001:db8::1/64 dev eth0 nodad\n")?;
        host.ip("addr add 192.0.2.254/24 brd + dev eth0\naddr add 2001:db8::fe/64 dev eth0 nodad\n")?;
        Ok(host)
    }

    /// A host without cables.
    pub fn new() -> Result<Self> {
        command(["ip", "netns", "add", NAME]).text()?;
        let host = Self;
        host.ip("link set lo up\n")?;
        Ok(host)
    }

    /// Lays a cable from `interface` of the test's network to the interface of the same name of this host; both are up
    /// with fixed hardware addresses ([`mac`]).
    pub fn cable(&self, interface: &str) -> Result<()> {
        let (here, there) = (text(mac(interface, 1)), text(mac(interface, 2)));
        let detection = |value: &str| addresses::setting(&format!("ipv6/conf/{interface}/accept_dad"), value);
        network::ip(&format!(
            "link add {interface} address {here} type veth peer name {interface} address {there} netns {NAME}\n"
        ))?;
        // The kernel's link-local address is there at once then, and not a second later in the middle of a test.
        detection("0")?;
        network::ip(&format!("link set {interface} up\n"))?;
        self.ip(&format!("link set {interface} up\n"))?;
        let own = command(["ip", "-o", "addr", "show", "dev", interface, "scope", "link", "-tentative"]);
        let ready = || Ok(!own.text()?.is_empty());
        wait::until("the link-local address", Duration::from_secs(10), wait::QUICK, ready)?;
        detection("1")
    }

    /// Runs ip(8) commands, one a line, on this host.
    pub fn ip(&self, batch: &str) -> Result<()> {
        command(["ip", "-n", NAME, "-batch", "-"]).stdin(batch).text().map(drop)
    }

    /// Runs `work` in a thread of this host. (A network namespace belongs to a thread, not to the process.)
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(format!("/run/netns/{NAME}"))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the other host's network")?;
                work()
            });
            inside.join().map_err(|_| anyhow!("the work on the other host panicked"))?
        })
    }

    /// Begins to listen on all its cables.
    pub fn listen(&self) -> Result<Capture> {
        self.run(|| {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
            Ok(Capture(socket))
        })
    }
}

/// The hardware address of an `interface` of host 1, the test's own network, or 2, the other one.
pub fn mac(interface: &str, host: u8) -> [u8; 6] {
    let number = interface.bytes().last().unwrap_or_default();
    [0x02, 0x77, 0, 0, number, host]
}

/// A hardware address as everybody writes it.
pub fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What a frame says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// Who has it? asked by one who does not have it: an ARP probe (RFC 5227), or a solicitation of duplicate address
    /// detection (RFC 4862).
    Probe,
    /// An ARP request for the sender's own address.
    GratuitousRequest,
    /// An ARP reply with the sender's own address, to everybody.
    GratuitousReply,
    /// An unsolicited neighbour advertisement with the override flag, to all nodes.
    Advertisement,
}

/// A frame about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When the kernel took it in, since 1970.
    pub at: Duration,
    /// Who sent it.
    pub from: [u8; 6],
    /// The address it is about.
    pub address: IpAddr,
    /// What it says.
    pub word: Word,
}

/// What has come over the other host's cables.
#[derive(Debug)]
pub struct Capture(OwnedFd);

impl Capture {
    /// What has come from host 1 since the last look, oldest first: it is in the socket when the sender's send(2) has
    /// returned, because a veth pair hands frames over within it.
    pub fn heard(&self) -> Result<Vec<Heard>> {
        let mut heard = Vec::new();
        while let Some((at, frame)) = self.frame()? {
            heard.extend(parse(at, &frame).filter(|heard| heard.from[..2] == [0x02, 0x77] && heard.from[5] == 1));
        }
        Ok(heard)
    }

    fn frame(&self) -> Result<Option<(Duration, Vec<u8>)>> {
        let mut frame = vec![0; 2048];
        let mut control = nix::cmsg_space!(TimeSpec);
        loop {
            let mut room = [IoSliceMut::new(&mut frame)];
            match recvmsg::<()>(self.0.as_raw_fd(), &mut room, Some(&mut control), MsgFlags::empty()) {
                Ok(message) => {
                    let time = message.cmsgs()?.find_map(|one| match one {
                        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
                        _ => None,
                    });
                    let (time, length) = (time.context("a frame without its time")?, message.bytes);
                    frame.truncate(length);
                    return Ok(Some((time, frame)));
                }
                Err(Errno::EAGAIN) => return Ok(None),
                // An interface of this host went down (packet(7)); the others go on.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => bail!("cannot read a frame: {error}"),
            }
        }
    }
}

/// Offsets in an Ethernet frame of ARP for IPv4 (RFC 826), and of ICMPv6 behind the fixed header of IPv6 (RFC 8200,
/// RFC 4861).
fn parse(at: Duration, frame: &[u8]) -> Option<Heard> {
    let from = frame.get(6..12)?.try_into().ok()?;
    let (address, word) = match frame.get(12..14)? {
        [0x08, 0x06] => about_ipv4(frame.get(14..42)?)?,
        [0x86, 0xdd] if *frame.get(20)? == 58 => about_ipv6(frame)?,
        _ => return None,
    };
    Some(Heard { at, from, address, word })
}

fn about_ipv4(arp: &[u8]) -> Option<(IpAddr, Word)> {
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(arp.get(at..at + 4)?).ok()?));
    let (sender, target) = (address(14)?, address(24)?);
    let word = match (arp[7], sender) {
        (1, Ipv4Addr::UNSPECIFIED) => Word::Probe,
        (1, own) if own == target => Word::GratuitousRequest,
        (2, own) if own == target => Word::GratuitousReply,
        _ => return None,
    };
    Some((target.into(), word))
}

fn about_ipv6(frame: &[u8]) -> Option<(IpAddr, Word)> {
    let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
    let (sender, receiver, target) = (address(22)?, address(38)?, address(62)?);
    let all_nodes: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let word = match (frame[54], *frame.get(58)?) {
        (135, _) if sender.is_unspecified() => Word::Probe,
        (136, flags) if flags & 0xe0 == 0x20 && receiver == all_nodes => Word::Advertisement,
        _ => return None,
    };
    Some((target.into(), word))
}
