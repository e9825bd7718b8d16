//! One look at everything, made into the facts that are judged.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use ocf::{Run, uptime};

use crate::greenarrow;
use crate::judgement::{Condition, Facts, UnitFacts};
use crate::parameters::Settings;
use crate::ports;
use crate::processes::{Home, Process, Processes, identity};
use crate::raise::{is_critical, normally_down};
use crate::record::{Record, Role, Seen};
use crate::scan::{DownFile, Fault, Look, Scan};
use crate::supervise::Want;
use crate::svscan::{self, StartSvscan};
use crate::target::Target;

/// Between two runs of a service that has ended there may be a second (supervise.c: `deepsleep(1)`).
const BETWEEN_TWO_RUNS: Duration = Duration::from_millis(1200);
/// What the ports and GreenArrow's own program leave to the rest of the action.
const RESERVE: f64 = 0.8;

/// What one look at everything has shown.
pub(crate) struct Survey {
    /// As it is to be kept: with what is new.
    pub(crate) record: Option<Record>,
    pub(crate) changed: bool,
    pub(crate) scan: Scan,
    conditions: Vec<Condition>,
    no_svscan: Option<String>,
}

impl Survey {
    pub(crate) fn take(run: &Run, settings: &Settings) -> Result<Self> {
        let mut record = Record::read(&run.store)?;
        let mut scan = Scan::take(settings);
        let role = record.as_ref().map(|record| record.role);
        if role == Some(Role::Active) {
            give_it_a_second(run, settings, &mut scan);
        }
        let now = uptime();
        let raised = record.as_ref().filter(|record| record.role == Role::Active).map(|record| record.raised);
        let moment = Moment { settings, raised, now, processes: OnceCell::new() };
        let mut changed = false;
        let mut conditions = Vec::with_capacity(scan.looks.len());
        for look in &scan.looks {
            let before = record.as_ref().and_then(|record| record.units.get(&look.unit.name)).cloned();
            let active = record.as_mut().filter(|record| record.role == Role::Active);
            let new = active.is_some_and(|record| record.update(look, before.as_ref(), now));
            changed |= new;
            let seen = || record.as_ref().and_then(|record| record.units.get(&look.unit.name));
            let after = if new { seen() } else { before.as_ref() };
            conditions.push(condition(&moment, look, before.as_ref(), after)?);
        }
        let (no_svscan, found_another) = look_for_svscan(settings, record.as_mut())?;
        changed |= found_another;
        run.log.step(&format!("{} units in {}", scan.looks.len(), settings.service_dir.display()));
        Ok(Self { record, changed, scan, conditions, no_svscan })
    }

    pub(crate) fn facts(&self, run: &Run, settings: &Settings) -> Facts {
        let role = self.record.as_ref().map(|record| record.role);
        let mut units: Vec<UnitFacts> = self
            .scan
            .looks
            .iter()
            .zip(&self.conditions)
            .map(|(look, condition)| facts_of(settings, look, condition))
            .collect();
        if role == Some(Role::Active) {
            units.extend(self.missing(settings));
        }
        let outside = role == Some(Role::Active) && run.check_level() >= 10;
        Facts {
            promotable: run.environment.promotable(),
            role,
            units,
            place: settings.service_dir.display().to_string(),
            fault: self.scan.fault.as_ref().map(|fault| fault.words().to_owned()),
            wrong: settings.wrong.clone(),
            no_svscan: self.no_svscan.clone(),
            outside: if outside { seen_from_outside(run, settings) } else { Vec::new() },
            boot_guard: settings.boot_guard && !settings.services_are_wrong,
        }
    }

    /// Units that were brought up and are not in the scan directory any more.
    fn missing<'a>(&'a self, settings: &'a Settings) -> impl Iterator<Item = UnitFacts> + 'a {
        let there: BTreeSet<&str> = self.scan.looks.iter().map(|look| look.unit.name.as_str()).collect();
        let recorded = self.record.iter().flat_map(|record| &record.units);
        let gone = recorded.filter(move |(name, seen)| seen.life.is_some() && !there.contains(name.as_str()));
        gone.map(|(name, seen)| {
            let log = name.ends_with("/log");
            let pid = seen.life.map(|life| life.pid).filter(|pid| Process::find(*pid).is_some());
            let why = || "it is gone from the scan directory".to_owned();
            UnitFacts {
                name: name.clone(),
                log,
                normally_down: false,
                critical: !log && settings.critical.matches(name),
                unguarded: false,
                condition: pid.map_or(Condition::Gone, |pid| Condition::Lost(pid, why())),
            }
        })
    }
}

/// A service that has just ended is between two runs, unless it is still so a second later.
fn give_it_a_second(run: &Run, settings: &Settings, scan: &mut Scan) {
    let between = |look: &Look| look.wanted_up() && look.pid().is_none();
    if scan.looks.iter().any(between) && run.deadline.sleep(BETWEEN_TWO_RUNS) {
        *scan = Scan::take(settings);
    }
}

fn facts_of(settings: &Settings, look: &Look, condition: &Condition) -> UnitFacts {
    UnitFacts {
        name: look.unit.name.clone(),
        log: look.unit.log,
        normally_down: normally_down(settings, look),
        critical: is_critical(settings, &look.unit),
        unguarded: look.down_file == DownFile::None && look.fault.is_none(),
        condition: condition.clone(),
    }
}

fn condition(moment: &Moment, look: &Look, before: Option<&Seen>, after: Option<&Seen>) -> Result<Condition> {
    let last = before.and_then(|seen| seen.life);
    let left = || last.filter(|life| Some(life.pid) != look.pid() && Target::still_runs(look, before, *life));
    // What is seen in another directory, or of another supervise there, says nothing of a process of the former one.
    if look.pid().is_none()
        && let (Some(life), Some(why)) = (left(), moved(look, before))
    {
        return Ok(Condition::Lost(life.pid, why));
    }
    let Some(status) = look.status.filter(|_| look.supervised) else {
        let abandoned = look.abandoned().filter(|life| Target::still_runs(look, before, *life)).or_else(left);
        return Ok(match (abandoned, &look.fault) {
            (Some(life), Some(Fault::Absent(why))) => Condition::Lost(life.pid, why.clone()),
            (Some(life), Some(Fault::Broken(why))) => Condition::Obscured(life.pid, why.clone()),
            (Some(life), None) => Condition::Unsupervised(life.pid),
            (None, Some(fault)) => Condition::Fault(fault.clone()),
            (None, None) => Condition::Dead,
        });
    };
    let Some(pid) = status.pid else {
        if let Some(fault) = &look.fault {
            return Ok(Condition::Fault(fault.clone()));
        }
        return Ok(match status.want {
            Want::Up => Condition::Down,
            _ if left().is_some() || moment.supervise_is_newer(look)? => Condition::SuperviseRestarted,
            _ => Condition::TakenDown,
        });
    };
    let restarted_now = last.is_some_and(|life| life.pid != pid || life.since != status.since);
    Ok(match after {
        _ if status.paused => Condition::Paused,
        _ if status.want != Want::Up => Condition::WantedDown,
        Some(_) if restarted_now && left().is_some() => Condition::Doubled(left().map_or(0, |life| life.pid)),
        Some(seen) if restarted_now && seen.flaps(moment.now, moment.settings.flap_window) => {
            Condition::Flapping(moment.settings.flap_window.as_secs())
        }
        Some(_) if restarted_now => Condition::Restarted,
        _ => Condition::Up,
    })
}

/// Whether the name leads elsewhere than when the service was brought up, in words.
fn moved(look: &Look, before: Option<&Seen>) -> Option<String> {
    let (was, is) = (before?.directory?, identity(&look.unit.directory)?);
    (was != is).then(|| {
        let shown = look.unit.directory.display();
        format!("{shown} leads to another directory than the one it was brought up from: is its file system mounted?")
    })
}

/// What is the same for each unit of one survey.
struct Moment<'a> {
    settings: &'a Settings,
    /// When the services were brought up; None where none are to be up.
    raised: Option<Duration>,
    now: Duration,
    /// Read when first asked for: that costs more than all the rest of a monitor.
    processes: OnceCell<Processes>,
}

impl Moment<'_> {
    /// Whether the supervise of a service that is down was started after the services were brought up. Not asked where
    /// it makes no difference: on a standby all are down, and on a Primary some normally are.
    fn supervise_is_newer(&self, look: &Look) -> Result<bool> {
        let Some(raised) = self.raised.filter(|_| !normally_down(self.settings, look)) else { return Ok(false) };
        let Some(id) = identity(&look.unit.directory) else { return Ok(false) };
        if self.processes.get().is_none() {
            let _ = self.processes.set(Processes::read()?);
        }
        let home = Home { directories: vec![id], known: Vec::new() };
        let supervises = self.processes.get().map(|processes| processes.supervises(&home)).unwrap_or_default();
        Ok(supervises.iter().any(|supervise| supervise.born() > raised))
    }
}

/// Why there is no svscan, and whether it is another one than the record has.
fn look_for_svscan(settings: &Settings, record: Option<&mut Record>) -> Result<(Option<String>, bool)> {
    let Some(record) = record else { return Ok((None, false)) };
    let known = record.svscan.and_then(|(pid, started)| Process::find(pid).filter(|now| now.started == started));
    if known.is_some() {
        return Ok((None, false));
    }
    if let Some(svscan) = svscan::find(settings)? {
        record.svscan = Some((svscan.pid, svscan.started));
        return Ok((None, true));
    }
    let directory = settings.service_dir.display();
    Ok((
        match (record.role, &settings.svscan) {
            (Role::Active, _) => Some(format!(
                "no svscan runs in {directory}: a supervise that dies is not started again. Restart the resource when it \
                 suits; beside supervises that live a new svscan would cut the services from their logs"
            )),
            (Role::Unpromoted, StartSvscan::No) => {
                Some(format!("no svscan runs in {directory}, and svscan=none starts none: nothing could be promoted"))
            }
            (Role::Unpromoted, _) => None,
        },
        false,
    ))
}

/// What nothing on disk tells: whether the ports accept connections, and what GreenArrow itself says.
fn seen_from_outside(run: &Run, settings: &Settings) -> Vec<(bool, String)> {
    let deadline = run.deadline.at_most(run.deadline.remaining().mul_f64(RESERVE));
    let closed = ports::closed(&settings.check_ports, deadline.at_most(deadline.remaining() / 2)).into_iter();
    let closed = closed.map(|(port, error)| {
        (settings.critical.matches(&port.to_string()), format!("{port} accepts no connection: {error}"))
    });
    let complaint = greenarrow::complaint(&settings.status_command, deadline);
    closed.chain(complaint.map(|words| (false, words))).collect()
}
