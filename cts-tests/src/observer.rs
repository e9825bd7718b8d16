//! What a client sees: one thread on the bridge that pings many addresses and remembers when each answered.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg, sendto,
    setsockopt, socket, sockopt,
};

/// ICMP echo request and reply (RFC 792), ICMPv6 echo request and reply (RFC 4443, section 4).
const ECHO: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// Marks this process's requests: no other pings on this bridge.
const IDENTIFIER: u16 = 0x6361;

/// Requests are spread over the interval in steps of about this length, not sent in one burst.
const STEP: Duration = Duration::from_millis(10);

/// Pings a set of addresses for as long as it lives.
#[derive(Debug)]
pub struct Observer {
    addresses: Vec<IpAddr>,
    interval: Duration,
    began: Instant,
    answers: Arc<Mutex<Vec<Vec<Duration>>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// How long the addresses were unreachable in a window of time.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// The longest silence of any address.
    pub worst: Duration,
    /// The address it belongs to.
    pub worst_address: IpAddr,
    /// The longest of an IPv4 address, if one was observed.
    pub worst_ipv4: Option<Duration>,
    /// The longest of an IPv6 address, if one was observed.
    pub worst_ipv6: Option<Duration>,
    /// The median, over the addresses, of the longest silence of each.
    pub median: Duration,
}

impl Observer {
    /// Begins to ping each of `addresses` every `interval`, from the bridge's own addresses.
    pub fn start(addresses: &[IpAddr], interval: Duration) -> Result<Self> {
        ensure!(!addresses.is_empty(), "an observer needs an address to observe");
        let began = Instant::now();
        let answers = Arc::new(Mutex::new(vec![Vec::new(); addresses.len()]));
        let ended = Arc::new(AtomicBool::new(false));
        let pinger = Pinger {
            sockets: [raw(AddressFamily::Inet, SockProtocol::Icmp)?, raw(AddressFamily::Inet6, SockProtocol::IcmpV6)?],
            addresses: addresses.to_vec(),
            index: addresses.iter().copied().zip(0..).collect(),
            answers: Arc::clone(&answers),
            ended: Arc::clone(&ended),
            began,
        };
        let thread = Some(thread::Builder::new().name("observer".into()).spawn(move || pinger.run(interval))?);
        Ok(Self { addresses: addresses.to_vec(), interval, began, answers, ended, thread })
    }

    /// The time between two requests to one address: no outage is known more exactly.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// For each address the longest time without an answer between `from` and `to`. The silence before the first
    /// answer in the window counts from the last one before it, that after the last one until `to`.
    pub fn outage(&self, from: Instant, to: Instant) -> Outage {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = (self.offset(from), self.offset(to));
        let silence = answers.iter().map(|times| longest_silence(times, from, to));
        let mut silences: Vec<_> = silence.zip(self.addresses.iter().copied()).collect();
        silences.sort();
        let (worst, worst_address) = silences[silences.len() - 1];
        let of_family = |ipv6: bool| silences.iter().rev().find(|(_, address)| address.is_ipv6() == ipv6);
        let [worst_ipv4, worst_ipv6] = [false, true].map(|ipv6| of_family(ipv6).map(|(silence, _)| *silence));
        Outage { worst, worst_address, worst_ipv4, worst_ipv6, median: silences[silences.len() / 2].0 }
    }

    /// Those addresses that have not answered since `since`.
    pub fn silent(&self, since: Instant) -> Vec<IpAddr> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let since = self.offset(since);
        let quiet = |times: &Vec<Duration>| times.last().is_none_or(|last| *last < since);
        self.addresses.iter().zip(answers.iter()).filter(|(_, times)| quiet(times)).map(|(one, _)| *one).collect()
    }

    /// When each address answered for the first time after `since`, in the order of the addresses.
    pub fn first_answers(&self, since: Instant) -> Vec<(IpAddr, Option<Instant>)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let from = self.offset(since);
        let first = |times: &Vec<Duration>| times.get(times.partition_point(|time| *time <= from)).copied();
        let instants = answers.iter().map(|times| first(times).map(|time| self.began + time));
        self.addresses.iter().copied().zip(instants).collect()
    }

    /// When the last of the addresses had answered again after `since`; `None` while one has not.
    pub fn all_answered(&self, since: Instant) -> Option<Instant> {
        self.first_answers(since).into_iter().map(|(_, at)| at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn offset(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.began)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the observer died: {panic:?}");
        }
    }
}

/// The longest time between two of `times`, which ascend, that touches the window; until `to` after the last of them.
pub(crate) fn longest_silence(times: &[Duration], from: Duration, to: Duration) -> Duration {
    let first = times.partition_point(|time| *time <= from);
    let end = times.partition_point(|time| *time <= to);
    let mut previous = if first == 0 { from } else { times[first - 1] };
    let mut longest = Duration::ZERO;
    for time in times[first..end].iter().copied().chain([to]) {
        longest = longest.max(time.saturating_sub(previous));
        previous = time;
    }
    longest
}

fn raw(family: AddressFamily, protocol: SockProtocol) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Raw, flags, protocol).context("cannot open a raw ICMP socket")?;
    // Requests to a neighbour that is being looked for count against the send buffer: those to the others must still
    // fit. And the answers of 500 addresses may arrive while this thread waits for a processor.
    setsockopt(&socket, sockopt::SndBufForce, &(16 << 20))?;
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20))?;
    Ok(socket)
}

struct Pinger {
    sockets: [OwnedFd; 2],
    addresses: Vec<IpAddr>,
    index: HashMap<IpAddr, usize>,
    answers: Arc<Mutex<Vec<Vec<Duration>>>>,
    ended: Arc<AtomicBool>,
    began: Instant,
}

impl Pinger {
    fn run(&self, interval: Duration) {
        let steps = usize::try_from(interval.as_millis() / STEP.as_millis()).unwrap_or(1).max(1);
        let step = interval / u32::try_from(steps).unwrap_or(1);
        let mut next = Instant::now();
        for round in 0_usize.. {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            for address in self.addresses.iter().skip(round % steps).step_by(steps) {
                self.request(*address);
            }
            // After a pause of this thread (a loaded machine) it goes on from now, without a burst to catch up.
            next = (next + step).max(Instant::now());
            self.listen(next);
        }
    }

    /// An address that cannot be reached makes sending fail in many ways, and all of them mean: no answer.
    fn request(&self, address: IpAddr) {
        let [v4, v6] = &self.sockets;
        let _unreachable = match address {
            IpAddr::V4(ip) => send(v4, ECHO.0, &SockaddrIn::from(SocketAddrV4::new(ip, 0))),
            IpAddr::V6(ip) => send(v6, ECHO_V6.0, &SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0))),
        };
    }

    fn listen(&self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let mut polled = self.sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::ZERO);
            if poll(&mut polled, timeout).is_ok_and(|ready| ready > 0) {
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                self.drain::<SockaddrIn>(&self.sockets[0], &mut answers, |from| IpAddr::V4(from.ip()));
                self.drain::<SockaddrIn6>(&self.sockets[1], &mut answers, |from| IpAddr::V6(from.ip()));
            }
        }
    }

    fn drain<A: SockaddrLike>(&self, socket: &OwnedFd, answers: &mut [Vec<Duration>], ip: impl Fn(&A) -> IpAddr) {
        let mut buffer = [0; 128];
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received = recvmsg::<A>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT);
            let (length, source) = match received {
                Ok(message) => (message.bytes, message.address.as_ref().map(&ip)),
                // The kernel reports here that an earlier request could not be delivered.
                Err(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EINTR) => continue,
                Err(_) => return,
            };
            let Some(source) = source.filter(|source| is_answer(&buffer[..length], source.is_ipv4())) else { continue };
            if let Some(index) = self.index.get(&source) {
                answers[*index].push(self.began.elapsed());
            }
        }
    }
}

fn send(socket: &OwnedFd, kind: u8, to: &dyn SockaddrLike) -> nix::Result<usize> {
    let mut packet = [0; 16];
    packet[0] = kind;
    packet[4..6].copy_from_slice(&IDENTIFIER.to_be_bytes());
    // The sequence number stays 0: what counts is when an answer comes, not to which request.
    // The kernel fills in the checksum of ICMPv6 only (RFC 3542, section 3.1).
    let checksum = checksum(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    sendto(socket.as_raw_fd(), &packet, to, MsgFlags::MSG_DONTWAIT)
}

/// A raw IPv4 socket delivers the IP header too (raw(7)), a raw IPv6 socket does not.
fn is_answer(packet: &[u8], ipv4: bool) -> bool {
    let header = if ipv4 { usize::from(packet.first().unwrap_or(&0) & 0xf) * 4 } else { 0 };
    let reply = if ipv4 { ECHO.1 } else { ECHO_V6.1 };
    let identifier = IDENTIFIER.to_be_bytes();
    packet.get(header..).is_some_and(|icmp| icmp.first() == Some(&reply) && icmp.get(4..6) == Some(&identifier))
}

/// The Internet checksum (RFC 1071) of a packet of even length.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    loop {
        match u16::try_from(sum) {
            Ok(sum) => return !sum,
            Err(_) => sum = (sum & 0xffff) + (sum >> 16),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{checksum, longest_silence};
    use std::time::Duration;

    #[test]
    fn silence_counts_from_the_last_answer_before_the_window_to_its_end() {
        let ms = Duration::from_millis;
        let times = [100, 200, 900, 1000].map(ms);
        assert_eq!(longest_silence(&times, ms(250), ms(1000)), ms(700));
        assert_eq!(longest_silence(&times, ms(950), ms(2000)), ms(1000));
        assert_eq!(longest_silence(&[], ms(10), ms(30)), ms(20));
        assert_eq!(longest_silence(&times, ms(100), ms(200)), ms(100));
    }

    #[test]
    fn checksum_of_the_example_in_rfc_1071() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
