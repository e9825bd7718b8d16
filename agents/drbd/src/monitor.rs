//! What the instance is: one drbdsetup, and nothing else as long as all is well.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use ocf::{Failure, Finding, Found, Lapse, NEVER, Program, Run, uptime};
use quick_xml::events::Event;

use crate::apart::{self, Apart};
use crate::configuration;
use crate::judgement::{Facts, Parted, judge};
use crate::kernel::{self, Seen};
use crate::model::{Peer, Resource};
use crate::module;
use crate::parameters::{AwayFromPrimary, Settings};
use crate::proc_drbd::ProcDrbd;
use crate::score::Score;
use crate::start::{STARTED, record};
use crate::unfence;

/// Since when a Secondary is without a peer, in seconds since boot.
pub(crate) const ALONE: &str = "alone";

pub(crate) fn monitor(run: &Run, settings: &Settings) -> Found {
    if settings.name.is_empty() {
        return Err(Failure::not_configured("parameter drbd_resource is not set"));
    }
    let (looked, mute) = look(run, settings)?;
    let all_seen = mute.is_none();
    let Some(seen) = looked else { return Ok(absent(run, judge(&facts(run, settings, None)))) };
    let probe = run.environment.probe();
    let mut facts = facts(run, settings, Some(&seen));
    facts.besides.extend(mute);
    let finding = judge(&facts);
    let Some(resource) = &seen.resource else { return Ok(absent(run, finding)) };
    // By hand nobody takes anything over. A probe of Pacemaker may be all there is before drbdsetup hangs.
    if all_seen && run.environment.by_pacemaker() && !resource.volumes.is_empty() {
        record(run, settings, resource).unwrap_or_else(|failure| run.log.warning(failure.reason()));
    }
    // A probe tells as well: Pacemaker keeps a Primary that it finds only where that has a score.
    tell(run, settings, resource, facts.parted);
    if !probe {
        unfence::when_all_is_well(run, settings, resource);
    }
    Ok(finding)
}

/// What there is to be seen, and why it is not all. A drbdsetup that hangs or is missing does not fail a healthy Primary: with
/// 8.4 /proc/drbd shows what matters of the minors that start has written down.
fn look(run: &Run, settings: &Settings) -> Result<(Option<Seen>, Option<String>), Failure> {
    let failure = match kernel::look(run, &settings.name) {
        Ok(seen) => return Ok((seen, None)),
        Err(failure) => failure,
    };
    let record = run.store.read(STARTED)?.unwrap_or_default();
    let minors: Vec<u32> =
        record.lines().nth(1).unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    let proc = ProcDrbd::look()?.filter(|proc| proc.version.is_some_and(|version| version < (9, 0, 0)));
    match proc.and_then(|proc| Some(Seen { resource: Some(proc.resource(&minors)?), proc })) {
        Some(seen) => Ok((Some(seen), Some(format!("{}; this is from /proc/drbd", failure.reason())))),
        None => Err(failure),
    }
}

/// A resource that is down has no score: it would be promoted for it.
fn absent(run: &Run, finding: Finding) -> Finding {
    if !run.environment.probe() {
        run.cluster().promotion_score(None);
    }
    finding
}

fn facts(run: &Run, settings: &Settings, seen: Option<&Seen>) -> Facts {
    let mut facts = Facts {
        name: settings.name.clone(),
        started: !run.environment.probe() && run.store.read(STARTED).is_ok_and(|record| record.is_some()),
        two_primaries: run.environment.promoted_max().is_some_and(|most| most > 1),
        alone_until_promoted: settings.connect_only_after_promote,
        besides: settings.wrong.iter().cloned().collect(),
        ..Facts::default()
    };
    let Some(seen) = seen else { return facts };
    facts.besides.extend(module::unwanted(settings, seen.version()));
    if !run.environment.probe() && seen.resource.is_some() {
        let Apart { parted, others } = apart::exchange(run, settings, seen);
        (facts.parted, facts.others) = (parted, others);
        facts.besides.extend(configuration::fault(run, settings));
    } else {
        facts.parted = apart::parted_now(run, settings, seen);
    }
    facts.alone_for = alone_for(run, seen);
    facts.resource.clone_from(&seen.resource);
    let progress = seen.proc.devices.iter();
    facts.progress = progress
        .map(|(minor, device)| (*minor, (device.done.clone(), device.finish.clone())))
        .collect::<BTreeMap<_, _>>();
    facts
}

/// For how long a Secondary has been without one of its peers. By hand, and in a probe, nobody knows.
fn alone_for(run: &Run, seen: &Seen) -> Option<Duration> {
    let resource = seen.resource.as_ref().filter(|_| !run.environment.probe())?;
    let since = run.store.read(ALONE).ok().flatten();
    if resource.primary() || resource.peers.values().all(Peer::connected) {
        if since.is_some() {
            let _ = run.store.remove(ALONE);
        }
        return None;
    }
    match since.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs) {
        Some(since) => Some(uptime().saturating_sub(since)),
        // What cannot be remembered would be new for ever.
        None => run.store.write(ALONE, &uptime().as_secs().to_string()).ok().map(|()| Duration::ZERO),
    }
}

/// Tells the cluster how much this node is wanted as the Primary. Whose promotion would be refused is not wanted: it would be
/// tried again and again.
pub(crate) fn tell(run: &Run, settings: &Settings, resource: &Resource, parted: Parted) {
    let refused = !resource.primary() && apart::would_lose(run, parted);
    let score = match settings.ladder.score(resource, refused || stays_away(run, settings, resource)) {
        Score::Keep => return,
        // One that is only taken away would not refuse the promotion that has just failed.
        Score::Remove => Some(Lapse::reduced(run, 0)).filter(|score| *score == NEVER),
        // A Primary is not to be taken from its node because it could not be promoted some seconds ago.
        Score::Set(score) if resource.primary() => Some(score),
        Score::Set(score) => Some(Lapse::reduced(run, score)),
    };
    run.cluster().promotion_score(score);
}

/// remove_master_score_if_peer_primary: no score next to a Primary with good data.
fn stays_away(run: &Run, settings: &Settings, resource: &Resource) -> bool {
    if resource.primary() || !resource.primary_peer().is_some_and(Peer::all_up_to_date) {
        return false;
    }
    match settings.away_from_primary {
        AwayFromPrimary::No => false,
        AwayFromPrimary::Yes => true,
        AwayFromPrimary::Unexpected => unexpected_primary(run, resource),
    }
}

/// Whether a peer is Primary of which Pacemaker does not know, as when the cluster has lost its communication and DRBD not.
pub(crate) fn unexpected_primary(run: &Run, resource: &Resource) -> bool {
    if resource.primary() || resource.primary_peer().is_none() || run.environment.promoted_max() != Some(1) {
        return false;
    }
    let question = ["--resource", run.environment.resource(), "--locate", "--output-as=xml"];
    let deadline = run.deadline.at_most(Duration::from_secs(4));
    let answer =
        Program::new("crm_resource").args(question).run(deadline).and_then(|output| promoted_in(&output.stdout));
    match answer {
        Ok(nodes) => nodes.is_empty(),
        Err(error) => {
            run.log.warning(&format!("whom Pacemaker has promoted is not known: {error:#}"));
            false
        }
    }
}

/// The nodes with an instance in the promoted role: `<node state="promoted">n1</node>`.
fn promoted_in(xml: &str) -> Result<Vec<String>> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let (mut nodes, mut promoted) = (Vec::new(), false);
    loop {
        match reader.read_event().context("crm_resource does not answer in XML")? {
            Event::Start(element) => {
                let state = element.try_get_attribute("state")?;
                promoted =
                    element.name().as_ref() == "node" && state.is_some_and(|state| state.value.as_ref() == "promoted");
            }
            Event::Text(text) if promoted => nodes.push(text.trim().to_owned()),
            Event::End(_) => promoted = false,
            Event::Eof => return Ok(nodes),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promoted_nodes_are_found_in_the_answer() {
        let xml = r#"<pacemaker-result><nodes resource="p"><node state="promoted">n1</node><node>n2</node></nodes>
                     <status code="0" message="OK"/></pacemaker-result>"#;
        assert_eq!(promoted_in(xml).unwrap(), ["n1"]);
        assert_eq!(promoted_in("<a><node>n2</node></a>").unwrap(), Vec::<String>::new());
        assert!(promoted_in("<a b='").is_err());
    }
}
