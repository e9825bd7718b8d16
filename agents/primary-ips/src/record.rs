//! What this instance has done, as the other actions find it: the role it was given and the addresses that are its own.

use std::fmt::Write;
use std::net::IpAddr;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use ocf::Store;

use crate::list::ListId;

/// The first word of the file, and the version of its form.
const HEADING: &str = "primary-ips 1";
const KIND: &str = "state";

/// The role of an instance that was started. Without a record it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Started and not promoted: no address may be up.
    Unpromoted,
    /// Promoted, or started as a plain resource: every address is to be up.
    Active,
}

/// An address where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Placed {
    /// The address.
    pub(crate) address: IpAddr,
    /// The length of its subnet's prefix.
    pub(crate) prefix: u8,
    /// The interface's name, shared by all addresses of it.
    pub(crate) interface: Rc<str>,
}

/// The record of an instance. It is written before the kernel is asked for anything, so that an action that was killed
/// half-way leaves no address that nobody knows of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its role.
    pub(crate) role: Role,
    /// The file that the addresses are from; empty when they are not all from one. As long as the file is this one, there
    /// is nothing new to be found in it.
    pub(crate) list: ListId,
    /// The addresses it added or took over, and may therefore take away; in the order of the addresses.
    pub(crate) addresses: Vec<Placed>,
}

impl Record {
    /// The record of an instance that has no address and may have none.
    pub(crate) fn unpromoted() -> Self {
        Self { role: Role::Unpromoted, list: ListId::default(), addresses: Vec::new() }
    }

    /// The record of this instance; None when it is stopped.
    pub(crate) fn read(store: &Store) -> Result<Option<Self>> {
        Self::read_as(store, KIND)
    }

    pub(crate) fn write(&self, store: &Store) -> Result<()> {
        self.write_as(store, KIND)
    }

    pub(crate) fn remove(store: &Store) -> Result<()> {
        store.remove(KIND)
    }

    /// A record of another kind in the same form.
    pub(crate) fn read_as(store: &Store, kind: &str) -> Result<Option<Self>> {
        let Some(text) = store.read(kind)? else { return Ok(None) };
        let record = Self::from_text(&text);
        record.map(Some).with_context(|| format!("the state file {} is damaged", store.path(kind).display()))
    }

    pub(crate) fn write_as(&self, store: &Store, kind: &str) -> Result<()> {
        store.write(kind, &self.to_text())
    }

    fn from_text(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let heading = lines.next().and_then(|line| line.strip_prefix(HEADING)).unwrap_or_default();
        let mut words = heading.split_ascii_whitespace();
        let role = match words.next() {
            Some("unpromoted") => Role::Unpromoted,
            Some("active") => Role::Active,
            _ => bail!("its first line is not \"{HEADING} unpromoted …\" or \"{HEADING} active …\""),
        };
        let mut word = || words.next().unwrap_or_default().to_owned();
        let list = ListId { fingerprint: word(), digest: word() };
        let mut addresses: Vec<Placed> = Vec::new();
        for (line, number) in lines.zip(2..) {
            let placed = Placed::from_line(line, addresses.last());
            addresses
                .push(placed.with_context(|| format!("line {number}: {line:?} is not \"address/prefix interface\""))?);
        }
        addresses.sort_unstable();
        Ok(Self { role, list, addresses })
    }

    fn to_text(&self) -> String {
        let role = match self.role {
            Role::Unpromoted => "unpromoted",
            Role::Active => "active",
        };
        let mut text = format!("{HEADING} {role} {} {}\n", self.list.fingerprint, self.list.digest);
        for Placed { address, prefix, interface } in &self.addresses {
            let _ = writeln!(text, "{address}/{prefix} {interface}");
        }
        text
    }
}

impl Placed {
    fn from_line(line: &str, before: Option<&Self>) -> Option<Self> {
        let (net, interface) = divided(line, b' ')?;
        let (address, prefix) = divided(net, b'/')?;
        let interface = Some(interface).filter(|name| !name.is_empty())?;
        let shared = before.map(|before| &before.interface).filter(|name| &***name == interface);
        let interface = shared.map_or_else(|| interface.into(), Rc::clone);
        Some(Self { address: address.parse().ok()?, prefix: prefix.parse().ok()?, interface })
    }
}

/// What `str::split_once` does for an ASCII character. That one searches with memchr, which begins to pay where these
/// lines end: it was a tenth of a monitor of 10,000 addresses.
fn divided(text: &str, at: u8) -> Option<(&str, &str)> {
    let place = text.bytes().position(|byte| byte == at)?;
    Some((&text[..place], &text[place + 1..]))
}

impl std::fmt::Display for Placed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} on {}", self.address, self.prefix, self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(address: &str, prefix: u8, interface: &str) -> Placed {
        Placed { address: address.parse().unwrap(), prefix, interface: interface.into() }
    }

    #[test]
    fn a_record_survives_the_file() {
        for role in [Role::Unpromoted, Role::Active] {
            let addresses = vec![placed("192.0.2.1", 24, "eth0"), placed("2001:db8::1", 64, "br-lan.7")];
            let record = Record { role, list: ListId { fingerprint: "9-af".into(), digest: "2:0f".into() }, addresses };
            assert_eq!(Record::from_text(&record.to_text()).unwrap(), record);
        }
    }

    #[test]
    fn a_damaged_record_is_doubt_and_names_the_line() {
        for (text, named) in [
            ("", "first line"),
            ("primary-ips 2 active x\n", "first line"),
            ("primary-ips 1 active x\n192.0.2.1/24 eth0\n192.0.2.2/24\n", "line 3"),
            ("primary-ips 1 active \n192.0.2.1 eth0\n", "line 2"),
        ] {
            let error = format!("{:#}", Record::from_text(text).unwrap_err());
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }
}
