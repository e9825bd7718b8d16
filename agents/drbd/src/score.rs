//! How much this node is wanted as the Primary: the ladder of ocf:linbit:drbd (its parameter adjust_master_score).

use crate::model::Resource;

/// The values of the ladder's four steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ladder {
    /// Consistent data, which may be old.
    pub(crate) only_consistent: i32,
    /// Good data at a peer only.
    pub(crate) only_remote: i32,
    /// Good data here, and nothing is known of a peer.
    pub(crate) local_good: i32,
    /// Good data here, and it is Primary, connected to the Primary, or knows its peers.
    pub(crate) best: i32,
}

/// What becomes of the promotion score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Score {
    Set(i32),
    Remove,
    /// What was said before still holds.
    Keep,
}

impl Ladder {
    pub(crate) const USUAL: Self = Self { only_consistent: 0, only_remote: 10, local_good: 1000, best: 10_000 };

    /// Four whole numbers, none smaller than the one before.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let numbers: Option<Vec<i32>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        let numbers = numbers.filter(|numbers| numbers.is_sorted() && numbers.first().is_some_and(|one| *one >= 0))?;
        let [only_consistent, only_remote, local_good, best] = numbers[..] else { return None };
        Some(Self { only_consistent, only_remote, local_good, best })
    }

    /// Decides. `stay_away`: a peer is Primary, and the parameters say that no score is to be set then; or the promotion would
    /// be refused.
    pub(crate) fn score(self, resource: &Resource, stay_away: bool) -> Score {
        let good_peer = resource.some_peer_all_up_to_date();
        if !resource.quorate() || stay_away {
            Score::Remove
        } else if resource.client() {
            if resource.peers_all_up_to_date() || (resource.primary() && good_peer) {
                above_zero(self.best - 1)
            } else if good_peer {
                above_zero(self.local_good - 1)
            } else {
                Score::Remove
            }
        } else if resource.all_up_to_date() {
            // Next to the Primary, whatever a third node has: that one, alone, may have old data and has the step below.
            let known = resource.primary() || beside_primary(resource) || !resource.some_peer_unknown();
            above_zero(if known { self.best } else { self.local_good })
        } else if good_peer {
            above_zero(self.only_remote)
        } else if resource.volumes.values().any(|volume| volume.disk.in_transition()) {
            Score::Keep
        } else if resource.all_consistent() {
            above_zero(self.only_consistent)
        } else {
            Score::Remove
        }
    }
}

fn beside_primary(resource: &Resource) -> bool {
    resource.primary_peer().is_some_and(|peer| peer.connected() && peer.all_up_to_date())
}

fn above_zero(score: i32) -> Score {
    if score > 0 { Score::Set(score) } else { Score::Remove }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_has_four_steps_that_do_not_fall() {
        assert_eq!(Ladder::parse("0 10 1000 10000"), Some(Ladder::USUAL));
        for wrong in ["", "1 2 3", "1 2 3 4 5", "4 3 2 1", "-1 0 1 2", "a b c d", "1 2 3 99999999999"] {
            assert_eq!(Ladder::parse(wrong), None, "{wrong:?}");
        }
    }
}
