//! What the instance is. Reads the record, the file and the kernel, and repairs what it may. Starts no program, except to
//! tell the cluster what has changed, and on a standby, once a minute, to ask for the other nodes' lists (`peers`).

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use ocf::{Failure, Finding, Found, LAST_RESORT, Lapse, Lock, NEVER, Run, State};

use crate::drift::{Drift, Links, addresses, links_of, some};
use crate::duplicate::Probe;
use crate::judgement::{Deed, Facts, Judgement, Verdict, judge};
use crate::kernel::{Kernel, OldAddress, Present};
use crate::list::{self, List, Seen, look};
use crate::lower::{described, there};
use crate::parameters::Settings;
use crate::peers;
use crate::placement::place;
use crate::raise::{NotRaised, others};
use crate::record::{Placed, Record, Role};
use crate::settle::settle;
use crate::validate::missing_links;

/// Promotion scores: an instance that serves stays promoted; one that would only serve after somebody mended something
/// has none.
const SERVING: i32 = 100;
/// An unpromoted instance whose node could take over at once.
const READY: i32 = 50;
/// One that could take over, with a list that is not the peer's.
const OTHER_LIST: i32 = 20;

/// What one look at everything has shown.
struct Survey {
    kernel: Kernel,
    record: Option<Record>,
    list: Seen,
    present: Vec<Present>,
    /// What should be up if the instance is active: by the record, or without one by the list.
    expected: Vec<Placed>,
    links: Links,
    drift: Drift,
    /// The list's addresses in their places, when the list has no fault and all have a place.
    wanted: Result<Vec<Placed>, String>,
}

pub(crate) fn monitor(run: &Run, settings: &Settings) -> Found {
    let mut survey = Survey::take(run, settings)?;
    let facts = survey.facts(run, settings)?;
    let Judgement { verdict, deed } = judge(&facts);
    run.log.step(&format!("{verdict:?}, {deed:?}"));
    let verdict = match deed {
        // Pacemaker probes to learn what is there, also where it was told to keep its hands off.
        Deed::Repair | Deed::Apply if run.environment.by_pacemaker() && run.environment.probe() => verdict,
        Deed::None => verdict,
        Deed::Adopt => adopt(run, &survey, verdict)?,
        Deed::Repair => repair(run, settings, &mut survey, verdict)?,
        Deed::Apply => apply(run, settings, &mut survey, verdict)?,
    };
    if !run.environment.probe() {
        tell_cluster(run, &survey, &facts, &verdict);
    }
    match verdict {
        Verdict::Failed(reason) => Err(Failure::generic(reason)),
        Verdict::Found(state, reasons) if reasons.is_empty() => {
            Ok(Finding::plain(state, summary(settings, &survey, state)))
        }
        Verdict::Found(state, reasons) => Ok(Finding::because_of(state, &reasons)),
    }
}

impl Survey {
    fn take(run: &Run, settings: &Settings) -> Result<Self, Failure> {
        let record = Record::read(&run.store)?;
        let active = record.as_ref().filter(|record| record.role == Role::Active);
        let known = active.map(|record| record.list.fingerprint.as_str());
        // A wrong parameter may be the very path of the list: nothing is read, and nothing changed, by a default's word.
        let list = settings.wrong.clone().map_or_else(|| look(&settings.ip_file, known), list::none);
        let mut kernel = Kernel::open(run.deadline)?;
        let present = kernel.addresses()?;
        let nic = settings.nic.as_deref();
        let wanted = match &list {
            Seen::Unchanged => Ok(Vec::new()),
            Seen::Other(list) => place(&mut kernel, &list.entries, &present, nic, record.as_ref())?,
        };
        let expected = match active {
            Some(record) => record.addresses.clone(),
            // Without a record nothing says where an address was put; where the list puts it is where it should be.
            None => wanted.clone().unwrap_or_default(),
        };
        let links = links_of(&mut kernel, &expected)?;
        let drift = Drift::between(&expected, &present, &links);
        run.log.step(&format!("{} addresses expected, {} in the kernel", expected.len(), present.len()));
        Ok(Self { kernel, record, list, present, expected, links, drift, wanted })
    }

    fn role(&self) -> Option<Role> {
        self.record.as_ref().map(|record| record.role)
    }

    /// The list, if it is not the one that an active instance has its addresses from.
    fn other_list(&self) -> Option<&List> {
        match &self.list {
            Seen::Unchanged => None,
            Seen::Other(list) => Some(list),
        }
    }

    fn facts(&mut self, run: &Run, settings: &Settings) -> Result<Facts, Failure> {
        let active = self.role() == Some(Role::Active);
        let unpromoted = self.role() == Some(Role::Unpromoted);
        let fault = self.other_list().and_then(|list| list.fault.clone());
        let unplaced = self.wanted.as_ref().err().filter(|_| fault.is_none());
        let unplaced = unplaced.map(|reason| format!("{}: {reason}", settings.ip_file.display()));
        let (expected, up, up_named) = if active { self.up_of_own() } else { self.up_of_listed()? };
        let change = if active && fault.is_none() { self.difference() } else { None };
        Ok(Facts {
            promotable: run.environment.promotable(),
            role: self.role(),
            expected,
            up,
            up_named,
            drift: self.describe_drift()?,
            fault: if active { fault.or(unplaced.clone()) } else { fault },
            change,
            unready: unplaced.or_else(|| missing_links(&self.expected, &self.links)),
            no_carrier: self.without_carrier(),
            peer_differs: self.other_list().filter(|_| unpromoted).and_then(|list| peers::difference(run, list)),
            duplicates: if active && run.check_level() >= 10 { self.duplicates(run)? } else { None },
            repair_drift: settings.repair_drift,
            apply_changes: settings.apply_changes_at_monitor,
            check_link: settings.check_link,
        })
    }

    /// How many addresses an active instance should have, and how many of them are up, wherever.
    fn up_of_own(&self) -> (usize, usize, String) {
        let of_all = self.expected.len();
        (of_all, of_all - self.nowhere().len(), String::new())
    }

    /// The same for the listed addresses of an instance that should have none of them up; and a few of those that are.
    fn up_of_listed(&mut self) -> Result<(usize, usize, String), Failure> {
        // Addresses of lines that have no place count as well when they are up.
        let entries = self.other_list().map(|list| list.entries.as_slice()).unwrap_or_default();
        let listed: HashSet<IpAddr> = entries.iter().map(|entry| entry.address).collect();
        let up: Vec<OldAddress> = there(&self.present, &listed).map(Into::into).collect();
        let distinct: HashSet<IpAddr> = up.iter().map(|old| old.address).collect();
        Ok((listed.len(), distinct.len(), described(&mut self.kernel, &up)?))
    }

    /// The expected addresses that are not even in a wrong place.
    fn nowhere(&self) -> Vec<&Placed> {
        let astray: HashSet<IpAddr> = self.drift.astray.iter().map(|old| old.address).collect();
        self.drift.missing.iter().filter(|placed| !astray.contains(&placed.address)).collect()
    }

    fn describe_drift(&mut self) -> Result<Option<String>, Failure> {
        if self.drift.is_none() {
            return Ok(None);
        }
        let of_all = self.expected.len();
        let astray: HashSet<IpAddr> = self.drift.astray.iter().map(|old| old.address).collect();
        let missing = self.nowhere();
        let mut words = Vec::new();
        if !missing.is_empty() {
            words.push(format!("{} of {of_all} addresses are missing: {}", missing.len(), some(&missing)));
        }
        if !astray.is_empty() {
            let found = described(&mut self.kernel, &self.drift.astray)?;
            let belonging = self.expected.iter().find(|placed| astray.contains(&placed.address));
            let belonging = belonging.map_or_else(String::new, |placed| format!(", where {placed} is expected"));
            words.push(format!("{} of {of_all} addresses are not where they belong: {found}{belonging}", astray.len()));
        }
        Ok(Some(words.join("; ")))
    }

    /// How the list differs from what an active instance has.
    fn difference(&self) -> Option<String> {
        self.other_list()?;
        let wanted: BTreeSet<&Placed> = self.wanted.as_ref().ok()?.iter().collect();
        let have: BTreeSet<&Placed> = self.expected.iter().collect();
        let (new, old): (Vec<_>, Vec<_>) = (wanted.difference(&have).collect(), have.difference(&wanted).collect());
        let words = [("new", &new), ("no longer in it", &old)];
        let words = words.iter().filter(|(_, list)| !list.is_empty());
        let words: Vec<_> = words.map(|(word, list)| format!("{} {word} ({})", list.len(), some(list))).collect();
        (!words.is_empty()).then(|| format!("the list has changed: {}", words.join(", ")))
    }

    fn without_carrier(&self) -> Option<String> {
        let mut dead: Vec<_> = self.links.values().flatten().filter(|link| !link.up || !link.carrier).collect();
        dead.sort_by_key(|link| link.index);
        let names: Vec<&str> = dead.iter().map(|link| link.name.as_str()).collect();
        if names.is_empty() {
            return None;
        }
        let count = self.expected.iter().filter(|placed| names.contains(&&*placed.interface)).count();
        let word = if dead.iter().all(|link| link.up) { "has no carrier" } else { "is down" };
        Some(format!("{} {word}: {} there would reach nobody", names.join(", "), addresses(count)))
    }

    fn duplicates(&self, run: &Run) -> Result<Option<String>, Failure> {
        let probes = self.expected.iter().filter_map(|placed| {
            let link = self.links.get(&placed.interface)?.as_ref()?;
            Some(Probe { address: placed.address, link: link.index })
        });
        Ok(others(run, &probes.collect::<Vec<_>>(), &self.links)?)
    }
}

/// Without this record the next monitor would find addresses that nobody started.
fn adopt(run: &Run, survey: &Survey, verdict: Verdict) -> Result<Verdict, Failure> {
    if run.lock_if_free()?.is_none() {
        return Ok(verdict);
    }
    let list = survey.other_list().map(|list| list.id.clone()).unwrap_or_default();
    Record { role: Role::Active, list, addresses: survey.expected.clone() }.write(&run.store)?;
    run.log.info(&format!(
        "{} were up before this instance was started, added by hand or by a script, and are its own from here on",
        addresses(survey.expected.len())
    ));
    Ok(verdict)
}

/// Puts what has drifted back, unless another action is at work. Degraded it is all the same: somebody should know.
fn repair(run: &Run, settings: &Settings, survey: &mut Survey, verdict: Verdict) -> Result<Verdict, Failure> {
    let (Some(_lock), Verdict::Found(degraded, reasons)) = (lock_if_free(run)?, &verdict) else {
        return Ok(verdict);
    };
    let drift = reasons.join("; ");
    let list = survey.record.as_ref().map(|record| record.list.clone()).unwrap_or_default();
    let wanted = Record { role: Role::Active, list, addresses: survey.expected.clone() };
    match settle(run, settings, &mut survey.kernel, survey.record.as_ref(), &wanted) {
        Ok(settled) => {
            run.log.info(&format!("{drift}: {settled}"));
            Ok(Verdict::Found(*degraded, vec![format!("{drift}; put right: {settled}")]))
        }
        // Another host in the way is no reason to take the other addresses from their clients.
        Err(NotRaised::Taken(reason)) => Ok(Verdict::Found(*degraded, vec![format!("{drift}; {reason}")])),
        Err(NotRaised::Failed(failure)) if run.environment.promotable() => {
            Ok(Verdict::Found(State::FailedPromoted, vec![format!("{drift}; {failure}")]))
        }
        Err(NotRaised::Failed(failure)) => Ok(Verdict::Failed(format!("{drift}; {failure}"))),
    }
}

/// Takes up the changed list, unless another action is at work. A list that cannot be followed leaves everything as it
/// is, and degraded.
fn apply(run: &Run, settings: &Settings, survey: &mut Survey, verdict: Verdict) -> Result<Verdict, Failure> {
    let (Some(_lock), Some(change), Some(list)) = (lock_if_free(run)?, survey.difference(), survey.other_list()) else {
        return Ok(verdict);
    };
    let addresses = survey.wanted.clone().unwrap_or_default();
    let wanted = Record { role: Role::Active, list: list.id.clone(), addresses };
    let hindered = match settle(run, settings, &mut survey.kernel, survey.record.as_ref(), &wanted) {
        Ok(settled) => {
            run.log.info(&format!("{change}: {settled}"));
            return Ok(verdict);
        }
        Err(NotRaised::Taken(reason)) => reason,
        Err(NotRaised::Failed(failure)) => failure.to_string(),
    };
    let degraded = State::serving_degraded(run.environment.promotable());
    Ok(Verdict::Found(degraded, vec![format!("{change}; this cannot be followed: {hindered}")]))
}

fn lock_if_free(run: &Run) -> Result<Option<Lock>, Failure> {
    let lock = run.lock_if_free()?;
    if lock.is_none() {
        run.log.info("another action of this instance is running; nothing is changed before it has ended");
    }
    Ok(lock)
}

/// Tells the cluster how fit this node is and which list it has. What the cluster makes of it changes nothing here.
fn tell_cluster(run: &Run, survey: &Survey, facts: &Facts, verdict: &Verdict) {
    let cluster = run.cluster();
    let list = match &survey.list {
        Seen::Unchanged => survey.record.as_ref().map(|record| &record.list),
        Seen::Other(list) => Some(&list.id).filter(|_| list.fault.is_none()),
    };
    if let Some(list) = list.filter(|_| facts.role.is_some()) {
        cluster.private_attribute(&peers::list_attribute(run), &list.digest);
    }
    let score = match verdict {
        Verdict::Found(State::RunningPromoted | State::DegradedPromoted, _) => SERVING,
        Verdict::Found(State::Running | State::Degraded, _) => match facts {
            Facts { fault: Some(_), .. } | Facts { unready: Some(_), .. } => NEVER,
            Facts { no_carrier: Some(_), .. } => Lapse::reduced(run, LAST_RESORT),
            Facts { peer_differs: Some(_), .. } => Lapse::reduced(run, OTHER_LIST),
            _ => Lapse::reduced(run, READY),
        },
        Verdict::Found(State::FailedPromoted, _) if facts.role == Some(Role::Active) => {
            Lapse::Serving.note(run);
            LAST_RESORT
        }
        // What leaked is taken away first, and a stopped instance has said nothing.
        _ => return,
    };
    cluster.promotion_score(Some(score));
}

/// The promotion score of an instance that has just been started on a node with these links.
pub(crate) fn first_score(run: &Run, links: &Links) -> i32 {
    let reachable = links.values().flatten().all(|link| link.up && link.carrier);
    Lapse::reduced(run, if reachable { READY } else { LAST_RESORT })
}

fn summary(settings: &Settings, survey: &Survey, state: State) -> String {
    let file = settings.ip_file.display();
    let ipv6 = survey.expected.iter().filter(|placed| placed.address.is_ipv6()).count();
    let ipv4 = survey.expected.len() - ipv6;
    let interfaces: Vec<&str> = survey.links.keys().map(|name| &**name).collect();
    let set = format!("{ipv4} IPv4 and {ipv6} IPv6 addresses of {file}");
    match state {
        State::RunningPromoted => format!("promoted: {set} are up on {}", interfaces.join(", ")),
        State::Running if survey.role() == Some(Role::Unpromoted) => {
            format!("unpromoted and ready: {set} would come up on {}; none is up", interfaces.join(", "))
        }
        State::Running => format!("active: {set} are up on {}", interfaces.join(", ")),
        _ => format!("stopped: none of the addresses of {file} is up, and this instance was not started"),
    }
}
