//! The Primary role is brought to a node, or taken from all; or everything is put back.

mod back;
mod consent;

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ocf::Deadline;

use crate::cib::{Lacks, preference, stop_marks};
use crate::crm_mon::{Failure, Monitored};
use crate::picture::Picture;
use crate::{serve, tools};
use back::Before;

/// Between two looks. A look costs some milliseconds of processor time on both nodes.
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// The constraint outlives the command's own time by this: for the removal, on a busy node.
const SPARE: SignedDuration = SignedDuration::from_secs(60);
/// For how long all has to stay as it is once nothing asks for it any more.
const STAYS: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// As it was wanted.
    Done(String),
    /// It did not come about, and a node serves as before.
    PutBack(String),
    /// It did not come about, and what there is now is said.
    Adrift(String),
}

/// One move.
pub(crate) struct Work<'a> {
    pub(crate) picture: &'a Picture,
    pub(crate) deadline: Deadline,
    began: Instant,
    signals: Option<SignalFd>,
    told: Vec<String>,
    before: Option<Before>,
    /// What the operator has given up for this one move.
    given_up: Option<Lacks>,
    given_back: bool,
}

impl<'a> Work<'a> {
    pub(crate) fn new(picture: &'a Picture, deadline: Deadline) -> Self {
        Self {
            picture,
            deadline,
            began: Instant::now(),
            signals: interrupts().ok(),
            told: Vec::new(),
            before: Before::of(picture),
            given_up: None,
            given_back: false,
        }
    }

    /// Brings the role to `target`; `lift` lets nodes be Primary again that a --stop has stopped.
    pub(crate) fn bring(&mut self, target: &str, lift: bool) -> Result<Ending> {
        let clones = self.clones();
        let budget = SignedDuration::try_from(self.deadline.remaining()).unwrap_or(SPARE);
        let until =
            Timestamp::now().checked_add(budget).and_then(|at| at.checked_add(SPARE)).context("no such time")?;
        let by = self.picture.here.clone();
        if let Err(error) = tools::add_constraints(&preference(&by, target, &clones, &self.plain(), until)) {
            // A tool that was killed may have been heard all the same.
            let _ = tools::remove_moves(&by);
            return Err(error);
        }
        self.say(&format!("the cluster was asked to promote {target}"));
        let came = if lift { tools::remove_stop_marks().map_err(|error| format!("{error:#}")) } else { Ok(()) };
        let came = came.and_then(|()| self.watch_for(target));
        let removed = tools::remove_moves(&by);
        if let Err(error) = removed {
            return Ok(Ending::Adrift(format!(
                "the constraint of the move could not be taken away: {error:#}. It ceases to count at {until}; repeat the \
                 command to have it removed"
            )));
        }
        match came {
            Ok(answered) if stays(|state| is_primary(state, &owned(&self.picture.roles()), target)) => {
                let asked = if answered.is_empty() { String::new() } else { format!(" ({})", answered.join(", ")) };
                Ok(Ending::Done(format!("{target} is Primary and serves{asked}")))
            }
            Ok(_) => Ok(self.put_back(Some(target), &format!("{target} did not stay Primary"), lift)),
            Err(why) => Ok(self.put_back(Some(target), &why, lift)),
        }
    }

    /// Takes the role from all nodes, of which `last` has it.
    pub(crate) fn stop(&mut self, last: &str) -> Result<Ending> {
        let clones = self.clones();
        if let Err(error) = tools::change_resources(&stop_marks(last, &clones)) {
            // A tool that was killed may have been heard all the same.
            return match tools::remove_stop_marks() {
                Ok(()) => Err(error),
                Err(_) => Ok(Ending::Adrift(format!(
                    "{error:#}; and whether the mark is there that lets no node be Primary is not known: hvmail_ha status"
                ))),
            };
        }
        self.say("the cluster was asked to have no Primary");
        let roles = owned(&self.picture.roles());
        let ended = |state: &Monitored| {
            let told = |one: &String| state.not_promoted.contains(&(last.to_owned(), one.clone()));
            (nobody(state, &roles) && roles.iter().all(told)).then_some(())
        };
        match self.watch(ended) {
            Ok(()) => {
                Ok(Ending::Done(format!("{last} is Secondary, and no node is Primary until hvmail_make_primary")))
            }
            Err(why) => {
                if let Err(error) = tools::remove_stop_marks() {
                    return Ok(Ending::Adrift(format!("{why}; and the mark could not be taken away: {error:#}")));
                }
                Ok(self.put_back(None, &why, false))
            }
        }
    }

    fn clones(&self) -> Vec<&'a str> {
        self.picture.configuration.roles().filter_map(|one| one.promotable.as_deref()).collect()
    }

    /// What is tied to the role and has none, a file system say. Pacemaker places the first of a chain first: such a one stays where
    /// it is when only what follows it is wanted elsewhere.
    fn plain(&self) -> Vec<&'a str> {
        let tied = self.picture.configuration.chain().filter(|one| one.promotable.is_none());
        let mut all: Vec<_> = tied.map(|one| one.inside.first().unwrap_or(&one.id).as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Until `target` serves: promoted by Pacemaker, found so by a monitor after that, and answering.
    fn watch_for(&mut self, target: &str) -> Result<Vec<String>, String> {
        let roles = owned(&self.picture.roles());
        let before = self.picture.state.failures.clone();
        let mut refused = None;
        let picture = self.picture;
        let mut silent = String::new();
        let came = self.watch(|state| {
            if let Some(failure) = gone(state, target).or_else(|| new_failure(&before, &state.failures, target)) {
                refused = Some(failure);
                return Some(Vec::new());
            }
            let there = is_primary(state, &roles, target);
            let confirmed = |one: &String| state.confirmed.contains(&(target.to_owned(), one.clone()));
            if !there || !roles.iter().all(confirmed) {
                return None;
            }
            serve::ask(&picture.configuration, &picture.here, target).map_err(|why| silent = why).ok()
        });
        match (refused, came) {
            (Some(failure), _) => Err(failure),
            (None, Err(why)) if !silent.is_empty() => Err(format!("{why}; {silent}")),
            (None, came) => came,
        }
    }

    /// Looks at the cluster until `ended` has an answer, and says what changes.
    fn watch<T>(&mut self, mut ended: impl FnMut(&Monitored) -> Option<T>) -> Result<T, String> {
        loop {
            match tools::state() {
                Ok(state) => {
                    self.progress(&state);
                    if let Some(answer) = ended(&state) {
                        return Ok(answer);
                    }
                }
                Err(error) => self.say(&format!("{error:#}")),
            }
            if self.interrupted() {
                return Err("the command was interrupted".to_owned());
            }
            if !self.deadline.sleep(LOOK_AGAIN) {
                let budget = self.deadline.budget().as_secs();
                let last = self.told.last().cloned().unwrap_or_default();
                return Err(format!("it was not done within {budget} s (--timeout); the last that was seen: {last}"));
            }
        }
    }

    fn progress(&mut self, state: &Monitored) {
        for resource in self.picture.roles() {
            let line = format!("{resource}: {}", situation(state, resource));
            let earlier = self.told.iter().rev().find(|told| told.starts_with(&format!("{resource}: ")));
            if earlier != Some(&line) {
                self.say(&line);
            }
        }
    }

    fn say(&mut self, line: &str) {
        if self.told.last().map(String::as_str) == Some(line) {
            return;
        }
        // A reader that has gone is no reason to leave things half done.
        let _ = writeln!(std::io::stdout(), "{:7.1} s  {line}", self.began.elapsed().as_secs_f32());
        let _ = std::io::stdout().flush();
        self.told.push(line.to_owned());
    }

    fn interrupted(&mut self) -> bool {
        matches!(self.signals.as_ref().map(SignalFd::read_signal), Some(Ok(Some(_))))
    }
}

/// Waits until the cluster has done what it is at, and says whether it has.
pub(crate) fn settle(roles: &[&str], budget: Duration) -> bool {
    let deadline = Deadline::after(budget);
    loop {
        if tools::state().is_ok_and(|state| !roles.iter().any(|one| state.changing(one))) {
            return true;
        }
        if !deadline.sleep(LOOK_AGAIN) {
            return false;
        }
    }
}

/// Whether it stays so.
fn stays(so: impl Fn(&Monitored) -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < STAYS {
        std::thread::sleep(LOOK_AGAIN);
        if tools::state().is_ok_and(|state| !so(&state)) {
            return false;
        }
    }
    true
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn is_primary(state: &Monitored, roles: &[String], node: &str) -> bool {
    !roles.is_empty() && roles.iter().all(|one| has(state, one, node))
}

/// That node alone, and nothing is under way. One whose promotion has failed is shown as promoted too.
fn has(state: &Monitored, resource: &str, node: &str) -> bool {
    let failed = state.instances.iter().any(|one| one.resource == resource && one.role == "Promoted" && one.failed);
    state.nodes_in_role(resource, "Promoted") == [node] && !failed && !state.changing(resource)
}

fn nobody(state: &Monitored, roles: &[String]) -> bool {
    roles.iter().all(|one| state.nodes_in_role(one, "Promoted").is_empty() && !state.changing(one))
}

/// Why a node will not be Primary any more: left alone, the constraint would bring the role to it once it is back, long after
/// another node has it.
fn gone(state: &Monitored, target: &str) -> Option<String> {
    match state.node(target) {
        Some(node) if node.unclean => Some(format!("{target} has failed and is to be fenced")),
        Some(node) if !node.online => Some(format!("{target} has left the cluster")),
        Some(node) if node.shutdown => Some(format!("{target} is leaving the cluster")),
        Some(node) if node.standby => Some(format!("{target} was put in standby")),
        Some(_) => None,
        None => Some(format!("{target} is no node of the cluster any more")),
    }
}

/// A start or a promotion on `target` that has failed since.
fn new_failure(before: &[Failure], now: &[Failure], target: &str) -> Option<String> {
    let own = |one: &&Failure| one.node == target && ["start", "promote"].contains(&one.task.as_str());
    let new = now.iter().filter(own).find(|one| !one.is_degraded() && !before.contains(one))?;
    let reason = new.reason.as_deref().unwrap_or(&new.status);
    Some(format!("{} of {} failed on {target}: {reason}", new.task, new.resource))
}

/// What one resource is at.
fn situation(state: &Monitored, resource: &str) -> String {
    let of = state.instances.iter().filter(|one| one.resource == resource && one.role != "Stopped");
    let mut parts: Vec<_> = of
        .filter(|one| one.role != "Unpromoted" || one.node.is_none())
        .map(|one| match &one.node {
            Some(node) => format!("{} on {node}", one.role.to_lowercase()),
            None => one.role.to_lowercase(),
        })
        .collect();
    parts.sort();
    if parts.is_empty() { "promoted nowhere".to_owned() } else { parts.join(", ") }
}

/// An interrupt has to put things back first.
fn interrupts() -> Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

#[cfg(test)]
#[path = "relocate_tests.rs"]
mod tests;
