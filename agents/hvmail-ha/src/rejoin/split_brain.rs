//! A split brain of DRBD, ended from this node: the changes of the node that is named are thrown away, and the other's are
//! copied there. Each node can do its own part only; what the other has to do is said.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;
use ocf::Deadline;

use super::devices::{self, Resource};
use super::{Wanted, consent, copy};
use crate::make::{DONE, REFUSED, say};
use crate::tools;

const LOOK_AGAIN: Duration = Duration::from_millis(500);
const FAILED: u8 = 2;

pub(super) fn resolve(parted: &[Resource], wanted: &Wanted) -> Result<u8> {
    let Some((resource, rest)) = parted.split_first() else { return Ok(DONE) };
    let status = of_one(resource, wanted)?;
    for other in rest {
        say(&format!("{} has parted from its peer too: repeat the command for it", other.name), DONE);
    }
    Ok(status)
}

fn of_one(resource: &Resource, wanted: &Wanted) -> Result<u8> {
    let (name, here) = (resource.name.as_str(), tools::host_name());
    if !resource.wrote_alone()? {
        say(&format!("{name}: nothing was written on {here} without its peer, so nothing is thrown away here"), DONE);
        return connect(resource, &here, None, wanted.timeout);
    }
    let mut hosts = devices::hosts(name)?;
    hosts.retain(|host| *host != here);
    hosts.insert(0, here.clone());
    let victim = match consent::ask(&describe(resource, &here)?, &hosts, wanted.victim.as_deref()) {
        Ok(victim) => victim.to_owned(),
        Err(status) => return Ok(status),
    };
    if victim != here {
        return connect(resource, &here, Some(&victim), wanted.timeout);
    }
    if resource.role != "Secondary" {
        let fact = format!("{name} is {} on {here}: changes of a node that serves are not thrown away", resource.role);
        let remedy = "make the other node Primary first (hvmail_make_secondary)";
        return Ok(say(&format!("{fact}\n  {remedy}\nnothing was changed"), REFUSED));
    }
    match (&wanted.copy_to, wanted.without_copy) {
        (None, false) => {
            let what =
                format!("what is thrown away is kept nowhere else: --copy-to=FILE copies {} first", sizes(resource));
            return Ok(say(&format!("{what}, --without-copy keeps nothing; nothing was changed"), REFUSED));
        }
        (None, true) => {}
        (Some(to), _) => {
            for path in copy::copy(&devices::disks(name)?, to)? {
                let what = "has the disk as it was, the meta-data of DRBD at its end included";
                say(&format!("{} {what}", path.display()), DONE);
            }
        }
    }
    // A Primary would be refused by DRBD (ERR_DISCARD_IMPOSSIBLE).
    if !resource.stands_alone() {
        devices::adm(&["disconnect", name])?;
    }
    devices::adm(&["connect", "--discard-my-data", name])?;
    wait(name, &here, Some(&here), wanted.timeout)
}

fn sizes(resource: &Resource) -> String {
    let volumes = resource.volumes.iter().map(|volume| format!("volume {} ({} KiB)", volume.number, volume.size));
    volumes.collect::<Vec<_>>().join(", ")
}

/// Both sides, as far as they are known here.
fn describe(resource: &Resource, here: &str) -> Result<String> {
    let name = &resource.name;
    let mut text = format!("{name} has parted from its peer ({}):\n", resource.connection);
    for (volume, (current, common)) in resource.volumes.iter().zip(resource.generations()?) {
        let _ = writeln!(
            text,
            "  {here}: {}, volume {} {}, data generation {current}, written without the peer since {common}: {} KiB differ",
            resource.role, volume.number, volume.disk, volume.out_of_sync
        );
    }
    // ocf:greenarrow:drbd tells it while there is no connection: the role, and a generation for each volume.
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let attribute = format!("drbd-{}", name.chars().map(safe).collect::<String>());
    let told = tools::attribute(&attribute).unwrap_or_default();
    let others: Vec<_> = told.into_iter().filter(|(node, _)| node != here).collect();
    for (node, words) in &others {
        let (role, generations) = words.split_once(' ').unwrap_or((words, ""));
        for (number, generation) in generations.split_whitespace().enumerate() {
            let mut parts = generation.split(':');
            let (current, common) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let since = if common.trim_start_matches('0').is_empty() {
                "nothing written without the peer".to_owned()
            } else {
                format!("written without the peer since {common}")
            };
            let _ = writeln!(text, "  {node}: {role}, volume {number}, data generation {current}, {since}");
        }
    }
    if others.is_empty() {
        text += "  the other node: its agent has told nothing; there: drbdadm status, drbdadm show-gi\n";
    }
    text += "thrown away is all that the node that is named has written since then; it gets the other's data instead\n";
    Ok(text)
}

/// The part of the node whose data stay, or that has nothing to lose.
fn connect(resource: &Resource, here: &str, victim: Option<&str>, timeout: Duration) -> Result<u8> {
    if resource.stands_alone() {
        devices::adm(&["connect", &resource.name])?;
    }
    wait(&resource.name, here, victim, timeout)
}

/// Until it is connected. What the other node has to do is said once.
fn wait(name: &str, here: &str, victim: Option<&str>, timeout: Duration) -> Result<u8> {
    let deadline = Deadline::after(timeout);
    let throw = victim.map_or_else(String::new, |victim| format!(" --throw-away={victim}"));
    let there = format!("on the other node: hvmail_ha rejoin{throw}");
    let mut told = false;
    loop {
        let now = devices::again(name)?;
        match outcome(&now) {
            Outcome::Connected(how) => {
                return Ok(say(&format!("{name} is connected again on {here}: {how}"), DONE));
            }
            Outcome::GivenUp => {
                let why = "DRBD has given up the connection again: the other node was not ready for it";
                return Ok(say(&format!("{name}: {why}; {there}, then repeat this"), FAILED));
            }
            Outcome::Waits if !told => {
                say(&format!("{name} waits for its peer; {there}"), DONE);
                told = true;
            }
            Outcome::Waits => {}
        }
        if !deadline.sleep(LOOK_AGAIN) {
            let what =
                format!("{name} has not connected within {} s (--timeout) and goes on waiting", timeout.as_secs());
            return Ok(say(&format!("{what}; {there}"), FAILED));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Connected(String),
    Waits,
    GivenUp,
}

fn outcome(now: &Resource) -> Outcome {
    match now.connection.as_str() {
        "StandAlone" => Outcome::GivenUp,
        "Connected" => {
            let settled =
                |word: &str| ["Established", "SyncSource", "SyncTarget", "PausedSyncS", "PausedSyncT"].contains(&word);
            if !now.volumes.iter().all(|volume| settled(&volume.replication)) {
                return Outcome::Waits;
            }
            let syncs = now.volumes.iter().any(|volume| volume.replication != "Established");
            Outcome::Connected(if syncs {
                format!("{} KiB are still to be copied", now.out_of_sync())
            } else {
                "both have the same data".to_owned()
            })
        }
        _ => Outcome::Waits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejoin::devices::Volume;

    #[test]
    fn it_ends_when_the_data_are_the_same_or_being_copied() {
        let at = |connection: &str, replication: &str| {
            let volumes = vec![Volume { replication: replication.to_owned(), out_of_sync: 8, ..Volume::default() }];
            outcome(&Resource { connection: connection.to_owned(), volumes, ..Resource::default() })
        };
        assert_eq!(at("StandAlone", "Off"), Outcome::GivenUp);
        assert_eq!(at("Connecting", "Off"), Outcome::Waits);
        assert_eq!(at("Connected", "WFBitMapT"), Outcome::Waits);
        assert_eq!(at("Connected", "SyncTarget"), Outcome::Connected("8 KiB are still to be copied".to_owned()));
        assert_eq!(at("Connected", "Established"), Outcome::Connected("both have the same data".to_owned()));
    }
}
