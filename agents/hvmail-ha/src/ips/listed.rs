//! A list of addresses from a file, and what distinguishes two.

use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;

use super::ip_file::{Entry, IpFile};

/// What comes over ssh ends here too: more than ten thousand addresses, each with a remark.
pub(crate) const LARGEST: u64 = 1 << 20;

/// An address, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: IpAddr,
    /// The length of its prefix, where it has one.
    pub(crate) prefix: Option<u8>,
    pub(crate) interface: Option<String>,
    /// For a person.
    pub(crate) at: String,
}

/// What a file lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) entries: Vec<Found>,
    /// Why the agents do not go by it.
    pub(crate) fault: Option<String>,
    /// Wrong lines beyond those that the fault names.
    pub(crate) unnamed: Vec<String>,
    /// As the agents tell it.
    pub(crate) digest: String,
    /// Its lines without remarks.
    pub(crate) lines: BTreeSet<String>,
}

impl List {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Ok(Self::of(&bytes(path, LARGEST)?))
    }

    /// Which addresses must not move with the Primary only the agent of a node knows.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let file = IpFile::parse(bytes, &HashMap::new());
        let found = |entry: &Entry| Found {
            address: entry.address,
            prefix: Some(entry.prefix),
            interface: entry.interface.clone(),
            at: format!("line {}", entry.line),
        };
        let text = String::from_utf8_lossy(bytes);
        let words =
            |line: &str| line.split('#').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            entries: file.entries.iter().map(found).collect(),
            fault: file.fault(),
            unnamed: file.unnamed().map(ToString::to_string).collect(),
            digest: file.digest(),
            lines: text.lines().map(words).filter(|line| !line.is_empty()).collect(),
        }
    }

    pub(crate) fn of_address(&self, address: IpAddr) -> Option<&Found> {
        self.entries.iter().find(|one| one.address == address)
    }
}

impl Found {
    /// The address as the file writes it.
    pub(crate) fn form(&self) -> String {
        let prefix = self.prefix.map_or_else(String::new, |prefix| format!("/{prefix}"));
        let interface = self.interface.as_ref().map_or_else(String::new, |interface| format!(" {interface}"));
        format!("{}{prefix}{interface}", self.address)
    }
}

/// What would change, a line each: the address that comes, goes, or gets another prefix or interface.
pub(crate) fn changes(before: &List, after: &List) -> Vec<String> {
    let mut all = Vec::new();
    for new in &after.entries {
        match before.of_address(new.address) {
            None => all.push(format!("added    {} ({})", new.form(), new.at)),
            Some(old) if old.form() != new.form() => {
                all.push(format!("changed  {} ({}), before {}", new.form(), new.at, old.form()));
            }
            Some(_) => {}
        }
    }
    let gone = before.entries.iter().filter(|old| after.of_address(old.address).is_none());
    all.extend(gone.map(|old| format!("removed  {}", old.form())));
    all
}

/// A plain file of at most so many bytes.
pub(crate) fn bytes(path: &Path, largest: u64) -> Result<Vec<u8>> {
    let what = || format!("{} cannot be read", path.display());
    // A FIFO in its place would otherwise be waited for.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).with_context(what)?;
    let facts = file.metadata().with_context(what)?;
    if !facts.is_file() {
        bail!("{} is not a plain file", path.display());
    }
    if facts.len() > largest {
        bail!("{} has {} bytes; at most {largest} are looked into", path.display(), facts.len());
    }
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes).with_context(what)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_and_white_space_distinguish_no_lines() {
        let list = List::of(b"# all\n 192.0.2.1/24   eth1 # x\n\nnonsense\n");
        assert_eq!(list.lines, BTreeSet::from(["192.0.2.1/24 eth1".to_owned(), "nonsense".to_owned()]));
        assert_eq!(list.entries[0].form(), "192.0.2.1/24 eth1");
        assert!(list.fault.unwrap().starts_with("line 4: \"nonsense\""));
    }

    #[test]
    fn what_would_change_is_said_by_address() {
        let before = List::of(b"192.0.2.1/24\n192.0.2.2/24\n192.0.2.3/24\n");
        let after = List::of(b"192.0.2.3/24\n192.0.2.2/25\n2001:db8::1/64 eth0\n");
        let expected = [
            "changed  192.0.2.2/25 (line 2), before 192.0.2.2/24",
            "added    2001:db8::1/64 eth0 (line 3)",
            "removed  192.0.2.1/24",
        ];
        assert_eq!(changes(&before, &after), expected);
        assert!(changes(&before, &before).is_empty());
    }
}
