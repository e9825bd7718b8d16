//! What this instance has done, as the other actions find it: its role, and of an active one what it brought up.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ocf::{Store, uptime};

use crate::processes::{DirectoryId, identity};
use crate::scan::Look;
use crate::supervise::{Since, Status};

/// The first word of the file, and the version of its form.
const HEADING: &str = "services 1";
const KIND: &str = "state";
/// Restarts of a service that are remembered: two make it flapping.
const RESTARTS: usize = 2;

/// The role of an instance that was started. Without a record it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Started and not promoted: no service may be up.
    Unpromoted,
    /// Promoted, or started as a plain resource: the services are to be up.
    Active,
}

/// One run of a service: a process, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) pid: i32,
    pub(crate) since: Since,
}

impl Life {
    /// The one that supervise tells of, if the service is up.
    pub(crate) fn of(status: Status) -> Option<Self> {
        Some(Self { pid: status.pid?, since: status.since })
    }
}

/// What was last seen of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) life: Option<Life>,
    /// Where the service's directory really is: its processes are found by that when no name leads there any more.
    pub(crate) directory: Option<DirectoryId>,
    /// When monitors saw it restarted, by the time since boot; the last two.
    pub(crate) restarts: Vec<Duration>,
}

impl Seen {
    /// Whether it has been restarted more than once within the window that ends now.
    pub(crate) fn flaps(&self, now: Duration, window: Duration) -> bool {
        self.restarts.len() >= RESTARTS && self.restarts.iter().all(|moment| now.saturating_sub(*moment) <= window)
    }
}

/// The record of an instance. It is written before anything is brought up, so that what an action that was killed has left
/// is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) role: Role,
    /// When the services were last brought up, by the time since boot.
    pub(crate) raised: Duration,
    /// The svscan: number and start of the process.
    pub(crate) svscan: Option<(i32, u64)>,
    /// By the name of the unit.
    pub(crate) units: BTreeMap<String, Seen>,
}

impl Record {
    pub(crate) fn unpromoted() -> Self {
        Self { role: Role::Unpromoted, raised: uptime(), svscan: None, units: BTreeMap::new() }
    }

    /// Of services that are being brought up, or were found up.
    pub(crate) fn active(looks: &[Look]) -> Self {
        let mut record = Self { role: Role::Active, raised: uptime(), svscan: None, units: BTreeMap::new() };
        for look in looks {
            let directory = identity(&look.unit.directory);
            record.units.insert(look.unit.name.clone(), Seen { life: life_of(look), directory, restarts: Vec::new() });
        }
        record
    }

    /// Takes up what is seen of a unit now; true when there is something new in it. A process that is not the one seen last
    /// means a restart.
    pub(crate) fn update(&mut self, look: &Look, known: Option<&Seen>, now: Duration) -> bool {
        let Some(life) = life_of(look).filter(|life| known.is_none_or(|seen| seen.life != Some(*life))) else {
            return false;
        };
        let restarted = known.is_some_and(|seen| seen.life.is_some());
        let seen = self.units.entry(look.unit.name.clone()).or_default();
        seen.life = Some(life);
        seen.directory = identity(&look.unit.directory).or(seen.directory);
        if restarted {
            seen.restarts.push(now);
            let superfluous = seen.restarts.len().saturating_sub(RESTARTS);
            seen.restarts.drain(..superfluous);
        }
        true
    }

    /// The record of this instance; None when it is stopped.
    pub(crate) fn read(store: &Store) -> Result<Option<Self>> {
        let Some(text) = store.read(KIND)? else { return Ok(None) };
        let record = Self::from_text(&text);
        record.map(Some).with_context(|| format!("the state file {} is damaged", store.path(KIND).display()))
    }

    pub(crate) fn write(&self, store: &Store) -> Result<()> {
        store.write(KIND, &self.to_text())
    }

    pub(crate) fn remove(store: &Store) -> Result<()> {
        store.remove(KIND)
    }

    pub(crate) fn from_text(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let heading = lines.next().and_then(|line| line.strip_prefix(HEADING)).unwrap_or_default();
        let words: Vec<&str> = heading.split_ascii_whitespace().collect();
        let form = || format!("its first line is not \"{HEADING} ROLE RAISED SVSCAN STARTED\"");
        let [role, raised, svscan, started] = words.as_slice() else { bail!(form()) };
        let role = match *role {
            "unpromoted" => Role::Unpromoted,
            "active" => Role::Active,
            _ => bail!(form()),
        };
        let (Some(raised), Ok(svscan), Ok(started)) = (millis(raised), svscan.parse::<i32>(), started.parse::<u64>())
        else {
            bail!(form())
        };
        let unit = |(line, number): (&str, u32)| {
            seen_from(line).with_context(|| {
                format!("line {number}: {line:?} is not \"PID SECONDS.NANOSECONDS DEVICE:INODE RESTARTS NAME\"")
            })
        };
        // Collected, not inserted one by one: the lines are in order, and a map is made of all of them at once.
        let units = lines.zip(2..).map(unit).collect::<Result<_>>()?;
        Ok(Self { role, raised, svscan: Some((svscan, started)).filter(|(pid, _)| *pid > 0), units })
    }

    pub(crate) fn to_text(&self) -> String {
        let role = match self.role {
            Role::Unpromoted => "unpromoted",
            Role::Active => "active",
        };
        let (svscan, started) = self.svscan.unwrap_or_default();
        let mut text = format!("{HEADING} {role} {} {svscan} {started}\n", self.raised.as_millis());
        for (name, Seen { life, directory, restarts }) in &self.units {
            let (pid, since) = life.map_or((0, Since { seconds: 0, nanoseconds: 0 }), |life| (life.pid, life.since));
            let (device, inode) = directory.unwrap_or_default();
            let restarts: Vec<_> = restarts.iter().map(|moment| moment.as_millis().to_string()).collect();
            let restarts = if restarts.is_empty() { "-".to_owned() } else { restarts.join(",") };
            let Since { seconds, nanoseconds } = since;
            let _ = writeln!(text, "{pid} {seconds}.{nanoseconds} {device}:{inode} {restarts} {name}");
        }
        text
    }
}

pub(crate) fn life_of(look: &Look) -> Option<Life> {
    look.status.filter(|_| look.supervised).and_then(Life::of)
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis)
}

fn seen_from(text: &str) -> Option<(String, Seen)> {
    // A list of one: among words as short as these a search for a character costs more than comparing each.
    let mut words = text.splitn(5, [' ']);
    let mut word = || words.next();
    let pid: i32 = word()?.parse().ok()?;
    let (seconds, nanoseconds) = word()?.split_once('.')?;
    let nanoseconds = nanoseconds.parse().ok().filter(|number| *number < 1_000_000_000)?;
    let since = Since { seconds: seconds.parse().ok()?, nanoseconds };
    let (device, inode) = word()?.split_once(':')?;
    let directory: DirectoryId = (device.parse().ok()?, inode.parse().ok()?);
    let restarts = match word()? {
        "-" => Vec::new(),
        list => list.split(',').map(millis).collect::<Option<_>>()?,
    };
    // A service with a control character in its name is never looked at.
    let name = word().filter(|name| !name.is_empty() && !name.contains(char::is_control))?;
    let life = Some(Life { pid, since }).filter(|life| life.pid > 0);
    let directory = Some(directory).filter(|(_, inode)| *inode != 0);
    Some((name.to_owned(), Seen { life, directory, restarts }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{DownFile, Unit};
    use crate::supervise::Want;

    fn since(seconds: u64) -> Since {
        Since { seconds, nanoseconds: 5 }
    }

    fn look(name: &str, pid: i32, seconds: u64) -> Look {
        let status = Status { since: since(seconds), pid: Some(pid), paused: false, want: Want::Up };
        let unit = Unit { name: name.into(), directory: "/no/such/directory".into(), log: false };
        Look { unit, supervised: true, status: Some(status), down_file: DownFile::None, fault: None }
    }

    #[test]
    fn a_record_survives_the_file() {
        let seen = Seen {
            life: Some(Life { pid: 7, since: since(9) }),
            directory: Some((1, 2)),
            restarts: vec![Duration::from_millis(3), Duration::from_millis(4)],
        };
        let units = BTreeMap::from([("hvmail-a b".to_owned(), seen), ("hvmail-a/log".to_owned(), Seen::default())]);
        for (role, svscan) in [(Role::Active, Some((12, 34))), (Role::Unpromoted, None)] {
            let record = Record { role, raised: Duration::from_millis(1234), svscan, units: units.clone() };
            assert_eq!(Record::from_text(&record.to_text()).unwrap(), record);
        }
    }

    #[test]
    fn a_damaged_record_is_doubt_and_names_the_line() {
        for (text, named) in [
            ("", "first line"),
            ("services 2 active 1 0 0\n", "first line"),
            ("services 1 dancing 1 0 0\n", "first line"),
            ("services 1 active 1 0 0\n7 9.5 1:2 - hvmail-a\n7 9.5 1:2 hvmail-b\n", "line 3"),
            ("services 1 active 1 0 0\n7 9 1:2 - hvmail-a\n", "line 2"),
            ("services 1 active 1 0 0\n7 9.1000000000 1:2 - hvmail-a\n", "line 2"),
            ("services 1 active 1 0 0\n7 9.5 1:2 - hvmail-a\r\r\n", "line 2"),
        ] {
            let error = format!("{:#}", Record::from_text(text).unwrap_err());
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn another_process_is_a_restart_and_the_last_two_are_kept() {
        let mut record = Record::active(&[look("a", 7, 9)]);
        let update = |record: &mut Record, look: &Look, second| {
            let known = record.units.get(&look.unit.name).cloned();
            record.update(look, known.as_ref(), Duration::from_secs(second))
        };
        assert!(!update(&mut record, &look("a", 7, 9), 1));
        for second in 2..5 {
            assert!(update(&mut record, &look("a", 7, 9 + second), second));
        }
        assert_eq!(record.units["a"].restarts, [Duration::from_secs(3), Duration::from_secs(4)]);
        let flaps = |now, window| record.units["a"].flaps(Duration::from_secs(now), Duration::from_secs(window));
        assert!(flaps(4, 1) && flaps(63, 60) && !flaps(64, 60));
        // One that is new has not been restarted.
        assert!(update(&mut record, &look("b", 8, 9), 5));
        assert_eq!(record.units["b"].restarts, []);
    }
}
