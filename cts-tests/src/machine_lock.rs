//! How many clusters run on this machine at once: three, where one of guests counts for two, or a single one that is measured.
//!
//! A cluster of nodes waits most of the time, and one of emulated guests uses a processor; more than these would slow each other
//! into false fencing on two processors.

use std::fs::{self, File};
use std::io::{Write, stderr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, minor};

use crate::process;

/// A lock for each cluster that may run, on what is on every machine: a file made for it could be taken away, or be a link.
const PLACES: [&str; 3] = ["/run/lock", "/run", "/tmp"];

/// The lock of the one of guests, and which of the others it takes besides. Whoever takes several takes them in their order,
/// so that nobody waits in a circle.
const GUESTS: &str = "/dev";
const OF_GUESTS: usize = 2;

/// How often a lock that is held is tried again: flock(2) waits for one, not for any of two.
const AGAIN: Duration = Duration::from_millis(500);

/// What else may run on the machine meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Other clusters.
    Others,
    /// None: something is measured, or shown.
    None,
}

/// Waits until a cluster may run, of guests or of nodes, and says for whom it waits. It may as long as the result lives.
pub(crate) fn lock(guests: bool, company: Company) -> Result<Vec<Flock<File>>> {
    let places = match company {
        Company::None => &PLACES[..],
        Company::Others if guests => &PLACES[..OF_GUESTS],
        Company::Others => return Ok(vec![any_of(&[PLACES[2], PLACES[1], PLACES[0]])?]),
    };
    let guests = guests.then_some(&GUESTS);
    guests.into_iter().chain(places).map(|place| any_of(&[place])).collect()
}

fn any_of(paths: &[&str]) -> Result<Flock<File>> {
    let mut said = false;
    loop {
        for path in paths {
            let file = File::open(path).with_context(|| format!("cannot open {path}"))?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((_, Errno::EWOULDBLOCK)) => {}
                Err((_, error)) => bail!("cannot lock {path}: {error}"),
            }
        }
        if !said {
            let holders = paths.iter().map(|path| holder_of(Path::new(path))).collect::<Result<Vec<_>>>()?;
            let holders: Vec<_> = holders.into_iter().flatten().collect();
            writeln!(stderr(), "enough clusters run on this machine: waiting for {}", holders.join(" or "))?;
            said = true;
        }
        thread::sleep(AGAIN);
    }
}

/// Who holds a flock on a file, from /proc/locks (proc_locks(5): `…: FLOCK ADVISORY WRITE PID MAJ:MIN:INODE …`).
fn holder_of(path: &Path) -> Result<Option<String>> {
    let file = fs::metadata(path)?;
    let (device, inode) = (file.dev(), file.ino());
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks")?;
    let pid = locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let held = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&file.as_str());
        held.then(|| words.get(4)?.parse::<u32>().ok()).flatten()
    });
    Ok(pid.map(|pid| format!("process {pid} ({})", process::arguments(pid).join(" "))))
}
