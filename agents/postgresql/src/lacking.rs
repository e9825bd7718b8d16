//! Who lacks what was acknowledged: `NAME-lacks`, an attribute of the node that does, with the name of the primary that
//! wrote without it.
//!
//! It lies in the CIB, where it outlives the primary and every reboot. It is there before the first commit that does not
//! wait for that node, and goes when the node is known to have everything again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ocf::Run;

use crate::installation::Version;
use crate::parameters::{Settings, Sync};
use crate::peers;
use crate::peers::Candidate;
use crate::record;
use crate::server::{self, Primary, have_flushed};
use crate::session::Session;
use crate::upkeep::wanted_names;

/// A standby that keeps up has flushed what the primary wrote a moment ago.
const CATCHES_UP: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a primary has told of the nodes, itself among them: whether each has everything that was acknowledged.
type Told = BTreeMap<String, bool>;

pub(crate) fn attribute(run: &Run) -> String {
    format!("{}-lacks", run.environment.resource())
}

/// The primary that wrote without this node, if there is one.
pub(crate) fn of_this_node(run: &Run) -> Result<Option<String>> {
    let own = peers::own_name(run);
    let author = run.cluster().lasting_attribute_of(&own, &attribute(run))?;
    Ok(author.filter(|author| *author != own && !author.is_empty()))
}

/// Whether `node` lacks what `author` wrote. In doubt it does not.
pub(crate) fn is_of(run: &Run, node: &str, author: &str) -> bool {
    run.cluster().lasting_attribute_of(node, &attribute(run)).is_ok_and(|said| said.as_deref() == Some(author))
}

/// Whether another node lacks what this one wrote, and so nobody has more than this one.
pub(crate) fn is_author(run: &Run, settings: &Settings) -> Result<bool> {
    let own = peers::own_name(run);
    for node in settings.hosts.other_nodes(&own) {
        if run.cluster().lasting_attribute_of(node, &attribute(run))?.as_deref() == Some(&own) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells of the nodes that do not stream from this primary, and of those that it knows nothing of yet. Comes before commits
/// cease to wait for them.
pub(crate) fn mark(run: &Run, settings: &Settings, streaming: &[&str]) -> Result<()> {
    let own = peers::own_name(run);
    let known = settings.hosts.other_nodes(&own);
    if known.is_empty() {
        return Ok(());
    }
    let mut told = record::told(&run.store);
    if !told.contains_key(&own) {
        // Of another time: whoever is promoted has, by definition, everything.
        match tell(run, &own, None) {
            Ok(()) => {
                told.insert(own.clone(), true);
                record::tell(&run.store, &told)?;
            }
            Err(error) => run.log.warning(&format!("{error:#}")),
        }
    }
    for node in lacking(settings.sync, &known, streaming, &told) {
        tell(run, &node, Some(&own)).with_context(|| format!("commits still wait for {node}"))?;
        run.log.info(&format!("{node} is not promoted before it has what {own} writes from here on"));
        told.insert(node, false);
        record::tell(&run.store, &told)?;
    }
    Ok(())
}

/// The nodes that have to be told of. With `require` nothing is acknowledged while nobody streams, nor without the one other
/// node of a pair.
fn lacking(sync: Sync, known: &[&str], streaming: &[&str], told: &Told) -> Vec<String> {
    if sync == Sync::Require && (streaming.is_empty() || known.len() == 1) {
        return Vec::new();
    }
    let lacks = |node: &&&str| match told.get(**node) {
        None => true,
        Some(complete) => *complete && !streaming.contains(node),
    };
    known.iter().filter(lacks).map(|node| (*node).to_owned()).collect()
}

/// Takes the word back for those that stream and have flushed everything, once commits wait for them.
pub(crate) fn unmark(
    run: &Run,
    settings: &Settings,
    data: &Path,
    primary: &Primary,
    streaming: &[&str],
    session: &mut Session,
) -> Result<()> {
    let mut told = record::told(&run.store);
    let own = peers::own_name(run);
    let known = settings.hosts.other_nodes(&own);
    let waiting: Vec<&str> =
        known.into_iter().filter(|node| streaming.contains(node) && told.get(*node) != Some(&true)).collect();
    // The names were in force when the survey was taken, so nothing was acknowledged since that they do not have.
    let in_force = primary.sync_names == wanted_names(settings, &own, streaming)
        && primary.standbys.iter().any(|standby| standby.synchronous);
    if waiting.is_empty() || !(settings.sync == Sync::Off || in_force) {
        return Ok(());
    }
    if settings.sync != Sync::Off && !server::commits_wait(session, Version::read(data)?)? {
        run.log.debug("the server has not taken up for whom commits wait; asked again by the next monitor");
        return Ok(());
    }
    let patience = run.deadline.at_most(CATCHES_UP);
    let mut complete = have_flushed(session, primary.lsn)?;
    while !waiting.iter().all(|node| complete.iter().any(|name| name == node)) && patience.sleep(LOOK_AGAIN) {
        complete = have_flushed(session, primary.lsn)?;
    }
    for node in waiting.into_iter().filter(|node| complete.iter().any(|name| name == node)) {
        tell(run, node, None)?;
        run.log.info(&format!("{node} has everything that was acknowledged"));
        told.insert(node.to_owned(), true);
        record::tell(&run.store, &told)?;
    }
    Ok(())
}

fn tell(run: &Run, node: &str, author: Option<&str>) -> Result<()> {
    run.cluster().lasting_attribute(node, &attribute(run), author)
}

/// Why this node, which has as much as `told` say, must not be promoted: a primary that nobody hears of wrote without it.
pub(crate) fn hindrance(run: &Run, settings: &Settings, told: &[Candidate]) -> Option<String> {
    let own = peers::own_name(run);
    let others = settings.hosts.other_nodes(&own);
    let heard = |node: &str| told.iter().any(|one| one.node == node);
    // Whoever has as much as every other node lacks nothing.
    if others.iter().all(|node| heard(node)) {
        return None;
    }
    match of_this_node(run) {
        Ok(author) => author.filter(|author| !heard(author)).map(|author| {
            record::note_lacking(run, Some(&author));
            let ways_out = ways_out(run, &author);
            run.log.error(&format!("{author} acknowledged commits that {own} does not have, and is not there: {ways_out}"));
            format!("not promoted: {author} wrote what {own} lacks; bring {author} back, or see the log for how to give that up")
        }),
        Err(error) => Some(format!("not promoted: nobody can tell whether {own} has everything: {error:#}")),
    }
}

/// What a person can do where `author`, which wrote what this node lacks, is away.
pub(crate) fn ways_out(run: &Run, author: &str) -> String {
    let (own, attribute, resource) = (peers::own_name(run), attribute(run), run.environment.resource());
    format!(
        "bring {author} back, which is promoted by itself; if it is gone for ever, and only then, give up what it wrote alone: \
         crm_attribute --lifetime forever --node {own} --name {attribute} --delete; crm_resource --cleanup --resource {resource}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(sync: Sync, streaming: &[&str], told: &[(&str, bool)]) -> Vec<String> {
        let told = told.iter().map(|(node, complete)| ((*node).to_owned(), *complete)).collect();
        lacking(sync, &["n2", "n3"], streaming, &told)
    }

    #[test]
    fn who_lacks_something() {
        let complete = [("n2", true), ("n3", true)];
        for sync in [Sync::Off, Sync::Prefer] {
            // Promoted a moment ago: nobody waits for anybody yet.
            assert_eq!(lack(sync, &[], &[]), ["n2", "n3"]);
            assert_eq!(lack(sync, &["n2"], &[]), ["n2", "n3"]);
            assert_eq!(lack(sync, &["n2", "n3"], &complete), [""; 0]);
            assert_eq!(lack(sync, &["n2"], &complete), ["n3"]);
            assert_eq!(lack(sync, &[], &[("n2", true), ("n3", false)]), ["n2"]);
            // Streaming again is not yet having everything, and was told before.
            assert_eq!(lack(sync, &["n2", "n3"], &[("n2", true), ("n3", false)]), [""; 0]);
        }
    }

    #[test]
    fn with_require_nothing_is_acknowledged_alone() {
        assert_eq!(lack(Sync::Require, &[], &[]), [""; 0]);
        assert_eq!(lack(Sync::Require, &[], &[("n2", true), ("n3", true)]), [""; 0]);
        assert_eq!(lack(Sync::Require, &["n2"], &[("n2", true), ("n3", true)]), ["n3"]);
        for streaming in [&["n2"][..], &[]] {
            assert_eq!(lacking(Sync::Require, &["n2"], streaming, &Told::new()), [""; 0]);
        }
    }
}
