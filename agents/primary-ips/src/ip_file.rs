//! The file that lists the addresses, by default /etc/hvmail_primary_ips.
//!
//! One `address/prefix [interface]` a line. The vendor's file has the first word only; comments from `#` to the end of
//! the line, blank lines, IPv6 and the interface are extensions.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A longer line than this is shown in part: it may be a whole file without line breaks.
const SHOWN: usize = 60;
/// So many refusals are named one by one in a reason, which has one line; the number of the others is given.
const NAMED: usize = 5;
/// So many more are for the log, where each has a line of its own. A file with more is no list of addresses at all.
const LOGGED: usize = 200;
/// The kernel's limit for an interface name with its closing zero (IFNAMSIZ, linux/if.h).
const INTERFACE_NAME_SIZE: usize = 16;

/// An address the file lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The address.
    pub(crate) address: IpAddr,
    /// The length of its subnet's prefix.
    pub(crate) prefix: u8,
    /// The interface, where the line names one.
    pub(crate) interface: Option<String>,
    /// The line's number, from 1.
    pub(crate) line: usize,
}

/// A line that cannot be what its writer meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    line: usize,
    text: String,
    reason: String,
}

/// What the file says: every line is either in one of the lists or says nothing.
#[derive(Debug, Default)]
pub(crate) struct IpFile {
    /// The lines that are right, in the file's order.
    pub(crate) entries: Vec<Entry>,
    /// The lines that are not.
    pub(crate) refusals: Vec<Refusal>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {:?}: {}", self.line, self.text, self.reason)
    }
}

impl IpFile {
    /// Reads any bytes. `reserved` are addresses that must stay on this node, whoever is promoted, and what they are for.
    pub(crate) fn parse(bytes: &[u8], reserved: &HashMap<IpAddr, String>) -> Self {
        let mut file = Self::default();
        let mut seen: HashMap<IpAddr, (usize, u8)> = HashMap::new();
        // A byte order mark is what an editor on Windows puts first.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let text = bytes.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if text.is_empty() {
                continue;
            }
            let read = read_line(text).and_then(|(net, interface)| {
                free(net.addr(), reserved)?;
                once(&mut seen, line, net)?;
                Ok(Entry { address: net.addr(), prefix: net.prefix_len(), interface, line })
            });
            match read {
                Ok(entry) => file.entries.push(entry),
                Err(reason) => file.refusals.push(Refusal { line, text: shown(text), reason }),
            }
        }
        file
    }

    /// What is wrong with the file as a whole, for a reason: every refused line, or that there is none at all.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.refusals.is_empty() {
            return self.entries.is_empty().then(|| "it lists no address".to_owned());
        }
        let mut words: Vec<_> = self.refusals.iter().take(NAMED).map(ToString::to_string).collect();
        if let Some(more @ 1..) = self.refusals.len().checked_sub(NAMED) {
            words.push(format!("and {more} more wrong lines"));
        }
        Some(words.join("; "))
    }

    /// The refused lines that [`IpFile::fault`] only counts, for the log.
    pub(crate) fn unnamed(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.iter().skip(NAMED).take(LOGGED)
    }

    /// The number of addresses and a digest of the list, the same for every file that means the same.
    pub(crate) fn digest(&self) -> String {
        let line = |entry: &Entry| (entry.address, entry.prefix, entry.interface.clone());
        let mut lines: Vec<_> = self.entries.iter().map(line).collect();
        lines.sort_unstable();
        let mut hash = Fnv::new();
        for (address, prefix, interface) in &lines {
            match address {
                IpAddr::V4(address) => hash.add(&address.octets()),
                IpAddr::V6(address) => hash.add(&address.octets()),
            }
            hash.add(&[*prefix]);
            hash.add(interface.as_deref().unwrap_or_default().as_bytes());
            hash.add(b"\n");
        }
        format!("{}:{:016x}", lines.len(), hash.value())
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv): the two nodes may run different builds of this agent, so the hash must be one
/// that is written down; it need not withstand an enemy.
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn read_line(text: &[u8]) -> Result<(IpNet, Option<String>), String> {
    let text =
        std::str::from_utf8(text).map_err(|_| "it is not text; one address/prefix a line is expected".to_owned())?;
    let mut words = text.split_ascii_whitespace();
    let net = read_net(words.next().unwrap_or_default())?;
    let interface = words.next().map(read_interface).transpose()?;
    if let Some(word) = words.next() {
        return Err(format!("{word:?} follows the interface; one address/prefix [interface] a line is expected"));
    }
    if interface.is_none() && is_link_local(net.addr()) {
        return Err("a link-local address needs its interface: write it after the prefix".to_owned());
    }
    Ok((net, interface))
}

fn read_net(word: &str) -> Result<IpNet, String> {
    let Some((address, prefix)) = word.split_once('/') else {
        return Err(match word.parse::<IpAddr>() {
            Ok(address) => format!("the prefix length is missing; {address}/{} is the form", example_prefix(address)),
            Err(_) => "an address with its prefix length is expected, such as 192.0.2.10/24".to_owned(),
        });
    };
    let address: IpAddr = address.parse().map_err(|_| format!("{address:?} is no IPv4 or IPv6 address"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let wrong = || format!("{prefix:?} is no prefix length; a whole number from 1 to {most} is expected");
    let digits_only = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let length = if digits_only { prefix.parse::<u8>().map_err(|_| wrong())? } else { return Err(wrong()) };
    if length == 0 {
        return Err("a prefix length of 0 would make the whole Internet a neighbour".to_owned());
    }
    let net = IpNet::new(address, length).map_err(|_| wrong())?;
    usable(net).map_err(str::to_owned)?;
    Ok(net)
}

fn example_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

/// Whether a host may have this address as one of its own.
fn usable(net: IpNet) -> Result<(), &'static str> {
    let address = net.addr();
    if address.is_unspecified() || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0) {
        return Err("an address of network 0 means \"this host\" and belongs to nobody (RFC 1122, 3.2.1.3)");
    }
    if address.is_loopback() {
        return Err("a loopback address never leaves the node");
    }
    if address.is_multicast() {
        return Err("a multicast address belongs to a group, not to a node");
    }
    if matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 240) {
        return Err("addresses from 240.0.0.0 on are reserved, and 255.255.255.255 is the broadcast address");
    }
    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        return Err("it is an IPv4 address in IPv6 clothes; write it as IPv4");
    }
    // A prefix that leaves one bit or none has no addresses of its own to set aside (RFC 3021, RFC 6164).
    let set_aside = net.max_prefix_len() - net.prefix_len() > 1;
    if set_aside && address == net.network() {
        return Err(match address {
            IpAddr::V4(_) => "it is the network's own address; is it the prefix length that is wrong?",
            IpAddr::V6(_) => {
                "it is the subnet's router anycast address (RFC 4291, 2.6.1), which every router answers to"
            }
        });
    }
    if set_aside && address.is_ipv4() && address == net.broadcast() {
        return Err("it is the network's broadcast address; is it the prefix length that is wrong?");
    }
    Ok(())
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// What the kernel takes for a name (`dev_valid_name`, net/core/dev.c).
fn read_interface(word: &str) -> Result<String, String> {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if word.len() >= INTERFACE_NAME_SIZE || word == "." || word == ".." || word.contains(forbidden) {
        return Err(format!("{word:?} cannot be the name of an interface"));
    }
    Ok(word.to_owned())
}

fn free(address: IpAddr, reserved: &HashMap<IpAddr, String>) -> Result<(), String> {
    match reserved.get(&address) {
        Some(purpose) => Err(format!("this address belongs to the node itself: {purpose}; it must not move")),
        None => Ok(()),
    }
}

fn once(seen: &mut HashMap<IpAddr, (usize, u8)>, line: usize, net: IpNet) -> Result<(), String> {
    match seen.entry(net.addr()) {
        Slot::Vacant(slot) => {
            slot.insert((line, net.prefix_len()));
            Ok(())
        }
        Slot::Occupied(slot) => match *slot.get() {
            (first, prefix) if prefix == net.prefix_len() => Err(format!("it is in line {first} already")),
            (first, prefix) => Err(format!("line {first} has the same address with prefix length {prefix}; keep one")),
        },
    }
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
#[path = "ip_file_tests.rs"]
mod tests;
