//! When each address came to a node and left it, from the kernel's own notifications.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{ChildStdout, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::command::{Running, command};
use crate::node::{Held, Node};
use crate::wait;

/// One notification.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it was read.
    pub at: Instant,
    /// The address it is about.
    pub address: IpAddr,
    /// Added (or changed) or deleted.
    pub added: bool,
}

/// `ip monitor address` in a node's network namespace, time-stamped, without polling.
#[derive(Debug)]
pub struct AddressWatch {
    events: Arc<Mutex<Vec<Event>>>,
    _monitor: Running,
}

impl AddressWatch {
    /// Begins to watch; ends when it is dropped or the node loses its power.
    pub fn start(node: &Node) -> Result<Self> {
        Self::of_network_of(node.init()?)
    }

    /// Begins to watch the test's own network.
    pub fn here() -> Result<Self> {
        Self::of_network_of(std::process::id())
    }

    fn of_network_of(pid: u32) -> Result<Self> {
        let target = pid.to_string();
        let argv = ["nsenter", "-t", &target, "-n", "ip", "-o", "monitor", "address"];
        let mut monitor = command(argv).start(Stdio::inherit())?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let (reader, shared) = (monitor.stdout()?, Arc::clone(&events));
        let netlink = format!("/proc/{}/net/netlink", monitor.pid());
        thread::spawn(move || record(reader, &shared));
        // Nothing says that the subscription is there; the socket's group mask in /proc/net/netlink does.
        let pid = monitor.pid().to_string();
        wait::until("ip monitor to subscribe", Duration::from_secs(5), wait::QUICK, || {
            let table = std::fs::read_to_string(&netlink).unwrap_or_default();
            Ok(table.lines().any(|line| subscribed(line, &pid)))
        })?;
        Ok(Self { events, _monitor: monitor })
    }

    /// What happened since `since`, oldest first.
    pub fn since(&self, since: Instant) -> Vec<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().filter(|event| event.at >= since).cloned().collect()
    }

    /// Those of `addresses` that were deleted since `since`, even if they came back.
    pub fn lost(&self, since: Instant, addresses: &[IpAddr]) -> BTreeSet<IpAddr> {
        let gone = self.since(since).into_iter().filter(|event| !event.added).map(|event| event.address);
        gone.filter(|address| addresses.contains(address)).collect()
    }

    /// When the last of `addresses` was added since `since`; `None` while one of them has not been.
    pub fn complete(&self, since: Instant, addresses: &[IpAddr]) -> Option<Instant> {
        let added: Vec<_> = self.since(since).into_iter().filter(|event| event.added).collect();
        let first = |address: &IpAddr| added.iter().find(|event| event.address == *address).map(|event| event.at);
        addresses.iter().map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// A line of /proc/net/netlink: `sk Eth Pid Groups …`; Eth 0 is NETLINK_ROUTE, and the port id of a process's first
/// socket is its process id.
fn subscribed(line: &str, pid: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    matches!(words.as_slice(), [_, "0", port, groups, ..] if *port == pid && groups.bytes().any(|digit| digit != b'0'))
}

fn record(reader: ChildStdout, events: &Mutex<Vec<Event>>) {
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        let at = Instant::now();
        let (added, rest) = line.strip_prefix("Deleted ").map_or((true, line.as_str()), |rest| (false, rest));
        if let Ok(held) = Held::parse(rest) {
            let event = Event { at, address: held.address, added };
            events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        }
    }
}
