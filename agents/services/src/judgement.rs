//! From what was seen to what monitor says and does. Nothing is read or touched here.

use ocf::{Failure, Finding, Found, State};

use crate::record::Role;
use crate::scan::Fault;

/// As many things that are wrong are named; the others are counted.
const SHOWN: usize = 5;

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A process runs and its supervise would start it again.
    Up,
    /// The same, but it is another process than at the last monitor.
    Restarted,
    /// Restarted again within flap_window, so many seconds.
    Flapping(u64),
    /// Stopped where it stands by `svc -p`.
    Paused,
    /// Runs, and supervise would not start it again.
    WantedDown,
    /// Runs, as this process, and no supervise looks after it.
    Unsupervised(i32),
    /// Runs, as this process, and its supervise, which may live, cannot be asked: why.
    Obscured(i32, String),
    /// The same, and no name leads to its directory any more: its file system may be gone, with all that it has written.
    Lost(i32, String),
    /// Does not run; supervise is to start it.
    Down,
    /// Does not run and is not to be started, as after `svc -d`.
    TakenDown,
    /// Does not run, and its supervise was started anew since it was brought up.
    SuperviseRestarted,
    /// Does not run, and no supervise runs for it.
    Dead,
    /// Was brought up, does not run, and is not in the scan directory any more.
    Gone,
    /// Runs as supervise knows, and besides it as this process, which a dead supervise has left.
    Doubled(i32),
    /// Cannot be seen, or cannot run: why.
    Fault(Fault),
}

impl Condition {
    /// Whether a process of it runs.
    pub(crate) fn runs(&self) -> bool {
        use Condition::{Doubled, Flapping, Obscured, Paused, Restarted, Unsupervised, Up, WantedDown};
        matches!(self, Up | Restarted | Flapping(_) | Paused | WantedDown | Unsupervised(_) | Obscured(..) | Doubled(_))
    }

    /// Whether it does not do its work, or not for long.
    fn is_grave(&self) -> bool {
        match self {
            Self::Flapping(_) | Self::Paused => true,
            // The monitor brings it up again.
            Self::SuperviseRestarted => false,
            other => !other.runs(),
        }
    }

    fn words(&self, name: &str) -> String {
        match self {
            Self::Up => format!("{name} is up"),
            Self::Restarted => format!("{name} has ended and was started again by its supervise"),
            Self::Flapping(seconds) => format!("{name} is flapping: it has ended twice within {seconds} s"),
            Self::Paused => format!("{name} is paused; svc -c lets it go on"),
            Self::WantedDown => format!("{name} runs, but would not be started again; svc -u wants it up"),
            Self::Unsupervised(pid) => {
                format!("{name} runs as process {pid}, but its supervise is dead and would not start it again")
            }
            Self::Obscured(pid, why) | Self::Lost(pid, why) => {
                format!("{name} runs as process {pid}, and its supervise cannot be asked: {why}")
            }
            Self::Down => format!("{name} is down, although its supervise is to keep it up"),
            Self::TakenDown => format!("{name} was taken down; svc -u brings it up"),
            Self::SuperviseRestarted => format!("{name} is down since its supervise was started anew"),
            Self::Dead => format!("{name} is down, and no supervise runs for it"),
            Self::Gone => format!("{name} is gone from the scan directory"),
            Self::Doubled(pid) => format!("{name} runs twice: process {pid} is left of a supervise that died"),
            Self::Fault(fault) => fault.words().to_owned(),
        }
    }
}

/// A unit as it was seen, and as it should be.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone)]
pub(crate) struct UnitFacts {
    pub(crate) name: String,
    pub(crate) log: bool,
    /// By a `down` file or expected_down.
    pub(crate) normally_down: bool,
    pub(crate) critical: bool,
    /// Nothing keeps it from starting when svscan does.
    pub(crate) unguarded: bool,
    pub(crate) condition: Condition,
}

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The instance belongs to a promotable clone.
    pub(crate) promotable: bool,
    /// The role it was given; None: it was not started.
    pub(crate) role: Option<Role>,
    pub(crate) units: Vec<UnitFacts>,
    /// The scan directory, for a sentence.
    pub(crate) place: String,
    /// Why it cannot be read.
    pub(crate) fault: Option<String>,
    /// What is wrong with the parameters.
    pub(crate) wrong: Option<String>,
    /// Why nothing would be started again, or could be started at all: no svscan.
    pub(crate) no_svscan: Option<String>,
    /// Ports that accept no connection, and whether that is critical; GreenArrow's own complaint.
    pub(crate) outside: Vec<(bool, String)>,
    /// Of the parameters: boot_guard.
    pub(crate) boot_guard: bool,
}

/// What monitor is to do before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    None,
    /// Take the services over as they are: write the record.
    Adopt,
    /// Put the guards back that are missing.
    Guard,
    /// Bring up what a dead supervise has left down, or left alone.
    Revive,
}

/// Decides.
pub(crate) fn judge(facts: &Facts) -> (Found, Deed) {
    match facts.role {
        None => judge_stopped(facts),
        Some(Role::Unpromoted) => judge_unpromoted(facts),
        Some(Role::Active) => judge_active(facts),
    }
}

impl Facts {
    fn services(&self) -> impl Iterator<Item = &UnitFacts> {
        self.units.iter().filter(|unit| !unit.log)
    }

    fn wanted(&self) -> impl Iterator<Item = &UnitFacts> {
        self.services().filter(|unit| !unit.normally_down)
    }

    /// Whether svscan or a reboot would start something that nobody has promoted.
    fn unguarded(&self) -> bool {
        self.boot_guard && self.units.iter().any(|unit| unit.unguarded)
    }

    /// Why this node could not take the services over, if it could not. Directories that are not there are no reason:
    /// where a file system moves with the services, a standby never has them.
    pub(crate) fn unready(&self) -> Option<&String> {
        self.wrong.as_ref().or(self.no_svscan.as_ref())
    }
}

fn judge_stopped(facts: &Facts) -> (Found, Deed) {
    let running = running(facts.units.iter());
    if running.is_empty() {
        return (
            Ok(Finding::plain(State::NotRunning, summary(facts, "stopped", "not started, and none runs"))),
            Deed::None,
        );
    }
    // Brought up by hand, or by the vendor's script before the cluster knew.
    if facts.wanted().all(|unit| matches!(unit.condition, Condition::Up | Condition::Restarted)) {
        let (found, _) = judge_active(facts);
        return (found, Deed::Adopt);
    }
    let reason =
        format!("{} although this instance was not started. A stop ends them", counted(&running, "runs", "run"));
    (failed(facts, reason), Deed::None)
}

fn judge_unpromoted(facts: &Facts) -> (Found, Deed) {
    let running = running(facts.services());
    if !running.is_empty() {
        let reason = format!(
            "{} although this instance is unpromoted. A demote or stop ends them",
            counted(&running, "runs", "run")
        );
        return (Ok(Finding::because(State::FailedPromoted, reason)), Deed::None);
    }
    let mut wrong: Vec<String> = facts.wrong.iter().chain(&facts.no_svscan).cloned().collect();
    let hindered = |unit: &&UnitFacts| matches!(&unit.condition, Condition::Fault(Fault::Broken(_)));
    wrong.extend(facts.wanted().filter(hindered).map(|unit| unit.condition.words(&unit.name)));
    let logs: Vec<&UnitFacts> = facts.units.iter().filter(|unit| unit.log && unit.condition.runs()).collect();
    if !logs.is_empty() {
        wrong.push(format!("{} although this instance is unpromoted", counted(&logs, "runs", "run")));
    }
    let deed = if facts.unguarded() { Deed::Guard } else { Deed::None };
    if deed == Deed::Guard {
        let bare: Vec<&UnitFacts> = facts.units.iter().filter(|unit| unit.unguarded).collect();
        wrong.push(format!("{} no boot guard: at boot svscan would start them", counted(&bare, "has", "have")));
    }
    let summary = || summary(facts, "unpromoted and ready", "none runs");
    (Ok(found(&wrong, State::Running, State::Degraded, summary)), deed)
}

fn judge_active(facts: &Facts) -> (Found, Deed) {
    let (sound, degraded) = (State::serving(facts.promotable), State::serving_degraded(facts.promotable));
    if facts.wanted().all(|unit| !unit.condition.runs()) {
        let mut reasons: Vec<String> = facts.fault.iter().cloned().collect();
        reasons.extend(facts.wanted().map(|unit| unit.condition.words(&unit.name)));
        let reason = format!("none of the services in {} runs: {}", facts.place, listed(&reasons));
        return (failed(facts, reason), Deed::None);
    }
    let critical = facts.services().filter(|unit| unit.critical && !unit.normally_down && unit.condition.is_grave());
    let mut fatal: Vec<String> = critical.map(|unit| unit.condition.words(&unit.name)).collect();
    fatal.extend(facts.outside.iter().filter(|(critical, _)| *critical).map(|(_, words)| words.clone()));
    if !fatal.is_empty() {
        return (failed(facts, format!("{} (critical)", listed(&fatal))), Deed::None);
    }
    let mut wrong: Vec<String> = facts.wrong.iter().chain(&facts.fault).cloned().collect();
    for unit in &facts.units {
        if unit.normally_down {
            let up = unit.condition.runs();
            wrong.extend(up.then(|| format!("{} is up, but is normally down; svc -d takes it down", unit.name)));
        } else if unit.condition != Condition::Up {
            wrong.push(unit.condition.words(&unit.name));
        }
    }
    wrong.extend(facts.no_svscan.clone());
    wrong.extend(facts.outside.iter().map(|(_, words)| words.clone()));
    let left = |unit: &&UnitFacts| {
        !unit.normally_down && matches!(unit.condition, Condition::SuperviseRestarted | Condition::Doubled(_))
    };
    let deed = if facts.units.iter().any(|unit| left(&unit)) {
        Deed::Revive
    } else if facts.unguarded() {
        Deed::Guard
    } else {
        Deed::None
    };
    let role = if facts.promotable { "promoted" } else { "active" };
    (Ok(found(&wrong, sound, degraded, || summary(facts, role, "all run that should"))), deed)
}

fn running<'a>(units: impl Iterator<Item = &'a UnitFacts>) -> Vec<&'a UnitFacts> {
    units.filter(|unit| unit.condition.runs()).collect()
}

/// `3 of the services (a, b, c) run`.
fn counted(units: &[&UnitFacts], one: &str, many: &str) -> String {
    let names: Vec<&str> = units.iter().take(SHOWN).map(|unit| unit.name.as_str()).collect();
    let more = if units.len() > SHOWN { format!(" and {} more", units.len() - SHOWN) } else { String::new() };
    let verb = if units.len() == 1 { one } else { many };
    format!("{}{more} {verb}", names.join(", "))
}

fn listed(reasons: &[String]) -> String {
    let shown: Vec<&str> = reasons.iter().take(SHOWN).map(String::as_str).collect();
    let more = if reasons.len() > SHOWN { format!("; and {} more", reasons.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join("; "))
}

fn found(wrong: &[String], sound: State, degraded: State, summary: impl FnOnce() -> String) -> Finding {
    if wrong.is_empty() { Finding::plain(sound, summary()) } else { Finding::because_of(degraded, wrong) }
}

/// A plain resource has no failed role: it just fails.
pub(crate) fn failed(facts: &Facts, reason: String) -> Found {
    if facts.promotable { Ok(Finding::because(State::FailedPromoted, reason)) } else { Err(Failure::generic(reason)) }
}

/// `promoted: 28 services of /service, all run that should; normally down: a, b`.
fn summary(facts: &Facts, role: &str, words: &str) -> String {
    let down: Vec<&str> = facts.services().filter(|unit| unit.normally_down).map(|unit| unit.name.as_str()).collect();
    let away = facts.services().filter(|unit| matches!(unit.condition, Condition::Fault(Fault::Absent(_)))).count();
    let normal = format!("; normally down: {}", down.join(", "));
    let absent = format!("; {away} are not there, as when their file system is with the Primary");
    let fault = facts.fault.as_ref().map(|fault| format!("; {fault}"));
    let more = [(!down.is_empty()).then_some(normal), (away > 0).then_some(absent), fault];
    let more: String = more.into_iter().flatten().collect();
    format!("{role}: {} services in {}, {words}{more}", facts.wanted().count(), facts.place)
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
