//! The file of addresses as it is on this node's disk.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;

use crate::ip_file::{Entry, Fnv, IpFile};
use crate::reserved;

/// A hundred thousand of the longest lines are half of this.
const LARGEST: u64 = 16 << 20;

/// What the file lists, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// The lines that are right.
    pub(crate) entries: Vec<Entry>,
    /// Why the file as a whole cannot be followed: its path, the lines and their reasons.
    pub(crate) fault: Option<String>,
    /// The wrong lines that `fault` only counts.
    pub(crate) unnamed: Vec<String>,
    /// Which list it is; of no use when there is a fault.
    pub(crate) id: ListId,
}

/// Which list it is, in two ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListId {
    /// The fingerprint of the file's bytes.
    pub(crate) fingerprint: String,
    /// Number and digest of the addresses, the same for every file that means the same.
    pub(crate) digest: String,
}

impl List {
    /// Reads the file and refuses addresses that are the cluster's own on this node.
    pub(crate) fn read(path: &Path) -> Self {
        Self::of(path, bytes(path), &reserved::corosync_addresses())
    }

    fn of(path: &Path, bytes: Result<Vec<u8>>, reserved: &HashMap<IpAddr, String>) -> Self {
        let (file, fingerprint) = match bytes {
            Ok(bytes) => (IpFile::parse(&bytes, reserved), fingerprint(&bytes)),
            Err(error) => {
                let fault = Some(format!("{error:#}"));
                return Self { fault, ..Self::default() };
            }
        };
        let fault = file.fault().map(|fault| format!("{}: {fault}", path.display()));
        let id = ListId { fingerprint, digest: file.digest() };
        let unnamed = file.unnamed().map(|refusal| format!("{}: {refusal}", path.display())).collect();
        Self { entries: file.entries, fault, unnamed, id }
    }
}

/// The list as a monitor sees it.
#[derive(Debug)]
pub(crate) enum Seen {
    /// Byte for byte the file that the addresses are from.
    Unchanged,
    /// Another one.
    Other(List),
}

/// A list that cannot be followed, whatever is in the file.
pub(crate) fn none(fault: String) -> Seen {
    Seen::Other(List { entries: Vec::new(), fault: Some(fault), unnamed: Vec::new(), id: ListId::default() })
}

/// Reads the file, and looks into it only if it has not the fingerprint `known`.
pub(crate) fn look(path: &Path, known: Option<&str>) -> Seen {
    match bytes(path) {
        Ok(bytes) if known.is_some_and(|known| known == fingerprint(&bytes)) => Seen::Unchanged,
        bytes => Seen::Other(List::of(path, bytes, &reserved::corosync_addresses())),
    }
}

fn fingerprint(bytes: &[u8]) -> String {
    let mut hash = Fnv::new();
    hash.add(bytes);
    format!("{}-{:016x}", bytes.len(), hash.value())
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    let what = || format!("the list of addresses {} cannot be read", path.display());
    // A FIFO in its place would otherwise be waited for until the deadline.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.with_context(what)?;
    let facts = file.metadata().with_context(what)?;
    if !facts.is_file() {
        bail!("{} is not a plain file; the list of addresses is expected there", path.display());
    }
    if facts.len() > LARGEST {
        bail!("{} has {} bytes; a list of addresses has {LARGEST} at most", path.display(), facts.len());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len())? + 1);
    file.take(LARGEST).read_to_end(&mut bytes).with_context(what)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("primary-ips-list-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_missing_file_a_directory_and_a_fifo_are_faults_with_their_path() {
        let missing = temporary("missing");
        let fault = List::read(&missing).fault.unwrap();
        assert!(fault.contains(missing.to_str().unwrap()) && fault.contains("No such file"), "{fault}");
        assert!(List::read(&std::env::temp_dir()).fault.unwrap().contains("not a plain file"));
        let fifo = temporary("fifo");
        let _ = fs::remove_file(&fifo);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(List::read(&fifo).fault.unwrap().contains("not a plain file"));
    }

    #[test]
    fn only_another_file_is_looked_into() {
        let path = temporary("seen");
        fs::write(&path, "192.0.2.10/24\n").unwrap();
        let Seen::Other(list) = look(&path, None) else { panic!("nothing was known") };
        assert!(matches!(look(&path, Some(&list.id.fingerprint)), Seen::Unchanged));
        fs::write(&path, "192.0.2.11/24\n").unwrap();
        assert!(matches!(look(&path, Some(&list.id.fingerprint)), Seen::Other(_)));
    }

    #[test]
    fn a_fault_keeps_the_lines_that_are_right() {
        let path = temporary("mixed");
        fs::write(&path, "192.0.2.10/24\nnonsense\n").unwrap();
        let list = List::read(&path);
        assert_eq!(list.entries.len(), 1);
        assert!(list.fault.unwrap().starts_with(&format!("{}: line 2: ", path.display())));
    }
}
