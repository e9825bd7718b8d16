//! An old primary of PostgreSQL: what its agent has refused to throw away is shown, permitted once, and thrown away by the
//! agent, when Pacemaker starts it.

use std::time::Duration;

use anyhow::{Context, Result};
use ocf::{Deadline, Store, uptime};

use super::{Wanted, consent};
use crate::cib::Resource;
use crate::crm_mon::{Failure, Monitored};
use crate::make::{DONE, REFUSED, say};
use crate::picture::Picture;
use crate::{agents, tools};

/// Where Pacemaker's executor has the agents keep their state (HA_RSCTMP).
const STATE: &str = "/run/resource-agents";
/// What the agent's last start found: `diverged TIMELINE LEFT END`, `unrelated TIMELINE END` or `half-rewound`.
const PARTED: &str = "parted";
/// `SECONDS WAY` and the same again: throw away just this, once. The agent takes it away.
const PERMITTED: &str = "permitted";
/// What pgdata is by default.
const DATA: &str = "/var/hvmail/postgres/default/data";
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const FAILED: u8 = 2;

/// What the agent on this node has refused.
#[derive(Clone, Debug)]
pub(super) struct Parted {
    resource: Resource,
    /// In the agent's words.
    text: String,
    loss: Loss,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Loss {
    Diverged { timeline: u32, left: u64, end: u64 },
    Unrelated { timeline: u32, end: u64 },
    HalfRewound,
}

impl Loss {
    fn parse(text: &str) -> Option<Self> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["diverged", timeline, left, end] => {
                Some(Self::Diverged { timeline: timeline.parse().ok()?, left: place(left)?, end: place(end)? })
            }
            ["unrelated", timeline, end] => {
                Some(Self::Unrelated { timeline: timeline.parse().ok()?, end: place(end)? })
            }
            ["half-rewound"] => Some(Self::HalfRewound),
            _ => None,
        }
    }

    /// The least that mends it.
    fn usual_way(&self) -> &'static str {
        if matches!(self, Self::Diverged { .. }) { "rewind" } else { "basebackup" }
    }
}

/// Two hexadecimal halves (pg_lsn_in, pg_lsn.c).
fn place(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let half = |half: &str| u32::from_str_radix(half, 16).ok().map(u64::from);
    Some(half(high)? << 32 | half(low)?)
}

fn shown(place: u64) -> String {
    format!("{:X}/{:X}", place >> 32, place & 0xffff_ffff)
}

fn store(resource: &Resource) -> Store {
    Store::new(STATE.into(), "postgresql", &resource.id)
}

/// What the agent's last start here has refused, unless the server runs by now.
pub(super) fn parted(picture: &Picture) -> Result<Option<Parted>> {
    let Some(resource) = picture.configuration.of_agent("postgresql") else { return Ok(None) };
    if picture.instance(&resource.id, &picture.here).is_some_and(|one| one.role != "Stopped" && !one.failed) {
        return Ok(None);
    }
    let Some(text) = store(resource).read(PARTED)? else { return Ok(None) };
    let loss = Loss::parse(&text).with_context(|| format!("{:?} is nothing that the agent writes", text.trim()))?;
    Ok(Some(Parted { resource: resource.clone(), text: text.trim().to_owned(), loss }))
}

pub(super) fn bring_back(picture: &Picture, parted: &Parted, wanted: &Wanted) -> Result<u8> {
    let (here, resource) = (picture.here.as_str(), parted.resource.id.as_str());
    if let Err((fact, remedy)) = may(picture, resource) {
        return Ok(say(&format!("{here} cannot come back now: {fact}\n  {remedy}\nnothing was changed"), REFUSED));
    }
    let primary = picture.state.nodes_in_role(resource, "Promoted")[0];
    let way = wanted.by.as_deref().unwrap_or_else(|| parted.loss.usual_way());
    if way == "rewind" && parted.loss.usual_way() != "rewind" {
        let what = "only a base backup helps here: --by=basebackup; nothing was changed";
        return Ok(say(what, REFUSED));
    }
    let loss = describe(parted, here, primary, way);
    if let Err(status) = consent::ask(&loss, &[here.to_owned()], wanted.victim.as_deref()) {
        return Ok(status);
    }
    let store = store(&parted.resource);
    store.write(PERMITTED, &format!("{} {way} {}", uptime().as_secs(), parted.text))?;
    let came = start(picture, &parted.resource, wanted.timeout);
    // The start that made use of it has taken it away.
    store.remove(PERMITTED)?;
    Ok(match came {
        Ok(word) => say(&format!("{here} is a standby of {primary}: {word}"), DONE),
        Err(why) => say(&format!("{here} did not come back: {why}"), FAILED),
    })
}

/// Whether there is a primary to come back to and a cluster that would start the server.
fn may(picture: &Picture, resource: &str) -> Result<(), (String, String)> {
    let state = &picture.state;
    let primaries = state.nodes_in_role(resource, "Promoted");
    if state.maintenance || state.node(&picture.here).is_some_and(|node| node.maintenance) {
        return Err((
            "the cluster is in maintenance mode, or this node is: nothing is started".to_owned(),
            "crm_attribute --name maintenance-mode --delete".to_owned(),
        ));
    }
    if !state.quorum {
        return Err((
            "there is no quorum".to_owned(),
            "bring the other nodes back; see corosync-quorumtool".to_owned(),
        ));
    }
    if state.node(&picture.here).is_some_and(|node| node.standby) {
        let remedy = format!("crm_standby --node {} --delete", picture.here);
        return Err((format!("{} is in standby", picture.here), remedy));
    }
    if state.changing(resource) {
        return Err((format!("the cluster is at work on {resource}"), "hvmail_ha status --watch".to_owned()));
    }
    match primaries[..] {
        [one] if one != picture.here => Ok(()),
        _ => Err((
            format!("{resource} is promoted on {} other nodes; one is needed to follow", primaries.len()),
            "hvmail_ha status says why no node is Primary".to_owned(),
        )),
    }
}

fn describe(parted: &Parted, here: &str, primary: &str, way: &str) -> String {
    let resource = &parted.resource;
    let data = resource.parameter("datadir").or_else(|| resource.parameter("pgdata")).unwrap_or(DATA);
    let lost = match parted.loss {
        Loss::Diverged { timeline, left, end } => format!(
            "  {here} left the primary's way at {} of timeline {timeline}, and has log up to {}:\n\
             \x20 thrown away are {} bytes of log that no other node has, with every commit in them.\n\
             \x20 To look at them first: pg_waldump --path={data}/pg_wal --timeline={timeline} --start={0}\n",
            shown(left),
            shown(end),
            end.saturating_sub(left)
        ),
        Loss::Unrelated { timeline, end } => format!(
            "  {here} has log up to {} of timeline {timeline}, which does not occur in the primary's history:\n\
             \x20 thrown away is everything of that timeline.\n",
            shown(end)
        ),
        Loss::HalfRewound => format!(
            "  A pg_rewind of {data} was interrupted, and the directory must not be started:\n\
             \x20 thrown away is what is left of it.\n"
        ),
    };
    let log = if matches!(parted.loss, Loss::Diverged { .. }) {
        format!("  Kept: that log, as files in {data}.diverged.\n")
    } else {
        String::new()
    };
    let how = if way == "rewind" {
        format!("  Done by: pg_rewind from {primary}.\n")
    } else {
        format!(
            "  Done by: a base backup of {primary}. The directory is kept as {data}.old until the new one streams.\n"
        )
    };
    format!(
        "the database on {here} ({}) against that on {primary}, which is the primary:\n{lost}{log}{how}",
        resource.id
    )
}

/// Has Pacemaker start it, and waits until it streams; or says why not.
fn start(picture: &Picture, resource: &Resource, timeout: Duration) -> Result<String, String> {
    let here = picture.here.as_str();
    let before = picture.state.failures.clone();
    tools::cleanup(&resource.id, here).map_err(|error| format!("{error:#}"))?;
    say("the cluster was asked to start it", DONE);
    let deadline = Deadline::after(timeout);
    let mut last = "nothing yet".to_owned();
    loop {
        if let Ok(state) = tools::state() {
            if let Some(failure) = refused(&before, &state, &resource.id, here) {
                return Err(failure);
            }
            let unpromoted = state.nodes_in_role(&resource.id, "Unpromoted").contains(&here);
            if unpromoted && !state.changing(&resource.id) {
                match agents::ask(resource, here) {
                    Some(word) if word.is_sound() => return Ok(word.text),
                    Some(word) => last = word.text,
                    None => {}
                }
            }
        }
        if !deadline.sleep(LOOK_AGAIN) {
            return Err(format!("not within {} s (--timeout); last seen: {last}", timeout.as_secs()));
        }
    }
}

/// A start here that has failed since.
fn refused(before: &[Failure], state: &Monitored, resource: &str, here: &str) -> Option<String> {
    let own = |one: &&Failure| one.resource == resource && one.node == here && one.task == "start";
    let new = state.failures.iter().filter(own).find(|one| !one.is_degraded() && !before.contains(one))?;
    Some(new.reason.clone().unwrap_or_else(|| new.status.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_writes_is_read() {
        let diverged = Loss::parse("diverged 1 0/5000000 1/10\n").unwrap();
        assert_eq!(diverged, Loss::Diverged { timeline: 1, left: 0x500_0000, end: 0x1_0000_0010 });
        assert_eq!((diverged.usual_way(), shown(0x1_0000_0010).as_str()), ("rewind", "1/10"));
        assert_eq!(Loss::parse("unrelated 3 0/7").unwrap().usual_way(), "basebackup");
        assert_eq!(Loss::parse("half-rewound"), Some(Loss::HalfRewound));
        for text in ["", "diverged", "diverged 1 5 6", "diverged x 0/1 0/2", "unrelated 1", "other 1 0/1 0/2"] {
            assert_eq!(Loss::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_loss_is_shown_with_where_it_is_kept() {
        let resource = Resource { id: "pg".to_owned(), ..Resource::default() };
        let text = "diverged 1 0/5000000 0/5000148".to_owned();
        let parted = Parted { loss: Loss::parse(&text).unwrap(), resource, text };
        let said = describe(&parted, "n1", "n2", "rewind");
        for words in
            ["0/5000000 of timeline 1", "328 bytes of log", "data.diverged", "pg_rewind from n2", "--start=0/5000000"]
        {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(describe(&parted, "n1", "n2", "basebackup").contains("data.old until"));
    }

    #[test]
    fn the_screens_of_rejoin_are_as_they_were() {
        let resource = Resource { id: "pg".to_owned(), ..Resource::default() };
        let mut all = String::new();
        for text in ["diverged 2 0/300D280 0/3012020", "unrelated 3 0/3012020", "half-rewound"] {
            let loss = Loss::parse(text).unwrap();
            for way in ["rewind", "basebackup"].into_iter().skip_while(|way| *way != loss.usual_way()) {
                let parted = Parted { resource: resource.clone(), text: text.to_owned(), loss: loss.clone() };
                all.extend(["# ", text, ", by ", way, "\n", &describe(&parted, "n1", "n2", way), "\n"]);
            }
        }
        crate::captured::is_as_kept("rejoin", &all);
    }

    #[test]
    fn it_may_come_back_only_to_a_primary() {
        let healthy = crate::captured::picture("healthy");
        // n1 is the primary of the captures.
        assert!(may(&healthy, "pg").is_err());
        let from_the_standby = Picture { here: "n2".to_owned(), ..healthy };
        assert_eq!(may(&from_the_standby, "pg"), Ok(()));
        let maintenance = Picture { here: "n2".to_owned(), ..crate::captured::picture("maintenance") };
        assert!(may(&maintenance, "pg").unwrap_err().0.contains("maintenance"));
        assert!(may(&Picture { here: "n2".to_owned(), ..crate::captured::picture("stopped") }, "pg").is_err());
    }
}
