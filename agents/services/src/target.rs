//! What has to come down: a unit with everything that belongs to it, as it is at one moment.

use std::path::PathBuf;

use ocf::uptime;

use crate::processes::{DirectoryId, Home, Process, Processes, identity};
use crate::record::{Life, Record, Seen, life_of};
use crate::scan::{DownFile, Look, Scan, Unit};
use crate::supervise::{Liveness, Since, Status, Want, liveness, tell};

/// A process began when supervise says so, if both times are as near to each other as this: the clock on the wall may have
/// been set meanwhile, by a little.
const SAME_MOMENT: f64 = 10.0;

/// A unit, and where its processes are to be looked for.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) unit: Unit,
    pub(crate) down_file: DownFile,
    home: Home,
    /// Every process of it that was ever seen: one that leaves directory and parents behind is its own all the same.
    seen: Vec<Process>,
}

/// A target at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Situation {
    /// Where its supervise can be talked to; None when none runs.
    pub(crate) control: Option<PathBuf>,
    /// The supervises themselves, as processes.
    pub(crate) supervises: Vec<Process>,
    /// What the supervise has started.
    pub(crate) main: Option<i32>,
    /// Supervise would start it whenever it ends.
    pub(crate) wanted_up: bool,
    /// Everything that lives of it.
    pub(crate) members: Vec<Process>,
    /// Those of the members that no supervise looks after.
    pub(crate) orphans: Vec<Process>,
}

impl Situation {
    /// Whether something of it runs, or would the next moment.
    pub(crate) fn is_up(&self) -> bool {
        self.main.is_some() || self.wanted_up || !self.members.is_empty()
    }
}

impl Target {
    /// All that matches the parameters, and all that the record says was brought up, be it reachable by its name or not.
    pub(crate) fn all(scan: &Scan, record: Option<&Record>) -> Vec<Self> {
        let seen = |name: &str| record.and_then(|record| record.units.get(name));
        let mut targets: Vec<Self> = scan.looks.iter().map(|look| Self::new(look, seen(&look.unit.name))).collect();
        for (name, seen) in record.iter().flat_map(|record| &record.units) {
            if targets.iter().all(|target| target.unit.name != *name) {
                let unit = Unit { name: name.clone(), directory: PathBuf::new(), log: name.ends_with("/log") };
                targets.push(Self::unreachable(unit, seen));
            }
        }
        targets
    }

    pub(crate) fn new(look: &Look, seen: Option<&Seen>) -> Self {
        let here = identity(&look.unit.directory);
        let directories: Vec<DirectoryId> = here.into_iter().chain(seen.and_then(|seen| seen.directory)).collect();
        // What a supervise has left on disk may be from before the last boot: unless it still is a process, its number is
        // that of a stranger's group.
        let abandoned = look.abandoned().filter(|life| Process::find(life.pid).is_some());
        let told = life_of(look).or(abandoned);
        let lives = told.into_iter().chain(seen.and_then(|seen| seen.life));
        let known = lives.filter(|life| is_still_that(*life, &directories)).map(|life| life.pid).collect();
        let home = Home { directories, known };
        Self { unit: look.unit.clone(), down_file: look.down_file, home, seen: Vec::new() }
    }

    /// Whether the process of that life still runs, and is no other that has its number now.
    pub(crate) fn still_runs(look: &Look, seen: Option<&Seen>, life: Life) -> bool {
        let directories: Vec<DirectoryId> =
            identity(&look.unit.directory).into_iter().chain(seen.and_then(|seen| seen.directory)).collect();
        Process::find(life.pid).is_some() && is_still_that(life, &directories)
    }

    fn unreachable(unit: Unit, seen: &Seen) -> Self {
        let directories: Vec<DirectoryId> = seen.directory.into_iter().collect();
        let known = seen.life.filter(|life| is_still_that(*life, &directories)).map(|life| life.pid);
        let home = Home { directories, known: known.into_iter().collect() };
        Self { unit, down_file: DownFile::None, home, seen: Vec::new() }
    }

    /// How it is now.
    pub(crate) fn look(&mut self, processes: &Processes) -> Situation {
        let supervises: Vec<Process> = processes.supervises(&self.home).into_iter().cloned().collect();
        let reachable =
            !self.unit.directory.as_os_str().is_empty() && liveness(&self.unit.directory) == Liveness::Alive;
        let control = if reachable {
            Some(self.unit.directory.clone())
        } else {
            // No name leads there any more, but its supervise still stands in it.
            supervises.first().map(Process::directory)
        };
        let status = control.as_deref().and_then(|directory| Status::read(directory).ok().flatten());
        let main = status.and_then(|status| status.pid);
        let mut members: Vec<Process> = processes.of(&self.home).into_iter().cloned().collect();
        let found: Vec<i32> = members.iter().map(|process| process.pid).collect();
        let earlier = self.seen.iter().filter(|one| !found.contains(&one.pid) && one.lives());
        members.extend(earlier.cloned().collect::<Vec<_>>());
        let new: Vec<_> = members.iter().filter(|one| !self.knows(one)).cloned().collect();
        self.seen.extend(new);
        let abandoned: Vec<i32> = processes.orphans(&self.home).into_iter().map(|process| process.pid).collect();
        let is_orphan = |one: &&Process| abandoned.contains(&one.pid) || !found.contains(&one.pid);
        let orphans = members.iter().filter(is_orphan).cloned().collect();
        let wanted_up = status.is_some_and(|status| status.want == Want::Up);
        Situation { control, supervises, main, wanted_up, members, orphans }
    }

    fn knows(&self, process: &Process) -> bool {
        self.seen.iter().any(|seen| (seen.pid, seen.started) == (process.pid, process.started))
    }

    /// Tells its supervise what to do; false when there is none to be told.
    pub(crate) fn tell(situation: &Situation, letters: &str) -> Result<bool, String> {
        situation.control.as_deref().map_or(Ok(false), |directory| tell(directory, letters))
    }

    /// Whether its directory lies on this device.
    pub(crate) fn lies_on(&self, device: u64) -> bool {
        self.home.directories.iter().all(|(own, _)| *own == device)
    }
}

/// Whether the process of this number is the one that supervise started then, and not another one that has the number
/// now. One that has ended still gives its number to its process group.
fn is_still_that(life: Life, directories: &[DirectoryId]) -> bool {
    let Some(process) = Process::find(life.pid) else { return true };
    let in_place = identity(&process.directory()).is_some_and(|id| directories.contains(&id));
    in_place || began(&process, life.since)
}

fn began(process: &Process, since: Since) -> bool {
    let age = uptime().saturating_sub(process.born()).as_secs_f64();
    (age - since.elapsed().as_secs_f64()).abs() <= SAME_MOMENT
}
