//! One look at the server: its processes, and what it says over its socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::statvfs::statvfs;
use ocf::{Deadline, Run};

use crate::contact::{Closed, Contact, contact};
use crate::installation::Version;
use crate::judgement::Seen;
use crate::parameters::Settings;
use crate::postmaster::{self, Processes};
use crate::server::Said;
use crate::session::Session;
use crate::wal;

/// The server that was started: process id and start time, so that it is found when the directory is gone or another.
const STARTED: &str = "server";
/// How long an action that has something to do with the server waits for its word. Only monitor has nothing else to wait
/// for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a look waits for a server that is just starting up again.
const STARTING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The data directory as its processes have it, without symbolic links. A server that was started and lives says itself
/// where it stands: its directory may have been renamed, or another file system been mounted over it.
pub(crate) fn place(run: &Run, settings: &Settings) -> PathBuf {
    started(run).unwrap_or_else(|| fs::canonicalize(&settings.datadir).unwrap_or_else(|_| settings.datadir.clone()))
}

/// Where the server stands that this instance started, if it lives.
pub(crate) fn started(run: &Run) -> Option<PathBuf> {
    run.store.read(STARTED).ok().flatten().and_then(|text| postmaster::place_of(&text))
}

/// Remembers the server that runs in the directory.
pub(crate) fn note_server(run: &Run, data: &Path) -> Result<()> {
    let Processes::Postmaster(file) = Processes::of(data)? else { return Ok(()) };
    match postmaster::identity(file.pid) {
        Some(identity) => run.store.write(STARTED, &identity),
        None => Ok(()),
    }
}

/// A server that is proved to be gone.
pub(crate) fn forget_server(run: &Run) -> Result<()> {
    run.store.remove(STARTED)
}

/// The server as it is, and the connection if there is one.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) data: PathBuf,
    pub(crate) seen: Seen,
    pub(crate) session: Option<Session>,
}

impl Survey {
    /// Looks once, for an action that has more to do than to look.
    pub(crate) fn take(run: &Run, settings: &Settings) -> Result<Self> {
        Self::until(run, settings, run.deadline.at_most(PATIENCE))
    }

    /// Looks once, and waits for the server's word until the deadline.
    fn until(run: &Run, settings: &Settings, deadline: Deadline) -> Result<Self> {
        let data = place(run, settings);
        let none = |seen| Ok(Self { data: data.clone(), seen, session: None });
        let file = match Processes::of(&data)? {
            Processes::None => return none(Seen::Absent),
            Processes::Stray(pids) => return none(Seen::Orphans(pids.len())),
            Processes::Postmaster(file) => file,
        };
        let mut session = match contact(settings, &data, &file, deadline) {
            Contact::Answering(session) => session,
            Contact::Closed(why, words) => return none(Seen::Closed(why, words)),
            Contact::Mute(why) => return none(Seen::Mute(why)),
        };
        let version = Version::read(&data)?;
        match Said::ask(&mut session, version) {
            Ok(said) => Ok(Self { data, seen: Seen::Answering(said), session: Some(session) }),
            Err(error) => none(Seen::Mute(format!("{error:#}"))),
        }
    }

    /// Looks, and looks again at what may pass by itself: a server that comes up again after one of its processes crashed,
    /// one that ends, one whose role changed between two questions.
    pub(crate) fn of_monitor(run: &Run, settings: &Settings) -> Result<Self> {
        let patience = run.deadline.at_most(STARTING);
        // What is left is for telling the cluster, should the server say nothing.
        let deadline = run.deadline.at_most(run.deadline.remaining() * 3 / 4);
        loop {
            let survey = Self::until(run, settings, deadline)?;
            let passing = matches!(
                survey.seen,
                Seen::Closed(Closed::Starting | Closed::Stopping, _) | Seen::Mute(_) | Seen::Orphans(_)
            );
            if !passing || !patience.sleep(LOOK_AGAIN) {
                return Ok(survey);
            }
        }
    }

    pub(crate) fn said(&self) -> Option<&Said> {
        match &self.seen {
            Seen::Answering(said) => Some(said),
            _ => None,
        }
    }
}

/// How full the file systems of the data directory and of pg_wal are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    /// A sentence about the one that has less free than it should.
    pub(crate) short: Option<String>,
    /// One of them has no room for another file of the log, without which a server writes nothing more.
    pub(crate) full: bool,
}

/// Looks at the file systems; `least` percent should be free.
pub(crate) fn disk(data: &Path, least: Option<u64>) -> Disk {
    let places = std::iter::once(data.to_owned()).chain(wal::directory(data).ok());
    let mut disk = Disk::default();
    for path in places {
        let short = match Free::of(&path) {
            Ok(free) => {
                disk.full |= free.bytes < wal::USUAL_SIZE;
                least.filter(|least| free.percent < *least).map(|least| {
                    let (path, percent) = (path.display(), free.percent);
                    format!("the file system of {path} has {percent} % free; disk_min_free is {least}")
                })
            }
            Err(error) => least.map(|_| format!("{error:#}")),
        };
        disk.short = disk.short.or(short);
    }
    disk
}

struct Free {
    bytes: u64,
    percent: u64,
}

impl Free {
    fn of(path: &Path) -> Result<Self> {
        let facts =
            statvfs(path).with_context(|| format!("cannot tell how full the file system of {} is", path.display()))?;
        let (free, all) = (facts.blocks_available(), facts.blocks());
        Ok(Self { bytes: free * facts.fragment_size(), percent: (free * 100).checked_div(all).unwrap_or(100) })
    }
}
