//! From what was seen to what monitor says and how fit the node is. Nothing is read or touched here.

use std::time::Duration;

use ocf::{LAST_RESORT, State};

use crate::configuration::slot_name;
use crate::contact::Closed;
use crate::control::ClusterState;
use crate::parameters::{Rejoin, Sync};
use crate::peers::Told;
use crate::position::{Lsn, Standing};
use crate::record::Role;
use crate::server::{Primary, Said, Standby};

/// The promoted instance.
pub(crate) const SERVING: i32 = 100;
/// A node whose server was the primary when it went down, and has not been found to have gone its own way: no standby has
/// more than it.
pub(crate) const WAS_PRIMARY: i32 = 55;
/// A standby that streams.
pub(crate) const STREAMING: i32 = 50;
/// A standby that streamed, and whose primary is not to be seen: the one that is wanted when it has died.
pub(crate) const STREAMED: i32 = 40;

/// A standby needs some time to connect after a start, after another node was promoted, and after its primary recovered
/// from a crash. What does not stream is no fault before.
const SETTLES: Duration = Duration::from_secs(30);

/// The server as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// No process of it.
    Absent,
    /// So many processes without a postmaster.
    Orphans(usize),
    /// Nobody can tell whether it serves.
    Mute(String),
    /// It lives and lets nobody in, or not the agent.
    Closed(Closed, String),
    Answering(Said),
}

/// What was seen.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are so or not")]
pub(crate) struct Facts {
    pub(crate) seen: Seen,
    pub(crate) control: Option<ClusterState>,
    /// The role that the cluster gave it.
    pub(crate) role: Option<Role>,
    /// For how long nothing has streamed.
    pub(crate) silence: Duration,
    /// How a standby's place stands to that of the primary, as far as that one told.
    pub(crate) against_primary: Option<Standing>,
    /// A standby that has streamed since it was started.
    pub(crate) has_streamed: bool,
    /// What this standby has not been seen to have.
    pub(crate) lacks: Option<Lack>,
    /// Its log ends in half a record, here.
    pub(crate) half_record: Option<Lsn>,
    /// It was a primary before the start, and has not streamed since.
    pub(crate) was_primary: bool,
    /// A file system that is nearly full.
    pub(crate) disk: Option<String>,
    /// It is so full that a server writes nothing more.
    pub(crate) disk_full: bool,
    /// The primary by its own word, heard at check level 10.
    pub(crate) primary: Option<Told>,
    /// Another server that accepts writes beside this primary, asked at check level 10.
    pub(crate) second_primary: Option<String>,
    /// What a standby that does not stream is told by the primary.
    pub(crate) why_deaf: Option<String>,
    /// The slot that this node has on the primary, where slots are used.
    pub(crate) slot: Option<String>,
    /// What a round trip to the disk found wrong, at check level 10.
    pub(crate) write: Option<String>,
    /// Of the parameters.
    pub(crate) wrong: Option<String>,
    pub(crate) follows_somebody: bool,
    pub(crate) rejoin: Rejoin,
    pub(crate) sync: Sync,
    pub(crate) max_lag: Option<u64>,
    pub(crate) max_slot_wal: Option<u64>,
}

/// What a primary acknowledged without this standby.
#[derive(Debug, Clone)]
pub(crate) struct Lack {
    pub(crate) author: String,
    /// For how long that is known.
    pub(crate) known: Duration,
    /// What a person can do who has only this node.
    pub(crate) ways_out: String,
}

/// What monitor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This state, and what is wrong with it, the most important first.
    Found(State, Vec<String>),
    /// The resource has failed.
    Failed(String),
}

/// How fit the node is to be promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fitness {
    /// It is promoted and serves, whatever it did before.
    Serving,
    /// With this score.
    Score(i32),
    /// It must not be promoted.
    Unfit,
    /// What was said before still holds.
    Unchanged,
    /// The promoted instance has failed. What it acknowledged is on its own disk, and for certain nowhere else: once it is
    /// started again where it was; the next time others come first.
    Failed,
    /// The same, where it would fail again at once.
    Hopeless,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) fitness: Fitness,
}

/// Decides.
pub(crate) fn judge(facts: &Facts) -> Judgement {
    match &facts.seen {
        Seen::Absent => absent(facts),
        Seen::Orphans(count) => {
            let reason =
                format!("the postmaster is gone and {count} processes of its server are left; a stop ends them");
            failed(facts, reason)
        }
        Seen::Mute(why) => failed(facts, why.clone()),
        Seen::Closed(Closed::Stopping, why) => {
            failed(facts, format!("{why}: somebody other than the cluster is stopping the server"))
        }
        Seen::Closed(why, words) => closed(facts, *why, words),
        Seen::Answering(Said::Primary(primary)) => promoted(facts, primary),
        Seen::Answering(Said::Standby(standby)) => unpromoted(facts, standby),
    }
}

fn absent(facts: &Facts) -> Judgement {
    let gone = || "the server does not run, and nobody of the cluster stopped it; its log says why".to_owned();
    // A full disk is what ends a server, and what its log says then.
    let reasons = facts.role.map_or_else(Vec::new, |_| said([facts.disk.clone(), Some(gone())]));
    Judgement { verdict: Verdict::Found(State::NotRunning, reasons), fitness: fitness_after_failure(facts) }
}

/// Started again where its disk is full a primary fails again.
fn fitness_after_failure(facts: &Facts) -> Fitness {
    match (was_promoted(facts), facts.disk_full) {
        (true, true) => Fitness::Hopeless,
        (true, false) => Fitness::Failed,
        (false, _) => Fitness::Unchanged,
    }
}

fn was_promoted(facts: &Facts) -> bool {
    facts.role == Some(Role::Promoted)
}

fn failed(facts: &Facts, reason: String) -> Judgement {
    let verdict = if was_promoted(facts) {
        Verdict::Found(State::FailedPromoted, said([Some(reason), facts.disk.clone()]))
    } else {
        Verdict::Failed(reason)
    };
    Judgement { verdict, fitness: fitness_after_failure(facts) }
}

/// The server lives, and its role is told by the control file; where that is silent, by what the cluster made of it.
fn closed(facts: &Facts, why: Closed, words: &str) -> Judgement {
    let primary = facts.control.and_then(ClusterState::of_primary).unwrap_or_else(|| was_promoted(facts));
    let reason = match why {
        Closed::Full => format!("no connection is left for the agent, raise max_connections: {words}"),
        Closed::Starting if primary => {
            format!("{words}: it recovers from a crash of one of its processes; its log says which")
        }
        Closed::Starting => format!("{words}: it replays its log and is not consistent yet"),
        Closed::Refused | Closed::Stopping => words.to_owned(),
    };
    let state = if primary { State::DegradedPromoted } else { State::Degraded };
    let verdict = Verdict::Found(state, said([Some(reason), facts.disk.clone(), facts.wrong.clone()]));
    Judgement { verdict, fitness: Fitness::Unchanged }
}

fn promoted(facts: &Facts, primary: &Primary) -> Judgement {
    let streaming = primary.streaming();
    let alone = streaming.is_empty() && facts.follows_somebody && facts.silence >= SETTLES;
    let alone = alone.then(|| match facts.sync {
        Sync::Require => {
            "no standby is streaming, and with sync=require no commit is acknowledged until one does".to_owned()
        }
        Sync::Prefer => "no standby is streaming: commits are acknowledged by this node alone".to_owned(),
        Sync::Off => "no standby is streaming: a failover would lose what is written from now on".to_owned(),
    });
    let kept = facts.max_slot_wal.and_then(|most| {
        let slot = primary.slots.iter().find(|slot| slot.kept.is_some_and(|kept| kept > most / 2))?;
        let kept = slot.kept.unwrap_or_default();
        Some(format!("slot {} keeps {kept} bytes of WAL; it is dropped beyond max_slot_wal, {most}", slot.name))
    });
    // A slot that was made a moment ago is taken up with the standby's next connection.
    let slotless = primary.slots.iter().filter(|_| facts.slot.is_some()).find(|slot| !slot.active).and_then(|slot| {
        let node = streaming.iter().find(|node| slot_name(node) == slot.name)?;
        Some(format!("{node} streams without its slot {}: restart its server, or WAL it lacks is not kept", slot.name))
    });
    let by_hand = is_promoted_by_hand(facts);
    let hand = by_hand.then(|| {
        "the server was promoted, and not by the cluster, which has it as a standby: what is written to it may be lost".to_owned()
    });
    let wrong = [
        hand,
        facts.second_primary.clone(),
        facts.write.clone(),
        facts.disk.clone(),
        alone,
        kept,
        slotless,
        facts.wrong.clone(),
    ];
    let verdict = sound_or(wrong, State::RunningPromoted, State::DegradedPromoted);
    Judgement { verdict, fitness: if by_hand { Fitness::Unchanged } else { Fitness::Serving } }
}

/// A primary that the cluster made a standby.
pub(crate) fn is_promoted_by_hand(facts: &Facts) -> bool {
    facts.role == Some(Role::Unpromoted) && matches!(facts.seen, Seen::Answering(Said::Primary(_)))
}

fn unpromoted(facts: &Facts, standby: &Standby) -> Judgement {
    let diverged = diverged(facts.against_primary, standby.lsn);
    if let Some(parted) = diverged.as_ref().filter(|_| facts.against_primary.is_some_and(|one| facts.rejoin.mends(one)))
    {
        return Judgement { fitness: Fitness::Unfit, ..failed(facts, format!("{parted}; a start mends that")) };
    }
    if let Some(left) = facts.half_record.filter(|_| is_deaf(facts, false)) {
        let reason =
            format!("this node's log ends in half a record at {left}, which no other node has; a start mends that");
        return Judgement { fitness: Fitness::Unfit, ..failed(facts, reason) };
    }
    let deaf = is_deaf(facts, standby.streaming).then(|| {
        if facts.follows_somebody {
            facts
                .why_deaf
                .clone()
                .unwrap_or_else(|| "the standby does not stream from a primary: its log says why".to_owned())
        } else {
            "the standby follows nobody: set primary_hosts".to_owned()
        }
    });
    let behind = match (facts.max_lag, standby.lag) {
        (Some(most), Some(lag)) if lag > most => Some(format!("the standby is {lag} bytes behind; maxlag is {most}")),
        _ => None,
    };
    let lack = facts.lacks.as_ref().filter(|lack| lack.known >= SETTLES);
    let lacks = lack.map(|lack| format!("{} wrote what this node lacks, so it is not promoted", lack.author));
    // With this score nobody tries to promote it, so no refusal says it.
    let ways_out = lack.filter(|_| !standby.streaming).map(|lack| lack.ways_out.clone());
    let paused = standby.paused.then(|| "replay is paused: SELECT pg_wal_replay_resume()".to_owned());
    let limited = behind.is_some() || facts.disk.is_some() || standby.paused;
    let fitness = match facts {
        _ if diverged.is_some() || facts.lacks.is_some() => Fitness::Unfit,
        _ if limited => Fitness::Score(LAST_RESORT),
        _ if standby.streaming => Fitness::Score(STREAMING),
        Facts { has_streamed: true, .. } => Fitness::Score(STREAMED),
        Facts { was_primary: true, .. } => Fitness::Score(WAS_PRIMARY),
        _ => Fitness::Score(LAST_RESORT),
    };
    // What a full disk is the cause of is said behind it.
    let wrong = [
        diverged,
        lacks,
        facts.disk.clone(),
        deaf,
        elsewhere(facts, standby).or_else(|| slotless(facts, standby)),
        behind,
        paused,
        facts.wrong.clone(),
        ways_out,
    ];
    Judgement { verdict: sound_or(wrong, State::Running, State::Degraded), fitness }
}

/// Whether it has not streamed for too long.
pub(crate) fn is_deaf(facts: &Facts, streaming: bool) -> bool {
    !streaming && facts.silence >= SETTLES
}

pub(crate) fn is_elsewhere(facts: &Facts) -> bool {
    matches!(&facts.seen, Seen::Answering(Said::Standby(standby)) if elsewhere(facts, standby).is_some())
}

/// A standby that streams, and not what it should: from another server than the one that says it is the primary, or on
/// another timeline. That it is the same database the server has seen to itself: a receiver ends where the system identifiers
/// differ (WalReceiverMain, walreceiver.c).
fn elsewhere(facts: &Facts, standby: &Standby) -> Option<String> {
    let (source, told) = (standby.source.as_ref()?, facts.primary.as_ref()?);
    if let (Some(from), Some(at)) = (&source.host, &told.address)
        && from != at
    {
        return Some(format!("the standby streams from {from}, and the primary is {} at {at}", told.node));
    }
    let (here, there) = (source.timeline, told.timeline);
    (here != there)
        .then(|| format!("the standby streams timeline {here}, and that of the primary, {}, is {there}", told.node))
}

fn slotless(facts: &Facts, standby: &Standby) -> Option<String> {
    let source = standby.source.as_ref()?;
    let slot = facts.slot.as_ref().filter(|slot| source.slot.as_ref() != Some(slot))?;
    Some(format!("the standby streams without its slot {slot}: the WAL it lacks may not be kept for it; restart it"))
}

/// The sentence about a standby that the primary's history has left behind.
pub(crate) fn diverged(standing: Option<Standing>, own: Lsn) -> Option<String> {
    match standing? {
        Standing::Diverged(left) => {
            Some(format!("this node parted from the primary at {left} and has log of its own up to {own}"))
        }
        Standing::Unrelated => Some("this node's timeline does not occur in the primary's history".to_owned()),
        Standing::Equal | Standing::Ahead | Standing::Behind | Standing::OtherDiverged => None,
    }
}

fn sound_or<const N: usize>(wrong: [Option<String>; N], sound: State, degraded: State) -> Verdict {
    let reasons = said(wrong);
    Verdict::Found(if reasons.is_empty() { sound } else { degraded }, reasons)
}

fn said<const N: usize>(wrong: [Option<String>; N]) -> Vec<String> {
    wrong.into_iter().flatten().collect()
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
