//! What the nodes tell each other through private node attributes.
//!
//! NAME-history is the timeline of the primary NAME and its history; it changes with a promotion only. NAME-position is
//! where a candidate is in the log, told before a promotion, when Pacemaker notifies of it.

use std::time::Duration;

use nix::unistd::gethostname;
use ocf::{Deadline, Run};

use crate::hosts::Hosts;
use crate::position::{Lsn, Position, Standing};

/// How old the word about the primary's history may be in a monitor. Asking costs a process.
const WORD_OF_PRIMARY: Duration = Duration::from_secs(60);
/// A value that was set on another node is here some milliseconds later; on a busy node a second.
const ON_ITS_WAY: Duration = Duration::from_secs(3);
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// This node's name in the cluster; by hand, where nobody tells it, the host's.
pub(crate) fn own_name(run: &Run) -> String {
    let host = || gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    run.environment.node().map_or_else(host, str::to_owned)
}

fn attribute(run: &Run, what: &str) -> String {
    format!("{}-{what}", run.environment.resource())
}

/// Tells the others through which timelines the primary came.
pub(crate) fn publish_history(run: &Run, position: &Position) {
    // Where it is in its own timeline changes all the time, and is nobody's business.
    let told = Position { lsn: Lsn(0), ..position.clone() };
    run.cluster().private_attribute(&attribute(run, "history"), &told.to_attribute());
}

/// A node that is no primary any more has nothing to say of one.
pub(crate) fn withdraw_history(run: &Run) {
    run.cluster().private_attribute(&attribute(run, "history"), "");
}

/// How this standby stands to the history of the newest primary that told one.
pub(crate) fn against_primary(run: &Run, own: &Position) -> Option<Standing> {
    primary_told(run, WORD_OF_PRIMARY).map(|(_, newest)| against(own, &newest))
}

/// The same by what the nodes say now: a word of before may be that of a primary of before.
pub(crate) fn against_primary_now(run: &Run, own: &Position) -> Option<Standing> {
    let (_, newest) = primary_told(run, Duration::ZERO)?;
    Some(own_timeline(own, &newest).unwrap_or_else(|| against(own, &newest)))
}

/// A primary on an older timeline never took the one that this node has: it was promoted by somebody who left that primary
/// where it was.
fn own_timeline(own: &Position, primary: &Position) -> Option<Standing> {
    own.history.left(primary.timeline).filter(|left| own.lsn > *left).map(Standing::Diverged)
}

/// The primary by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) node: String,
    /// As primary_hosts has it.
    pub(crate) address: Option<String>,
    pub(crate) timeline: u32,
}

/// Who says now that it is the primary.
pub(crate) fn primary(run: &Run, hosts: &Hosts) -> Option<Told> {
    let (node, position) = primary_told(run, Duration::ZERO)?;
    Some(Told { address: hosts.of(&node).map(str::to_owned), node, timeline: position.timeline })
}

/// The other node that says it is the primary, and its history. Of two the one on the newer timeline was promoted later.
fn primary_told(run: &Run, age: Duration) -> Option<(String, Position)> {
    let own_name = own_name(run);
    let told = run.cluster().attribute_of_all(&attribute(run, "history"), age).into_iter();
    let others = told.filter(|(node, _)| *node != own_name);
    let known = others.filter_map(|(node, value)| Some((node, Position::from_attribute(&value)?)));
    known.max_by_key(|(_, position)| position.timeline)
}

fn against(own: &Position, newest: &Position) -> Standing {
    match own.against(newest) {
        // On the same timeline it is behind or has everything: how much of it there is was not told.
        Standing::Ahead | Standing::Equal if own.timeline == newest.timeline => Standing::Behind,
        standing => standing,
    }
}

/// Tells the others where this candidate is in the log.
pub(crate) fn publish_position(run: &Run, position: &Position) {
    run.cluster().private_attribute(&attribute(run, "position"), &position.to_attribute());
}

/// Tells the others not to wait for this candidate's place: it takes no part in the election.
pub(crate) fn abstain(run: &Run) {
    run.cluster().private_attribute(&attribute(run, "position"), "abstains");
}

/// After a promotion the places of before mean nothing.
pub(crate) fn withdraw_position(run: &Run) {
    run.cluster().private_attribute(&attribute(run, "position"), "");
}

/// Where the candidates `nodes` are in the log, as far as they take part. Waits a little for those that have not been heard
/// of.
pub(crate) fn positions(run: &Run, nodes: &[String], deadline: Deadline) -> Vec<(String, Position)> {
    let patience = deadline.at_most(ON_ITS_WAY);
    loop {
        let told = run.cluster().attribute_of_all(&attribute(run, "position"), Duration::ZERO);
        let heard: Vec<_> = told.into_iter().filter(|(node, text)| nodes.contains(node) && !text.is_empty()).collect();
        if heard.len() == nodes.len() || !patience.sleep(ASK_AGAIN) {
            let place = |(node, text): (String, String)| Some((node, Position::from_attribute(&text)?));
            return heard.into_iter().filter_map(place).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_that_the_primary_never_took_is_this_nodes_own() {
        let place = |text: &str| Position::from_attribute(text).unwrap();
        let by_hand = place("3:0/600 1@0/100 2@0/500");
        assert_eq!(own_timeline(&by_hand, &place("2:0/0 1@0/100")), Some(Standing::Diverged(Lsn(0x500))));
        // The primary of today, and one that has gone on from here.
        for primary in ["3:0/0 1@0/100 2@0/500", "4:0/0 1@0/100 2@0/500 3@0/600"] {
            assert_eq!(own_timeline(&by_hand, &place(primary)), None);
        }
        // Both were promoted from timeline 2.
        assert_eq!(against(&by_hand, &place("3:0/0 1@0/100 2@0/480")), Standing::Unrelated);
        assert_eq!(against(&by_hand, &place("3:0/0 1@0/100 2@0/500")), Standing::Behind);
    }
}
