//! What a failure of an instance, on this node, means for its promotion score in the time after.
//!
//! Pacemaker recovers a failed instance by demote, stop, start and promote, and promotes it again where its score is the
//! best: without a memory that would be where it has just failed, again and again.

use std::time::Duration;

use crate::agent::Run;
use crate::state::uptime;

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// The promoted instance.
    Serving,
    /// A promotion.
    Promotion,
}

const KIND: &str = "lapse";
/// How long another node is preferred to one where the resource has failed: until it has been promoted, has settled, and
/// has said in a monitor that it serves.
const OTHERS_FIRST: Duration = Duration::from_secs(60);
/// How long an instance that could not be promoted is not tried again. What hindered it, such as another host with one of
/// its addresses, is not gone the next moment.
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// The score of a promoted instance that has failed, and of one that nobody would reach.
pub const LAST_RESORT: i32 = 5;
/// The score of an instance that would fail to be promoted: Pacemaker's -INFINITY. One that is only taken away leaves the
/// node eligible where a constraint asks for it (`crm_resource --move`), and a promotion that has failed would be tried
/// again at once, for ever.
pub const NEVER: i32 = -1_000_000;

impl Lapse {
    /// Writes down that it has failed just now. If that cannot be written, the instance is tried again sooner.
    pub fn note(self, run: &Run) {
        let word = match self {
            Self::Serving => "serving",
            Self::Promotion => "promotion",
        };
        if let Err(error) = run.store.write(KIND, &format!("{} {word}", uptime().as_secs())) {
            run.log.warning(&format!("{error:#}"));
        }
    }

    /// What the last lapse leaves of the promotion score `score`.
    pub fn reduced(run: &Run, score: i32) -> i32 {
        let text = run.store.read(KIND).ok().flatten();
        text.map_or(score, |text| reduced_by(&text, uptime(), score))
    }
}

fn reduced_by(text: &str, now: Duration, score: i32) -> i32 {
    let (when, what) = text.split_once(' ').unwrap_or_default();
    let ago = when.parse().ok().and_then(|when| now.checked_sub(Duration::from_secs(when)));
    match (ago, what) {
        (Some(ago), "serving") if ago < OTHERS_FIRST => score.min(LAST_RESORT),
        (Some(ago), "promotion") if ago < TRY_AGAIN => NEVER,
        _ => score,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, text: &str) -> i32 {
        reduced_by(text, Duration::from_secs(seconds), 50)
    }

    #[test]
    fn other_nodes_come_first_for_a_while_after_a_failure() {
        assert_eq!(at(1059, "1000 serving"), LAST_RESORT);
        assert_eq!(at(1060, "1000 serving"), 50);
        assert_eq!(reduced_by("1000 serving", Duration::from_secs(1001), 2), 2);
    }

    #[test]
    fn a_promotion_that_failed_is_not_tried_again_at_once() {
        assert_eq!(at(1014, "1000 promotion"), NEVER);
        assert_eq!(at(1015, "1000 promotion"), 50);
    }

    #[test]
    fn what_cannot_be_read_is_no_failure() {
        for text in ["", "x serving", "1000", "1000 dancing", "2000 serving"] {
            assert_eq!(at(1001, text), 50, "{text:?}");
        }
    }
}
