//! What this instance was made to be, and what it remembers between two monitors; gone after a reboot.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use ocf::{Run, Store, uptime};

use crate::position::Lsn;

const ROLE: &str = "role";
/// A standby streamed since it was started.
const STREAMED: &str = "streamed";
/// Which nodes have everything, as the cluster was told: lines `NODE=true|false`.
const TOLD: &str = "told";
/// Since when, and the primary that wrote without this node: `SECONDS NODE`.
const LACKS: &str = "lacks";
/// The log ends in half a record: `TIMELINE LSN`.
const HALF_RECORD: &str = "half-record";
/// It was a primary before it was started.
const WAS_PRIMARY: &str = "was-primary";
/// Since when nothing streams.
const SILENT: &str = "silent";
/// What the primary said to a standby that does not stream.
const INQUIRY: &str = "inquiry";
/// The promoted instance ended with a full disk, and commits waited for a standby until then.
const YIELDS: &str = "yields";
/// Since when a node for which commits wait is lost, and not fenced.
const LOST: &str = "lost";
/// When the promoted instance failed.
const FAILED: &str = "failed";
/// A failure so long ago has nothing to do with the next one.
const FORGIVEN: Duration = Duration::from_secs(600);

/// The role that the cluster gave the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Unpromoted,
    Promoted,
}

/// None: stopped, or not started by the cluster since the node's boot. What cannot be read is not believed, and the server's
/// own word counts.
pub(crate) fn role(store: &Store) -> Option<Role> {
    match store.read(ROLE).ok().flatten()?.trim() {
        "unpromoted" => Some(Role::Unpromoted),
        "promoted" => Some(Role::Promoted),
        _ => None,
    }
}

/// A new role, with which what was remembered of the old one is forgotten.
pub(crate) fn set_role(store: &Store, role: Role) -> Result<()> {
    let word = match role {
        Role::Unpromoted => "unpromoted",
        // What it acknowledges from here on it may acknowledge alone.
        Role::Promoted => {
            store.remove(YIELDS)?;
            "promoted"
        }
    };
    [STREAMED, SILENT, INQUIRY, TOLD, LACKS, WAS_PRIMARY, HALF_RECORD, LOST]
        .iter()
        .try_for_each(|kind| store.remove(kind))?;
    store.write(ROLE, word)
}

/// The instance is stopped.
pub(crate) fn forget(store: &Store) -> Result<()> {
    [ROLE, STREAMED, SILENT, INQUIRY, TOLD, LACKS, WAS_PRIMARY, LOST].iter().try_for_each(|kind| store.remove(kind))
}

/// Where the log ends in half a record, by timeline and place, as a monitor has found. That outlives a stop.
pub(crate) fn half_record(store: &Store) -> Option<(u32, Lsn)> {
    let text = store.read(HALF_RECORD).ok().flatten()?;
    let (timeline, left) = text.split_once(' ')?;
    Some((timeline.parse().ok()?, left.parse().ok()?))
}

pub(crate) fn note_half_record(store: &Store, timeline: u32, left: Lsn) -> Result<()> {
    store.write(HALF_RECORD, &format!("{timeline} {left}"))
}

/// Whether it was a primary before it was started. No standby has more than such a one.
pub(crate) fn was_primary(store: &Store) -> bool {
    store.read(WAS_PRIMARY).is_ok_and(|text| text.is_some())
}

pub(crate) fn note_was_primary(store: &Store) -> Result<()> {
    store.write(WAS_PRIMARY, "")
}

/// Whether this standby has streamed since it was started.
pub(crate) fn has_streamed(store: &Store) -> bool {
    store.read(STREAMED).is_ok_and(|text| text.is_some())
}

pub(crate) fn note_streaming(store: &Store) -> Result<()> {
    if has_streamed(store) {
        return Ok(());
    }
    // It has what the primary has now, and that may be acknowledged.
    store.remove(YIELDS)?;
    store.write(STREAMED, "")
}

/// What was told of the nodes since this one was promoted.
pub(crate) fn told(store: &Store) -> BTreeMap<String, bool> {
    let text = store.read(TOLD).ok().flatten().unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.rsplit_once('='));
    pairs.filter_map(|(node, complete)| Some((node.to_owned(), complete.parse().ok()?))).collect()
}

pub(crate) fn tell(store: &Store, told: &BTreeMap<String, bool>) -> Result<()> {
    let lines = told.iter().map(|(node, complete)| format!("{node}={complete}\n"));
    store.write(TOLD, &lines.collect::<String>())
}

/// The primary that wrote without this node, as this node last heard, and for how long that has been known.
pub(crate) fn lacking(store: &Store) -> Option<(String, Duration)> {
    let text = store.read(LACKS).ok().flatten()?;
    let (since, author) = text.split_once(' ')?;
    let since = Duration::from_secs(since.parse().ok()?);
    Some((author.to_owned(), uptime().saturating_sub(since)))
}

/// Writes it down, or forgets it. If that fails, the promotion finds out.
pub(crate) fn note_lacking(run: &Run, author: Option<&str>) {
    let done = match (author, lacking(&run.store)) {
        (Some(author), Some((known, _))) if author == known => Ok(()),
        (Some(author), _) => run.store.write(LACKS, &format!("{} {author}", uptime().as_secs())),
        (None, Some(_)) => run.store.remove(LACKS),
        (None, None) => Ok(()),
    };
    if let Err(error) = done {
        run.log.warning(&format!("{error:#}"));
    }
}

/// For how long nothing has streamed, as far as the monitors saw.
pub(crate) fn silence(store: &Store, streams: bool) -> Result<Duration> {
    let since = read_time(store, SILENT);
    match (streams, since) {
        (true, None) => Ok(Duration::ZERO),
        (true, Some(_)) => [SILENT, INQUIRY].iter().try_for_each(|kind| store.remove(kind)).map(|()| Duration::ZERO),
        (false, Some(since)) => Ok(uptime().saturating_sub(since)),
        (false, None) => store.write(SILENT, &uptime().as_secs().to_string()).map(|()| Duration::ZERO),
    }
}

/// For how long a node for which commits wait has been lost.
pub(crate) fn lost(store: &Store) -> Result<Duration> {
    match read_time(store, LOST) {
        Some(since) => Ok(uptime().saturating_sub(since)),
        None => store.write(LOST, &uptime().as_secs().to_string()).map(|()| Duration::ZERO),
    }
}

pub(crate) fn forget_lost(store: &Store) -> Result<()> {
    store.remove(LOST)
}

/// What the primary said to a standby that does not stream, if it was asked shortly before.
pub(crate) fn inquiry(store: &Store, age: Duration) -> Option<String> {
    let text = store.read(INQUIRY).ok().flatten()?;
    let (asked, words) = text.split_once(' ')?;
    let old = uptime().checked_sub(Duration::from_secs(asked.parse().ok()?))?;
    (old < age).then(|| words.to_owned())
}

pub(crate) fn note_inquiry(store: &Store, words: &str) -> Result<()> {
    store.write(INQUIRY, &format!("{} {words}", uptime().as_secs()))
}

/// Writes down that the promoted instance has failed, and says whether it did so shortly before. That outlives a stop,
/// which is a part of the recovery.
pub(crate) fn failed_again(store: &Store) -> Result<bool> {
    let recently = read_time(store, FAILED).is_some_and(|before| uptime().saturating_sub(before) < FORGIVEN);
    store.write(FAILED, &uptime().as_secs().to_string())?;
    Ok(recently)
}

/// The promoted instance can go on nowhere but elsewhere, and others have all that it acknowledged. That outlives a stop.
pub(crate) fn note_yielding(store: &Store) -> Result<()> {
    store.write(YIELDS, "")
}

/// Whether others have all that it acknowledged.
pub(crate) fn yields(store: &Store) -> bool {
    store.read(YIELDS).is_ok_and(|text| text.is_some())
}

/// A time since boot; one that is still to come is from another boot.
fn read_time(store: &Store, kind: &str) -> Option<Duration> {
    let seconds = store.read(kind).ok().flatten()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|time| *time <= uptime())
}
