//! What the instance is: one look, one judgement, and what follows from it for the others.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use ocf::{Failure, Finding, Found, LAST_RESORT, Lapse, NEVER, Run, State};

use crate::configuration::{Own, slot_name};
use crate::control::ClusterState;
use crate::half_record;
use crate::inquiry;
use crate::installation::Version;
use crate::judgement::{
    Facts, Fitness, Judgement, Lack, SERVING, Seen, Verdict, is_deaf, is_elsewhere, is_promoted_by_hand, judge,
};
use crate::lacking;
use crate::parameters::Settings;
use crate::peers;
use crate::position::{History, Position};
use crate::record::{self, Role};
use crate::server::{self, Primary, Said};
use crate::session::Session;
use crate::survey::{Disk, Survey, disk, started};
use crate::upkeep;

/// Six times wal_retrieve_retry_interval, as the agent sets it.
const GOES_OVER: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub(crate) fn monitor(run: &Run, settings: &Settings) -> Found {
    if settings.place_is_wrong && started(run).is_none() {
        let wrong = settings.wrong.clone().unwrap_or_default();
        let reason = format!("{wrong}; without it nothing is started, and no server that was started here runs");
        return Ok(Finding::because_of(State::NotRunning, &[reason]));
    }
    let (mut survey, facts) = look(run, settings)?;
    let Judgement { verdict, fitness } = judge(&facts);
    if !run.environment.probe() {
        remember(run, &facts, &verdict);
        // What the cluster has not promoted speaks for nobody: the primary's history and who lacks what are not its to tell.
        if !is_promoted_by_hand(&facts) {
            tend(run, settings, &mut survey);
            tell_cluster(run, &survey, fitness);
        }
    }
    match verdict {
        Verdict::Failed(reason) => Err(Failure::generic(reason)),
        Verdict::Found(state, reasons) if reasons.is_empty() => Ok(Finding::plain(state, summary(&survey, state))),
        Verdict::Found(state, reasons) => Ok(Finding::because_of(state, &reasons)),
    }
}

/// A standby goes over to the next timeline by ending one stream and beginning another: what is amiss then is looked at again.
fn look(run: &Run, settings: &Settings) -> Result<(Survey, Facts), Failure> {
    let patience = run.deadline.at_most(GOES_OVER);
    loop {
        let mut survey = Survey::of_monitor(run, settings)?;
        let facts = facts(run, settings, &mut survey);
        if !is_elsewhere(&facts) || !patience.sleep(LOOK_AGAIN) {
            return Ok((survey, facts));
        }
    }
}

/// What the next start has to know.
fn remember(run: &Run, facts: &Facts, verdict: &Verdict) {
    let (Some(left), Seen::Answering(Said::Standby(standby)), Verdict::Failed(_)) =
        (facts.half_record, &facts.seen, verdict)
    else {
        return;
    };
    if let Err(error) = record::note_half_record(&run.store, standby.own_timeline, left) {
        run.log.warning(&format!("{error:#}"));
    }
}

fn facts(run: &Run, settings: &Settings, survey: &mut Survey) -> Facts {
    let answering = survey.said().cloned();
    let own = answering.as_ref().and_then(|said| said.position(&survey.data).ok());
    let standby = matches!(answering, Some(Said::Standby(_)));
    let thorough = run.check_level() >= 10;
    let write = match (&answering, survey.session.as_mut()) {
        (Some(Said::Primary(_)), Some(session)) if thorough => write_through(session, &survey.data).err(),
        _ => None,
    };
    let lacks = if standby { lacks(run) } else { None };
    let half_record = match &answering {
        Some(Said::Standby(standby)) => {
            half_record::place(|timeline| History::read(&survey.data, timeline).ok(), standby)
        }
        _ => None,
    };
    let running = !matches!(survey.seen, Seen::Absent);
    let role = role(run, answering.as_ref());
    // Of a server that nobody has started there is nothing to say.
    let disk = if running || role.is_some() { disk(&survey.data, settings.disk_min_free) } else { Disk::default() };
    let own_node = peers::own_name(run);
    let mut facts = Facts {
        control: if running { ClusterState::read(&survey.data).ok() } else { None },
        role,
        silence: silence(run, answering.as_ref(), half_record.is_some()),
        against_primary: own.filter(|_| standby).and_then(|own| peers::against_primary(run, &own)),
        has_streamed: record::has_streamed(&run.store),
        half_record,
        was_primary: record::was_primary(&run.store),
        lacks,
        disk: disk.short,
        disk_full: disk.full,
        primary: if standby && thorough { peers::primary(run, &settings.hosts) } else { None },
        second_primary: None,
        why_deaf: None,
        slot: settings.use_slots.then(|| slot_name(&own_node)),
        write: write.map(|error| format!("a transaction could not be written to the disk: {error:#}")),
        wrong: settings.wrong.clone(),
        follows_somebody: !settings.hosts.others(&own_node).is_empty(),
        rejoin: settings.rejoin,
        sync: settings.sync,
        max_lag: settings.max_lag,
        max_slot_wal: settings.max_slot_wal.filter(|_| settings.use_slots),
        seen: survey.seen.clone(),
    };
    // A standby that streams is no primary.
    if let Some(Said::Primary(primary)) = &answering
        && thorough
        && primary.streaming().len() < settings.hosts.others(&own_node).len()
    {
        facts.second_primary = inquiry::second_primary(run, settings);
    }
    if let Some(Said::Standby(standby)) = &answering
        && facts.follows_somebody
        && is_deaf(&facts, standby.streaming)
    {
        facts.why_deaf = inquiry::why_deaf(run, settings);
    }
    facts
}

/// The role that the cluster gave it. What somebody else has promoted the cluster may have taken for promoted since, when it
/// looked anew (crm_resource --refresh): then it asks for that role.
fn role(run: &Run, said: Option<&Said>) -> Option<Role> {
    let known = record::role(&run.store);
    if known != Some(Role::Unpromoted) || !run.environment.for_promoted() || !matches!(said, Some(Said::Primary(_))) {
        return known;
    }
    run.log.warning("the server was promoted, and not by the cluster, which takes it for the promoted one now");
    if let Err(error) = record::set_role(&run.store, Role::Promoted) {
        run.log.warning(&format!("{error:#}"));
    }
    Some(Role::Promoted)
}

/// The primary that wrote without this node, if a start or a promotion found one. Asked again until it is no longer so.
fn lacks(run: &Run) -> Option<Lack> {
    record::lacking(&run.store)?;
    if !run.environment.probe() {
        match lacking::of_this_node(run) {
            Ok(author) => record::note_lacking(run, author.as_deref()),
            Err(error) => run.log.debug(&format!("{error:#}")),
        }
    }
    let (author, known) = record::lacking(&run.store)?;
    let ways_out = lacking::ways_out(run, &author);
    Some(Lack { author, known, ways_out })
}

/// For how long nothing has streamed from a primary, or to a standby. A probe remembers nothing.
fn silence(run: &Run, said: Option<&Said>, half_record: bool) -> Duration {
    let streams = match said {
        Some(Said::Primary(primary)) => !primary.streaming().is_empty(),
        // Whoever asks for the rest of half a record is said to stream while it waits.
        Some(Said::Standby(standby)) => standby.streaming && !half_record,
        None => return Duration::ZERO,
    };
    if run.environment.probe() {
        return Duration::ZERO;
    }
    record::silence(&run.store, streams).unwrap_or_else(|error| {
        run.log.warning(&format!("{error:#}"));
        Duration::ZERO
    })
}

/// To the disk and back. It does not wait for standbys, which would say nothing of this node's disk.
fn write_through(session: &mut Session, data: &Path) -> Result<()> {
    server::ask(session, "SET synchronous_commit = local")?;
    server::ask(session, server::writing(Version::read(data)?)).map(drop)
}

/// What the promoted instance sees to while it is at it, unless another action is at work; a fault in it is logged and
/// changes no answer.
fn tend(run: &Run, settings: &Settings, survey: &mut Survey) {
    let Ok(Some(_lock)) = run.lock_if_free() else { return };
    let (Seen::Answering(said), Some(session)) = (&survey.seen, survey.session.as_mut()) else { return };
    let tended = match said {
        Said::Primary(primary) => upkeep::of_primary(run, settings, &survey.data, primary, session, &[]),
        Said::Standby(standby) => upkeep::of_standby(run, settings, &survey.data, standby, session),
    };
    if let Err(error) = tended {
        run.log.warning(&format!("{error:#}"));
    }
}

fn tell_cluster(run: &Run, survey: &Survey, fitness: Fitness) {
    let cluster = run.cluster();
    match fitness {
        Fitness::Serving => {
            cluster.promotion_score(Some(SERVING));
            match position(survey) {
                Some(position) => peers::publish_history(run, &position),
                None => run.log.warning("the history of this primary's timeline cannot be read, and is not told"),
            }
        }
        Fitness::Score(score) => cluster.promotion_score(Some(Lapse::reduced(run, score))),
        Fitness::Unfit => cluster.promotion_score(Some(NEVER)),
        Fitness::Failed | Fitness::Hopeless => {
            if fitness == Fitness::Hopeless
                && Own::has_sync_names(&survey.data)
                && let Err(error) = record::note_yielding(&run.store)
            {
                run.log.warning(&format!("{error:#}"));
            }
            match record::failed_again(&run.store) {
                Ok(false) if fitness == Fitness::Failed => {}
                Ok(_) => {
                    Lapse::Serving.note(run);
                    cluster.promotion_score(Some(LAST_RESORT));
                }
                Err(error) => run.log.warning(&format!("{error:#}")),
            }
        }
        Fitness::Unchanged => {}
    }
}

fn summary(survey: &Survey, state: State) -> String {
    let place =
        |said: &Said| said.position(&survey.data).map_or_else(|error| format!("{error:#}"), |place| place.to_string());
    match (survey.said(), state) {
        (Some(said @ Said::Primary(primary)), _) => {
            let names = primary.streaming().join(", ");
            let names = if names.is_empty() { "nobody".to_owned() } else { names };
            format!("promoted: {}; streaming to {names}{}", place(said), upkept(primary))
        }
        (Some(said @ Said::Standby(standby)), _) => {
            let lag = standby.lag.map_or_else(String::new, |lag| format!(", {lag} bytes behind"));
            let streaming = if standby.streaming { "streaming" } else { "not streaming" };
            format!("unpromoted: {}; {streaming}{lag}", place(said))
        }
        (None, State::NotRunning) => format!("stopped: no process of a server stands in {}", survey.data.display()),
        (None, _) => "the server lives".to_owned(),
    }
}

/// What the agent sees to on a primary, where there is any: for whom commits wait, and what the slots keep.
fn upkept(primary: &Primary) -> String {
    let mut text = String::new();
    if !primary.sync_names.is_empty() {
        text += "; commits wait for ";
        text += &primary.sync_names.replace('"', "");
    }
    for slot in &primary.slots {
        let kept = slot.kept.map_or_else(|| "nothing yet".to_owned(), |kept| format!("{kept} bytes"));
        text.extend(["; slot ", &slot.name, " keeps ", &kept]);
    }
    text
}

/// The place of this instance, if its server answers.
pub(crate) fn position(survey: &Survey) -> Option<Position> {
    survey.said().and_then(|said| said.position(&survey.data).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Lsn;
    use crate::server::Slot;

    #[test]
    fn only_what_there_is_to_see_to_is_said() {
        let slot = |name: &str, kept| Slot { name: name.to_owned(), active: true, kept };
        let primary = |sync_names: &str, slots: Vec<Slot>| Primary {
            timeline: 1,
            lsn: Lsn(0),
            sync_names: sync_names.to_owned(),
            standbys: Vec::new(),
            slots,
        };
        assert_eq!(upkept(&primary("", Vec::new())), "");
        let all = primary("\"n2\",\"n3\"", vec![slot("n2", Some(0)), slot("n3", None)]);
        assert_eq!(upkept(&all), "; commits wait for n2,n3; slot n2 keeps 0 bytes; slot n3 keeps nothing yet");
    }
}
