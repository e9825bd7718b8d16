//! The processes of this node (proc(5)), and which of them belong to a service: supervise knows one process of each service
//! only, and none once it was killed itself.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A directory, whatever it is called and whether or not a name still leads to it: device and inode.
pub(crate) type DirectoryId = (u64, u64);

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    /// One letter: R, S, D and so on.
    pub(crate) state: char,
    /// Ticks since boot: with the number, no other process has it in this boot.
    pub(crate) started: u64,
    /// The first 15 bytes of the program's name.
    pub(crate) name: String,
}

impl Process {
    /// Fields of proc_pid_stat(5): 1 pid, 2 name, 3 state, 4 parent, 5 group, 22 start time. The name in parentheses may
    /// hold anything, so what follows is found from behind.
    fn parse(stat: &str) -> Option<Self> {
        let (before, after) = stat.rsplit_once(") ")?;
        let (pid, name) = before.split_once(" (")?;
        let mut fields = after.split(' ');
        Some(Self {
            pid: pid.parse().ok()?,
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            started: fields.nth(16)?.parse().ok()?,
            name: name.to_owned(),
        })
    }

    /// The living process of this number. A zombie has ended; it only waits for its parent.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        // The kernel writes the line at once, and 52 numbers and a name are no longer than this.
        let mut bytes = [0; 2048];
        let count = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut bytes)).ok()?;
        let stat = String::from_utf8_lossy(&bytes[..count]);
        Self::parse(&stat).filter(|process| !matches!(process.state, 'Z' | 'X'))
    }

    /// When it began, by the time since boot.
    pub(crate) fn born(&self) -> Duration {
        let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
        // Linux has shown ticks of 10 ms to programs on every architecture for decades (USER_HZ).
        Duration::from_millis(self.started * 1000 / a_second.filter(|ticks| *ticks > 0).unwrap_or(100))
    }

    /// Whether it still lives.
    pub(crate) fn lives(&self) -> bool {
        Self::find(self.pid).is_some_and(|now| now.started == self.started)
    }

    /// Sends a signal, unless the number belongs to another process by now.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        if !self.lives() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {}", self.pid)),
        }
    }

    /// Its directory, as something that can be opened also when no name leads to it any more (proc_pid_cwd(5)).
    pub(crate) fn directory(&self) -> std::path::PathBuf {
        format!("/proc/{}/cwd", self.pid).into()
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            'D' => ", in uninterruptible sleep: it waits for a disk or a file system",
            'T' | 't' => ", stopped by a signal or a debugger",
            _ => "",
        };
        write!(f, "process {} ({}{state})", self.pid, self.name)
    }
}

/// The directory's identity, if it is there.
pub(crate) fn identity(directory: &Path) -> Option<DirectoryId> {
    fs::metadata(directory).ok().map(|facts| (facts.dev(), facts.ino()))
}

/// A service directory, and the processes that were last known to be its ./run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home {
    /// More than one when the name leads elsewhere than it did when the service was brought up.
    pub(crate) directories: Vec<DirectoryId>,
    pub(crate) known: Vec<i32>,
}

/// All processes at one moment.
pub(crate) struct Processes {
    all: BTreeMap<i32, Process>,
    /// Looked up when first asked for: reading it costs more than all the rest.
    directories: RefCell<BTreeMap<i32, Option<DirectoryId>>>,
}

impl Processes {
    pub(crate) fn read() -> Result<Self> {
        let entries = fs::read_dir("/proc").context("cannot read /proc")?;
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let all = pids.filter_map(Process::find).map(|process| (process.pid, process)).collect();
        Ok(Self { all, directories: RefCell::default() })
    }

    fn directory(&self, pid: i32) -> Option<DirectoryId> {
        let look = || identity(Path::new(&format!("/proc/{pid}/cwd")));
        *self.directories.borrow_mut().entry(pid).or_insert_with(look)
    }

    fn in_directory(&self, name: &str, wanted: &[DirectoryId]) -> impl Iterator<Item = &Process> {
        let named = self.all.values().filter(move |process| process.name == name);
        named.filter(move |process| self.directory(process.pid).is_some_and(|id| wanted.contains(&id)))
    }

    /// The svscan of this scan directory; svscan(8) makes it its own directory.
    pub(crate) fn svscan(&self, scan_directory: &Path) -> Option<&Process> {
        let wanted = identity(scan_directory)?;
        self.in_directory("svscan", &[wanted]).next()
    }

    /// The supervises of this service directory.
    pub(crate) fn supervises(&self, home: &Home) -> Vec<&Process> {
        self.in_directory("supervise", &home.directories).collect()
    }

    /// Every process of the service, its supervise excepted: what the supervise has started and all that comes from it;
    /// what stands in the directory and belongs to nobody any more (an orphan of a dead supervise); and what is in the
    /// process group of a known ./run. A person's shell in the directory is none of it: its parent is a login.
    pub(crate) fn of(&self, home: &Home) -> Vec<&Process> {
        let supervises: BTreeSet<i32> = self.supervises(home).iter().map(|process| process.pid).collect();
        let root = |process: &Process| {
            let in_place = || self.directory(process.pid).is_some_and(|id| home.directories.contains(&id));
            supervises.contains(&process.parent)
                || home.known.contains(&process.pid)
                || home.known.contains(&process.group)
                || process.parent <= 1 && process.name != "supervise" && in_place()
        };
        let own = std::process::id().cast_signed();
        let mut members: BTreeSet<i32> = self.all.values().filter(|one| root(one)).map(|one| one.pid).collect();
        members.extend(self.descendants(&members));
        members.iter().filter(|pid| **pid > 1 && **pid != own).filter_map(|pid| self.all.get(pid)).collect()
    }

    fn descendants(&self, of: &BTreeSet<i32>) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        loop {
            let new = |process: &&Process| {
                (of.contains(&process.parent) || found.contains(&process.parent)) && !found.contains(&process.pid)
            };
            let generation: Vec<i32> = self.all.values().filter(new).map(|process| process.pid).collect();
            if generation.is_empty() {
                return found;
            }
            found.extend(generation);
        }
    }

    /// Of a service's processes those that do not come from its present supervise: left behind by a dead one.
    pub(crate) fn orphans(&self, home: &Home) -> Vec<&Process> {
        let supervises: BTreeSet<i32> = self.supervises(home).iter().map(|process| process.pid).collect();
        let kept = self.descendants(&supervises);
        self.of(home).into_iter().filter(|process| !kept.contains(&process.pid)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: DirectoryId = (1, 7);

    /// Processes as `pid name parent group directory`.
    fn processes(lines: &[(i32, &str, i32, i32, u64)]) -> Processes {
        let process = |(pid, name, parent, group, _): &(i32, &str, i32, i32, u64)| {
            (*pid, Process { pid: *pid, parent: *parent, group: *group, state: 'S', started: 1, name: (*name).into() })
        };
        let directories = lines.iter().map(|(pid, _, _, _, inode)| (*pid, Some((1, *inode)))).collect();
        Processes { all: lines.iter().map(process).collect(), directories: RefCell::new(directories) }
    }

    fn pids(found: &[&Process]) -> Vec<i32> {
        found.iter().map(|process| process.pid).collect()
    }

    fn home(known: &[i32]) -> Home {
        Home { directories: vec![HOME], known: known.to_vec() }
    }

    #[test]
    fn what_supervise_started_and_its_children_belong_to_the_service() {
        let all = processes(&[
            (100, "svscan", 1, 100, 2),
            (101, "supervise", 100, 100, 7),
            (102, "run", 101, 100, 7),
            (103, "child", 102, 100, 99),
            (104, "supervise", 100, 100, 8),
            (105, "other", 104, 100, 8),
        ]);
        assert_eq!(pids(&all.of(&home(&[]))), [102, 103]);
        assert_eq!(pids(&all.orphans(&home(&[]))), []);
        assert_eq!(pids(&all.supervises(&home(&[]))), [101]);
    }

    #[test]
    fn an_orphan_is_known_by_its_directory_its_number_or_its_group() {
        let all = processes(&[
            (101, "supervise", 100, 100, 7),
            (102, "run", 101, 100, 7),
            (110, "old-run", 1, 100, 7),
            (111, "old-child", 110, 100, 99),
            (120, "moved", 1, 120, 99),
            (121, "of-its-group", 1, 120, 99),
        ]);
        assert_eq!(pids(&all.orphans(&home(&[]))), [110, 111]);
        assert_eq!(pids(&all.orphans(&home(&[120]))), [110, 111, 120, 121]);
    }

    #[test]
    fn a_person_at_work_in_the_directory_is_no_part_of_the_service() {
        let all = processes(&[(50, "sshd", 1, 50, 2), (51, "bash", 50, 51, 7), (52, "vi", 51, 52, 7)]);
        assert_eq!(pids(&all.of(&home(&[]))), []);
    }

    #[test]
    fn a_name_with_brackets_and_blanks_is_read() {
        let stat = "4711 (a) (b) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1";
        let process = Process::parse(stat).unwrap();
        assert_eq!((process.pid, process.name.as_str(), process.state), (4711, "a) (b", 'S'));
        assert_eq!((process.parent, process.group, process.started), (1, 4711, 987_654));
        assert_eq!(Process::parse("4711 (a) S 1"), None);
        assert_eq!(Process::parse(""), None);
    }
}
