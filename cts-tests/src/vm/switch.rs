//! The cables between guests: two switches in user space, one for Corosync and clients, one for replication. Frames travel
//! as datagrams between Unix sockets, and can be dropped or delayed on their way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// eth0: Corosync, clients, fencing devices.
    Ring,
    /// eth1: DRBD.
    Replication,
}

impl Link {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ring, Self::Replication];

    /// Its name in command lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Replication => "replication",
        }
    }
}

/// What happens to frames from one guest to another on one link; nothing, unless told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// How many of a hundred frames are lost.
    pub loss: u8,
    /// How much later they arrive.
    pub delay: Duration,
}

impl Weather {
    /// Nothing gets through.
    pub const CUT: Self = Self { loss: 100, delay: Duration::ZERO };
}

/// The MAC address of a guest's interface; fixed, so that a guest that comes back is known to its peers.
pub fn mac(link: Link, number: u8) -> [u8; 6] {
    [0x02, 0x79, 0, 0, link as u8, number]
}

/// Where a guest's card and its port of the switch are, below the guest's directory of sockets.
pub fn sockets(directory: &Path, link: Link) -> [PathBuf; 2] {
    ["card", "port"].map(|end| directory.join(format!("{}-{end}", link.word())))
}

/// A guest's port on one link.
struct Port {
    link: Link,
    number: u8,
    socket: UnixDatagram,
    card: PathBuf,
}

/// A frame on its way, the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    due: Instant,
    order: u64,
    port: usize,
    frame: Vec<u8>,
}

/// Both switches.
#[derive(Debug, Default)]
pub struct Switch {
    weather: Mutex<BTreeMap<(Link, u8, u8), Weather>>,
}

impl Switch {
    /// Opens a port on each link for every guest, given by number and directory of sockets, and forwards from now on.
    pub fn start(guests: &[(u8, PathBuf)]) -> Result<Arc<Self>> {
        let mut ports = Vec::new();
        for (number, directory) in guests {
            for link in Link::ALL {
                let [card, port] = sockets(directory, link);
                let socket = UnixDatagram::bind(&port).with_context(|| format!("no socket at {}", port.display()))?;
                socket.set_nonblocking(true)?;
                ports.push(Port { link, number: *number, socket, card });
            }
        }
        let switch = Arc::new(Self::default());
        let forwarding = Arc::clone(&switch);
        thread::Builder::new().name("switch".into()).spawn(move || forwarding.forward(&ports))?;
        Ok(switch)
    }

    /// The weather on `link` between two guests, in both directions.
    pub fn between(&self, link: Link, one: u8, other: u8, weather: Weather) {
        self.from(link, one, other, weather);
        self.from(link, other, one, weather);
    }

    /// The weather on `link` in one direction.
    pub fn from(&self, link: Link, from: u8, to: u8, weather: Weather) {
        self.weather().insert((link, from, to), weather);
    }

    /// Fine weather everywhere.
    pub fn mend(&self) {
        self.weather().clear();
    }

    fn weather(&self) -> MutexGuard<'_, BTreeMap<(Link, u8, u8), Weather>> {
        self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forward(&self, ports: &[Port]) {
        let (mut flights, mut order, mut dice) = (BinaryHeap::new(), 0, Dice(0x2545_F491_4F6C_DD1D));
        let mut buffer = vec![0; 1 << 17];
        loop {
            let mut waiting: Vec<_> =
                ports.iter().map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN)).collect();
            // A signal ends the wait early, and so does nothing to be done.
            let _ready = poll(&mut waiting, patience(&flights));
            for port in ports {
                while let Some(length) = receive(&port.socket, &mut buffer) {
                    for (index, target) in ports.iter().enumerate().filter(|(_, target)| reaches(port, target, &buffer))
                    {
                        let key = (port.link, port.number, target.number);
                        let weather = self.weather().get(&key).copied().unwrap_or_default();
                        if dice.hundred() < weather.loss {
                            continue;
                        }
                        if weather.delay.is_zero() {
                            deliver(target, &buffer[..length]);
                            continue;
                        }
                        order += 1;
                        let due = Instant::now() + weather.delay;
                        flights.push(Reverse(Flight { due, order, port: index, frame: buffer[..length].to_vec() }));
                    }
                }
            }
            while flights.peek().is_some_and(|Reverse(flight)| flight.due <= Instant::now()) {
                let Some(Reverse(flight)) = flights.pop() else { break };
                deliver(&ports[flight.port], &flight.frame);
            }
        }
    }
}

/// Until the next delayed frame is due.
fn patience(flights: &BinaryHeap<Reverse<Flight>>) -> PollTimeout {
    let next = flights.peek().map(|Reverse(flight)| flight.due.saturating_duration_since(Instant::now()));
    // Rounded up: a timeout of 0 would spin until the millisecond is over.
    next.and_then(|left| PollTimeout::try_from(left.as_millis() + 1).ok()).unwrap_or(PollTimeout::from(1000_u16))
}

fn receive(socket: &UnixDatagram, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match socket.recv(buffer) {
            Ok(length) => return Some(length),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The frame's destination is its first six bytes, and the lowest bit of the first is that of a group (IEEE 802.3).
fn reaches(from: &Port, to: &Port, frame: &[u8]) -> bool {
    let other = from.link == to.link && from.number != to.number;
    other && (frame[0] & 1 == 1 || frame[..6] == mac(to.link, to.number))
}

/// A guest without power, or with a full queue, loses the frame, as at any switch.
fn deliver(to: &Port, frame: &[u8]) {
    let _lost = to.socket.send_to(frame, &to.card);
}

/// Xorshift64 (Marsaglia 2003): the same losses in every run.
struct Dice(u64);

impl Dice {
    fn hundred(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u8::try_from(self.0 % 100).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;
    use std::time::{Duration, Instant};

    use super::{Link, Switch, Weather, mac, sockets};

    /// Ten frames of guest 1 to `to` on the ring, and how many of them guests 2 and 3 receive.
    fn received(cards: &[UnixDatagram], to: [u8; 6]) -> [usize; 2] {
        for _ in 0..10 {
            cards[0].send(&[&to[..], &mac(Link::Ring, 1), b"frame"].concat()).unwrap();
        }
        [1, 2].map(|guest| (0..10).take_while(|_| cards[guest].recv(&mut [0; 64]).is_ok()).count())
    }

    #[test]
    fn frames_reach_whom_they_are_for_unless_the_weather_is_bad() {
        let directory = std::env::temp_dir().join(format!("cts-tests-switch-{}", std::process::id()));
        let guests: Vec<_> = [1_u8, 2, 3].map(|number| (number, directory.join(number.to_string()))).into();
        for (_, directory) in &guests {
            fs::create_dir_all(directory).unwrap();
        }
        let switch = Switch::start(&guests).unwrap();
        let card = |(_, directory): &(u8, std::path::PathBuf)| {
            let [card, port] = sockets(directory, Link::Ring);
            let card = UnixDatagram::bind(card).unwrap();
            card.connect(port).unwrap();
            card.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            card
        };
        let cards: Vec<_> = guests.iter().map(card).collect();
        let everybody = [0xff; 6];
        assert_eq!(received(&cards, mac(Link::Ring, 3)), [0, 10]);
        assert_eq!(received(&cards, mac(Link::Replication, 3)), [0, 0]);
        assert_eq!(received(&cards, everybody), [10, 10]);
        switch.from(Link::Ring, 1, 2, Weather::CUT);
        assert_eq!(received(&cards, everybody), [0, 10]);
        switch.between(Link::Ring, 1, 2, Weather { loss: 0, delay: Duration::from_millis(100) });
        let began = Instant::now();
        assert_eq!(received(&cards, mac(Link::Ring, 2)), [10, 0]);
        assert!(began.elapsed() >= Duration::from_millis(100));
        switch.mend();
        assert_eq!(received(&cards, everybody), [10, 10]);
        fs::remove_dir_all(&directory).unwrap();
    }
}
