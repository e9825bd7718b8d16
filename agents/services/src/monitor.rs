//! What the instance is. Reads the record and what the supervises have written; starts no program but the one that tells
//! the cluster when something has changed, and at check level 10 GreenArrow's own.

use anyhow::Result;
use ocf::{Failure, Finding, Found, LAST_RESORT, Lapse, NEVER, Run, State};

use crate::guard;
use crate::judgement::{self, Condition, Deed, Facts, judge};
use crate::parameters::Settings;
use crate::processes::Process;
use crate::raise::{end_orphans_of, up};
use crate::record::{Record, Role, life_of};
use crate::scan::{Scan, services};
use crate::survey::Survey;
use crate::svscan;
use crate::target::Target;

/// The promotion score of an instance that serves.
const SERVING: i32 = 100;
/// Of an unpromoted one whose node could take over at once.
pub(crate) const READY: i32 = 50;

pub(crate) fn monitor(run: &Run, settings: &Settings) -> Found {
    let mut survey = Survey::take(run, settings)?;
    let facts = survey.facts(run, settings);
    let (found, deed) = judge(&facts);
    run.log.step(&format!("{found:?}, {deed:?}"));
    let found = match deed {
        // Pacemaker probes to learn what is there, also where it was told to keep its hands off.
        Deed::Guard | Deed::Revive if run.environment.by_pacemaker() && run.environment.probe() => found,
        Deed::None => found,
        Deed::Adopt => adopt(run, settings, &mut survey, found)?,
        Deed::Guard => put_right(run, &facts, found, || guard(run, settings))?,
        Deed::Revive => put_right(run, &facts, found, || revive(run, &facts, &mut survey))?,
    };
    if survey.changed
        && let Some(record) = &survey.record
        && run.lock_if_free()?.is_some()
    {
        record.write(&run.store)?;
    }
    if !run.environment.probe() {
        tell_cluster(run, &facts, &found);
    }
    found
}

/// Without this record the next monitor would find services that nobody started.
fn adopt(run: &Run, settings: &Settings, survey: &mut Survey, found: Found) -> Result<Found, Failure> {
    let mut record = Record::active(&survey.scan.looks);
    record.svscan = svscan::find(settings)?.map(|svscan| (svscan.pid, svscan.started));
    let count = survey.scan.services().filter(|look| look.pid().is_some()).count();
    survey.record = Some(record);
    survey.changed = true;
    run.log.info(&format!(
        "{} ran before this instance was started, by hand or by the vendor's script; its own from here on",
        services(count)
    ));
    Ok(found)
}

/// Carries out a repair, unless another action is at work. Degraded it is all the same: somebody should know.
fn put_right(
    run: &Run,
    facts: &Facts,
    found: Found,
    repair: impl FnOnce() -> Result<String>,
) -> Result<Found, Failure> {
    let Some(_lock) = run.lock_if_free()? else {
        run.log.info("another action of this instance is running; nothing is changed before it has ended");
        return Ok(found);
    };
    let Ok(Finding { state, reason, summary }) = found else { return Ok(found) };
    let critical = facts.units.iter().any(|unit| unit.critical && unit.condition == Condition::SuperviseRestarted);
    let (done, failure) = match repair() {
        Ok(done) => (format!("put right: {done}"), false),
        Err(error) => (format!("{error:#}"), true),
    };
    run.log.info(&done);
    Ok(match reason {
        Some(reason) if failure && critical => judgement::failed(facts, format!("{reason}; {done} (critical)")),
        Some(reason) => Ok(Finding::because(state, format!("{reason}; {done}"))),
        // Nobody needs to be told of what harms nobody and has been put right.
        None if !failure => Ok(Finding::plain(state, summary)),
        None => Ok(Finding::because(State::serving_degraded(facts.promotable), done)),
    })
}

fn guard(run: &Run, settings: &Settings) -> Result<String> {
    guard::settle(run, settings)?;
    Ok("the boot guards are back".to_owned())
}

/// Ends what a dead supervise has left, and brings its services up under the new one.
fn revive(run: &Run, facts: &Facts, survey: &mut Survey) -> Result<String> {
    let Some(record) = survey.record.as_mut() else { return Ok("nothing was to be done".to_owned()) };
    // What the record said before this monitor: the survey's knows the present processes.
    let before = Record::read(&run.store)?;
    let mut done = Vec::new();
    for unit in &facts.units {
        let wanted = matches!(unit.condition, Condition::SuperviseRestarted | Condition::Doubled(_));
        let look = survey.scan.looks.iter().find(|look| look.unit.name == unit.name);
        let (true, false, Some(look)) = (wanted, unit.normally_down, look) else { continue };
        let mut target = Target::new(look, before.as_ref().and_then(|before| before.units.get(&unit.name)));
        let ended = end_orphans_of(run, &mut target)?;
        up(run, std::slice::from_ref(&look.unit))?;
        // What was put right here is no restart that the next monitor should speak of.
        if let (Some(seen), [now]) =
            (record.units.get_mut(&unit.name), &Scan::again(std::slice::from_ref(&look.unit))[..])
        {
            seen.life = life_of(now);
        }
        let ended: Vec<String> = ended.iter().map(Process::to_string).collect();
        let ended = if ended.is_empty() { String::new() } else { format!(", and {} ended", ended.join(", ")) };
        done.push(format!("{} was brought up{ended}", unit.name));
    }
    // What is taken down by hand from here on is not brought up again.
    record.raised = ocf::uptime();
    survey.changed = true;
    Ok(done.join("; "))
}

/// Tells the cluster how fit this node is. What the cluster makes of it changes nothing here.
fn tell_cluster(run: &Run, facts: &Facts, found: &Found) {
    let score = match found {
        Ok(Finding { state: State::RunningPromoted | State::DegradedPromoted, .. }) => SERVING,
        Ok(Finding { state: State::Running | State::Degraded, .. }) => match facts.unready() {
            Some(_) => NEVER,
            None => Lapse::reduced(run, READY),
        },
        Ok(Finding { state: State::FailedPromoted, .. }) if facts.role == Some(Role::Active) => {
            Lapse::Serving.note(run);
            LAST_RESORT
        }
        // What runs where it should not is ended first, and a stopped instance has said nothing.
        _ => return,
    };
    run.cluster().promotion_score(Some(score));
}
