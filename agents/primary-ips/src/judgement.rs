//! From what was seen to what monitor says and does. Nothing is read or touched here.

use ocf::State;

use crate::parameters::CheckLink;
use crate::record::Role;

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The instance belongs to a promotable clone.
    pub(crate) promotable: bool,
    /// The role it was given; None: it was not started.
    pub(crate) role: Option<Role>,
    /// How many addresses there should be: those of the record, or of the list when there is no record.
    pub(crate) expected: usize,
    /// How many of them are up, wherever.
    pub(crate) up: usize,
    /// A few of those that are up, for a sentence.
    pub(crate) up_named: String,
    /// Those missing or astray, for a sentence; None: all are where they belong.
    pub(crate) drift: Option<String>,
    /// Why the file cannot be followed.
    pub(crate) fault: Option<String>,
    /// How the file differs from what this active instance has, for a sentence.
    pub(crate) change: Option<String>,
    /// An unpromoted instance's node lacks an interface, or a place for an address.
    pub(crate) unready: Option<String>,
    /// Interfaces that are down or have no carrier.
    pub(crate) no_carrier: Option<String>,
    /// How another node's list differs.
    pub(crate) peer_differs: Option<String>,
    /// Hosts that have one of the addresses too.
    pub(crate) duplicates: Option<String>,
    /// Of the parameters: on_drift=repair, apply_changes=auto, check_link.
    pub(crate) repair_drift: bool,
    pub(crate) apply_changes: bool,
    pub(crate) check_link: CheckLink,
}

/// What monitor is to do before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Nothing.
    None,
    /// Take the addresses over as they are: write the record.
    Adopt,
    /// Put what has drifted back.
    Repair,
    /// Take up the changed file.
    Apply,
}

/// What monitor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This state, and what is wrong with it, the most important first.
    Found(State, Vec<String>),
    /// The resource has failed.
    Failed(String),
}

/// The verdict and the deed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) deed: Deed,
}

/// Decides.
pub(crate) fn judge(facts: &Facts) -> Judgement {
    match facts.role {
        None => judge_stopped(facts),
        Some(Role::Unpromoted) => judge_unpromoted(facts),
        Some(Role::Active) => judge_active(facts),
    }
}

fn judge_stopped(facts: &Facts) -> Judgement {
    if facts.up == 0 {
        return nothing_but(Verdict::Found(State::NotRunning, Vec::new()));
    }
    // Added by hand, or by the vendor's script before the cluster knew: the whole set in its place is the resource.
    if facts.drift.is_none() && facts.fault.is_none() && facts.up == facts.expected {
        return Judgement { verdict: Verdict::Found(State::serving(facts.promotable), Vec::new()), deed: Deed::Adopt };
    }
    let wrong = facts.drift.as_deref().or(facts.fault.as_deref()).unwrap_or_default();
    nothing_but(failed(
        facts,
        format!(
            "{} of {} addresses are up although this instance was not started: {}; {wrong}. A stop takes them away",
            facts.up, facts.expected, facts.up_named
        ),
    ))
}

fn judge_unpromoted(facts: &Facts) -> Judgement {
    if facts.up > 0 {
        let reason = format!(
            "{} of {} addresses are up although this instance is unpromoted: {}. A demote or stop takes them away",
            facts.up, facts.expected, facts.up_named
        );
        return nothing_but(Verdict::Found(State::FailedPromoted, vec![reason]));
    }
    let carrier = facts.no_carrier.as_ref().filter(|_| facts.check_link != CheckLink::Off);
    let wrong = [facts.fault.as_ref(), facts.unready.as_ref(), carrier, facts.peer_differs.as_ref()];
    nothing_but(degraded_by(&wrong, State::Running, State::Degraded))
}

fn judge_active(facts: &Facts) -> Judgement {
    if let Some(drift) = &facts.drift {
        if facts.repair_drift {
            return Judgement {
                verdict: Verdict::Found(State::serving_degraded(facts.promotable), vec![drift.clone()]),
                deed: Deed::Repair,
            };
        }
        return nothing_but(if facts.up == 0 && !facts.promotable {
            Verdict::Found(State::NotRunning, vec![drift.clone()])
        } else {
            failed(facts, format!("{drift}; on_drift=fail"))
        });
    }
    if let (Some(carrier), CheckLink::Fail) = (&facts.no_carrier, facts.check_link) {
        return nothing_but(failed(facts, format!("{carrier}; check_link=fail")));
    }
    let carrier = facts.no_carrier.as_ref().filter(|_| facts.check_link == CheckLink::Degraded);
    let apply = facts.change.is_some() && facts.apply_changes;
    let unapplied = facts.change.as_ref().filter(|_| !facts.apply_changes);
    let unapplied = unapplied.map(|change| format!("{change}; a reload takes it up (apply_changes=reload)"));
    let wrong = [facts.fault.as_ref(), unapplied.as_ref(), carrier, facts.duplicates.as_ref()];
    let verdict = degraded_by(&wrong, State::serving(facts.promotable), State::serving_degraded(facts.promotable));
    Judgement { verdict, deed: if apply { Deed::Apply } else { Deed::None } }
}

fn nothing_but(verdict: Verdict) -> Judgement {
    Judgement { verdict, deed: Deed::None }
}

fn degraded_by(wrong: &[Option<&String>], sound: State, degraded: State) -> Verdict {
    let reasons: Vec<String> = wrong.iter().copied().flatten().cloned().collect();
    Verdict::Found(if reasons.is_empty() { sound } else { degraded }, reasons)
}

/// A plain resource has no failed role: it just fails.
fn failed(facts: &Facts, reason: String) -> Verdict {
    if facts.promotable { Verdict::Found(State::FailedPromoted, vec![reason]) } else { Verdict::Failed(reason) }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
