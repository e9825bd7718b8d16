//! What a start refuses to throw away, and the operator's word that it may: `hvmail_ha rejoin` reads the one and writes the
//! other, and Pacemaker starts the server.
//!
//! The word is a file of this node that names the loss: timeline, the place where the ways parted, and the end of the log.
//! So one that is left behind, by a command that was killed, permits nothing but what its operator saw; it is good for a
//! quarter of an hour and not after a reboot, and the start that honours it takes it away. A parameter or an attribute of
//! the node would be for whatever a later start finds.

use std::time::Duration;

use ocf::{Run, uptime};

use crate::parameters::Rejoin;
use crate::position::{Lsn, Position, Standing};

/// What the last start found, whether or not it may be thrown away.
const PARTED: &str = "parted";
/// `SECONDS WAY LOSS`: when it was given, in seconds since boot, and what for.
const PERMITTED: &str = "permitted";
const GOOD_FOR: Duration = Duration::from_secs(900);

/// What would be thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The log of this timeline from one place to the other.
    Diverged { timeline: u32, left: Lsn, end: Lsn },
    /// The whole directory, whose log ends there.
    Unrelated { timeline: u32, end: Lsn },
    /// A directory that must not be started.
    HalfRewound,
}

impl Loss {
    pub(crate) fn of(standing: Standing, own: &Position) -> Option<Self> {
        let (timeline, end) = (own.timeline, own.lsn);
        match standing {
            Standing::Diverged(left) => Some(Self::Diverged { timeline, left, end }),
            Standing::Unrelated => Some(Self::Unrelated { timeline, end }),
            Standing::Equal | Standing::Ahead | Standing::Behind | Standing::OtherDiverged => None,
        }
    }

    /// `diverged TIMELINE LEFT END`, `unrelated TIMELINE END`, `half-rewound`.
    fn to_text(self) -> String {
        match self {
            Self::Diverged { timeline, left, end } => format!("diverged {timeline} {left} {end}"),
            Self::Unrelated { timeline, end } => format!("unrelated {timeline} {end}"),
            Self::HalfRewound => "half-rewound".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["diverged", timeline, left, end] => Some(Self::Diverged {
                timeline: timeline.parse().ok()?,
                left: left.parse().ok()?,
                end: end.parse().ok()?,
            }),
            ["unrelated", timeline, end] => {
                Some(Self::Unrelated { timeline: timeline.parse().ok()?, end: end.parse().ok()? })
            }
            ["half-rewound"] => Some(Self::HalfRewound),
            _ => None,
        }
    }

    /// Whether who gave up this one gave up `other` too. After a crash the control file knows less of the log than the server
    /// that has replayed it.
    fn covers(self, other: Self) -> bool {
        match (self, other) {
            (
                Self::Diverged { timeline, left, end },
                Self::Diverged { timeline: other_timeline, left: other_left, end: other_end },
            ) => timeline == other_timeline && left == other_left && other_end <= end,
            (Self::Unrelated { timeline, end }, Self::Unrelated { timeline: other_timeline, end: other_end }) => {
                timeline == other_timeline && other_end <= end
            }
            (Self::HalfRewound, Self::HalfRewound) => true,
            _ => false,
        }
    }
}

/// Writes down what a start has found.
pub(crate) fn note_parted(run: &Run, loss: Loss) {
    if let Err(error) = run.store.write(PARTED, &loss.to_text()) {
        run.log.warning(&format!("{error:#}; hvmail_ha rejoin will not see it"));
    }
}

/// It is over.
pub(crate) fn forget_parted(run: &Run) {
    let _ = run.store.remove(PARTED);
}

/// How the operator has permitted to throw this away, once.
pub(crate) fn take(run: &Run, loss: Loss) -> Option<Rejoin> {
    let text = run.store.read(PERMITTED).ok().flatten()?;
    // What cannot be taken away would not be for once.
    run.store.remove(PERMITTED).ok()?;
    let rejoin = judge(&text, loss, uptime());
    let what =
        if rejoin.is_some() { "as the operator permits" } else { "the operator's word is for something else, or old" };
    run.log.warning(&format!("{what}: {}", text.trim()));
    rejoin
}

fn judge(text: &str, loss: Loss, now: Duration) -> Option<Rejoin> {
    let (given, rest) = text.trim().split_once(' ')?;
    let (way, permitted) = rest.split_once(' ')?;
    let age = now.checked_sub(Duration::from_secs(given.parse().ok()?))?;
    let way = match way {
        "rewind" => Rejoin::Rewind,
        "basebackup" => Rejoin::BaseBackup,
        _ => return None,
    };
    (age < GOOD_FOR && Loss::parse(permitted)?.covers(loss)).then_some(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10_000);

    fn parted(end: u64) -> Loss {
        Loss::Diverged { timeline: 2, left: Lsn(0x500), end: Lsn(end) }
    }

    #[test]
    fn only_what_was_shown_may_be_thrown_away_and_only_soon() {
        let word = |given: u64, loss: Loss| format!("{given} rewind {}\n", loss.to_text());
        assert_eq!(judge(&word(9_990, parted(0x600)), parted(0x600), NOW), Some(Rejoin::Rewind));
        assert_eq!(judge(&word(9_990, parted(0x600)), parted(0x580), NOW), Some(Rejoin::Rewind));
        for (text, found) in [
            (word(9_990, parted(0x600)), parted(0x601)),
            (word(9_990, parted(0x600)), Loss::Diverged { timeline: 3, left: Lsn(0x500), end: Lsn(0x600) }),
            (word(9_990, parted(0x600)), Loss::Diverged { timeline: 2, left: Lsn(0x4ff), end: Lsn(0x600) }),
            (word(9_990, parted(0x600)), Loss::HalfRewound),
            (word(9_000, parted(0x600)), parted(0x600)),
            // Of another boot.
            (word(10_001, parted(0x600)), parted(0x600)),
            (String::new(), parted(0x600)),
            ("9990 erase diverged 2 0/500 0/600".to_owned(), parted(0x600)),
            ("9990 rewind diverged 2 0/500".to_owned(), parted(0x600)),
        ] {
            assert_eq!(judge(&text, found, NOW), None, "{text:?} {found:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for loss in [parted(0x600), Loss::Unrelated { timeline: 7, end: Lsn(0x1_0000_0000) }, Loss::HalfRewound] {
            assert_eq!(Loss::parse(&loss.to_text()), Some(loss));
            let text = format!("9999 basebackup {}", loss.to_text());
            assert_eq!(judge(&text, loss, NOW), Some(Rejoin::BaseBackup));
        }
    }
}
