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
    let standing = against_primary_of(run, own, WORD_OF_PRIMARY)?;
    // Where another node was promoted since, this one has followed it, and the word is of the one before.
    let doubtful = matches!(standing, Standing::Diverged(_) | Standing::Unrelated);
    if doubtful { against_primary_now(run, own) } else { Some(standing) }
}

/// The same by what the nodes say now.
pub(crate) fn against_primary_now(run: &Run, own: &Position) -> Option<Standing> {
    against_primary_of(run, own, Duration::ZERO)
}

/// The mark of the primary's timeline, if it is that one.
pub(crate) fn mark_of_primary(run: &Run, timeline: u32) -> Option<u64> {
    let (_, primary) = primary_told(run, WORD_OF_PRIMARY)?;
    primary.mark.filter(|_| primary.timeline == timeline)
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

fn against_primary_of(run: &Run, own: &Position, age: Duration) -> Option<Standing> {
    let (_, newest) = primary_told(run, age)?;
    Some(standing_of_standby(own, &newest))
}

/// What a standby's place means beside the history of the primary, which tells no place in its own timeline.
fn standing_of_standby(own: &Position, primary: &Position) -> Standing {
    match own.against(primary) {
        // On the same timeline it is behind or has everything: how much of it there is was not told.
        Standing::Ahead | Standing::Equal if own.timeline == primary.timeline => Standing::Behind,
        // The primary has every timeline that the cluster has promoted. One beyond it somebody else has begun, and the
        // primary goes on without it: no receiver takes an older timeline than its own (WalReceiverMain, walreceiver.c).
        Standing::Ahead | Standing::OtherDiverged => {
            own.history.left(primary.timeline).map_or(Standing::Unrelated, Standing::Diverged)
        }
        standing => standing,
    }
}

/// What a node tells before an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) node: String,
    pub(crate) position: Position,
    /// Its server accepts writes.
    pub(crate) primary: bool,
}

/// Before the position of a server that accepts writes.
const PRIMARY: &str = "primary ";

/// Tells the others where this candidate is in the log.
pub(crate) fn publish_position(run: &Run, position: &Position, primary: bool) {
    let text = format!("{}{}", if primary { PRIMARY } else { "" }, position.to_attribute());
    run.cluster().private_attribute(&attribute(run, "position"), &text);
}

/// Tells the others not to wait for this candidate's place: it takes no part in the election.
pub(crate) fn abstain(run: &Run) {
    run.cluster().private_attribute(&attribute(run, "position"), "abstains");
}

/// After a promotion the places of before mean nothing.
pub(crate) fn withdraw_position(run: &Run) {
    run.cluster().private_attribute(&attribute(run, "position"), "");
}

/// What the candidates `nodes` tell, as far as they take part. Waits a little for those that have not been heard of.
pub(crate) fn candidates(run: &Run, nodes: &[String], deadline: Deadline) -> Vec<Candidate> {
    let patience = deadline.at_most(ON_ITS_WAY);
    loop {
        let told = run.cluster().attribute_of_all(&attribute(run, "position"), Duration::ZERO);
        let heard: Vec<_> = told.into_iter().filter(|(node, text)| nodes.contains(node) && !text.is_empty()).collect();
        if heard.len() == nodes.len() || !patience.sleep(ASK_AGAIN) {
            return heard.into_iter().filter_map(|(node, text)| candidate(node, &text)).collect();
        }
    }
}

fn candidate(node: String, text: &str) -> Option<Candidate> {
    let place = text.strip_prefix(PRIMARY);
    Some(Candidate { node, position: Position::from_attribute(place.unwrap_or(text))?, primary: place.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_says_whether_it_accepts_writes() {
        let told = |text| candidate("n2".to_owned(), text).map(|one| (one.primary, one.position.timeline));
        assert_eq!(told("2:0/9 1@0/5"), Some((false, 2)));
        assert_eq!(told("primary 2:0/9 1@0/5"), Some((true, 2)));
        for text in ["abstains", "primary", "primary ", "secondary 2:0/9"] {
            assert_eq!(told(text), None, "{text}");
        }
    }

    #[test]
    fn a_standby_beside_the_primary() {
        for (own, primary, expected) in [
            ("1:0/9", "1:0/0", Standing::Behind),
            ("1:0/5", "2:0/0 1@0/5", Standing::Behind),
            ("1:0/6", "2:0/0 1@0/5", Standing::Diverged(Lsn(5))),
            // Promoted by somebody else than the cluster, once and twice, and back as a standby.
            ("2:0/9 1@0/5", "1:0/0", Standing::Diverged(Lsn(5))),
            ("3:0/9 1@0/5 2@0/7", "1:0/0", Standing::Diverged(Lsn(5))),
            ("3:0/9 1@0/5 2@0/7", "2:0/0 1@0/5", Standing::Diverged(Lsn(7))),
            ("2:0/9 1@0/5", "3:0/0 1@0/6", Standing::Unrelated),
            // Both were promoted to the same number, by nodes that did not know of each other.
            ("2:0/9 1@0/5", "2:0/0 1@0/6", Standing::Unrelated),
        ] {
            let at = |text| Position::from_attribute(text).unwrap();
            assert_eq!(standing_of_standby(&at(own), &at(primary)), expected, "{own} beside {primary}");
        }
    }
}
