//! Where a server is in the write-ahead log: LSN, timeline, and the timelines it came from.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::wal;

/// A place in the write-ahead log, as PostgreSQL prints it: two hexadecimal halves (pg_lsn_in, pg_lsn.c).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lsn(pub(crate) u64);

impl FromStr for Lsn {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let half = |half: &str| {
            let sound = !half.is_empty() && half.len() <= 8 && half.bytes().all(|b| b.is_ascii_hexdigit());
            sound.then(|| u64::from_str_radix(half, 16).ok()).flatten()
        };
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        let (high, low) =
            halves.with_context(|| format!("{text:?} is no LSN; something like 0/3000060 is expected"))?;
        Ok(Self(high << 32 | low))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The timelines a server's history went through: each with the place where it was left for the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History(Vec<(u32, Lsn)>);

/// More ancestors than these are not told to the other nodes: an attribute is no archive. A node so far behind is one
/// that only a new base backup helps.
const TOLD: usize = 20;

impl History {
    /// A history file (readTimeLineHistory, timeline.c): lines `TIMELINE LSN REASON`, comments from `#` on.
    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let ancestor = |line: &str| -> Result<(u32, Lsn)> {
            let mut words = line.split_whitespace();
            let (Some(timeline), Some(left)) = (words.next(), words.next()) else {
                bail!("{line:?} is not \"TIMELINE LSN REASON\"");
            };
            Ok((timeline.parse().with_context(|| format!("{timeline:?} is no timeline"))?, left.parse()?))
        };
        lines.map(ancestor).collect::<Result<_>>().map(Self)
    }

    /// The history of `timeline` as the data directory has it. Timeline 1 has none.
    pub(crate) fn read(data: &Path, timeline: u32) -> Result<Self> {
        if timeline <= 1 {
            return Ok(Self::default());
        }
        let path = wal::directory(data)?.join(format!("{timeline:08X}.history"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// Where `timeline` was left, if the history went through it.
    pub(crate) fn left(&self, timeline: u32) -> Option<Lsn> {
        self.0.iter().find(|(ancestor, _)| *ancestor == timeline).map(|(_, left)| *left)
    }
}

/// A server's place, told to the other nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) timeline: u32,
    /// The end of the log that it has.
    pub(crate) lsn: Lsn,
    pub(crate) history: History,
}

/// How the log of one server stands to that of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Both have the same.
    Equal,
    /// It has all that the other has, and so many bytes more, or a newer timeline.
    Ahead,
    /// The other has all that it has, and more.
    Behind,
    /// It left the other's way: it went on with a timeline that the other left earlier, from this place on.
    Diverged(Lsn),
    /// The other left its way; its own is the newer timeline.
    OtherDiverged,
    /// The one does not occur in the other's history.
    Unrelated,
}

impl Position {
    /// How this one stands to `other`.
    pub(crate) fn against(&self, other: &Self) -> Standing {
        if self.timeline == other.timeline {
            // Two that were promoted without each other give their new timelines the same number.
            if let (Some(own), Some(others)) = (self.history.0.last(), other.history.0.last())
                && own != others
            {
                return Standing::Unrelated;
            }
            return match self.lsn.cmp(&other.lsn) {
                std::cmp::Ordering::Less => Standing::Behind,
                std::cmp::Ordering::Equal => Standing::Equal,
                std::cmp::Ordering::Greater => Standing::Ahead,
            };
        }
        if let Some(left) = other.history.left(self.timeline) {
            return if self.lsn > left { Standing::Diverged(left) } else { Standing::Behind };
        }
        if let Some(left) = self.history.left(other.timeline) {
            return if other.lsn > left { Standing::OtherDiverged } else { Standing::Ahead };
        }
        Standing::Unrelated
    }

    /// The value of the node attribute: `TIMELINE:LSN` and the ancestors as `TIMELINE@LSN`, the newest last.
    pub(crate) fn to_attribute(&self) -> String {
        let mut text = format!("{}:{}", self.timeline, self.lsn);
        let ancestors = &self.history.0;
        for (timeline, left) in &ancestors[ancestors.len().saturating_sub(TOLD)..] {
            let _ = write!(text, " {timeline}@{left}");
        }
        text
    }

    pub(crate) fn from_attribute(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (timeline, lsn) = words.next()?.split_once(':')?;
        let ancestor = |word: &str| {
            let (timeline, left) = word.split_once('@')?;
            Some((timeline.parse().ok()?, left.parse().ok()?))
        };
        let history = words.map(ancestor).collect::<Option<_>>().map(History)?;
        Some(Self { timeline: timeline.parse().ok()?, lsn: lsn.parse().ok()?, history })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on timeline {}", self.lsn, self.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Position {
        Position::from_attribute(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn an_lsn_is_two_hexadecimal_halves() {
        for (text, value) in [("0/0", 0), ("0/3000060", 0x0300_0060), ("1A/FFFFFFFF", 0x1A_FFFF_FFFF)] {
            let lsn: Lsn = text.parse().unwrap();
            assert_eq!((lsn.0, lsn.to_string().as_str()), (value, text));
        }
        for text in ["", "0", "0/", "/0", "0/100000000", "0/x", "0/+1", " 0/1", "0/1/2"] {
            assert!(text.parse::<Lsn>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_compared_and_not_texts() {
        assert_eq!(at("1:0/F000000").against(&at("1:0/10000000")), Standing::Behind);
        assert_eq!(at("1:F/0").against(&at("1:10/0")), Standing::Behind);
        assert_eq!(at("10:0/5 9@0/4").against(&at("9:0/4")), Standing::Ahead);
    }

    #[test]
    fn every_standing() {
        for (one, other, expected) in [
            ("1:0/5", "1:0/5", Standing::Equal),
            ("1:0/6", "1:0/5", Standing::Ahead),
            // An old primary that had sent all it wrote, and one that had not.
            ("1:0/5", "2:0/9 1@0/5", Standing::Behind),
            ("1:0/6", "2:0/9 1@0/5", Standing::Diverged(Lsn(5))),
            ("2:0/9 1@0/5", "1:0/6", Standing::OtherDiverged),
            ("2:0/9 1@0/5", "1:0/4", Standing::Ahead),
            // More log on a timeline that was left is worth less than the newer timeline.
            ("3:0/9 1@0/5 2@0/7", "1:0/FFFF", Standing::OtherDiverged),
            ("2:0/8 1@0/5", "3:0/9 1@0/5 2@0/7", Standing::Diverged(Lsn(7))),
            // Two nodes promoted at the same time from the same timeline.
            ("2:0/9 1@0/5", "3:0/9 1@0/6", Standing::Unrelated),
        ] {
            assert_eq!(at(one).against(&at(other)), expected, "{one} against {other}");
        }
    }

    #[test]
    fn a_history_file_is_read_and_a_damaged_one_named() {
        let text = "1\t0/3000060\tno recovery target specified\n\n# a comment\n2\t1/5\tbefore\n";
        let history = History::parse(text).unwrap();
        assert_eq!(history.0, [(1, Lsn(0x0300_0060)), (2, Lsn(0x1_0000_0005))]);
        assert!(format!("{:#}", History::parse("1\n").unwrap_err()).contains("TIMELINE LSN REASON"));
        assert!(format!("{:#}", History::parse("x 0/1\n").unwrap_err()).contains("no timeline"));
    }

    #[test]
    fn a_position_survives_the_attribute_with_its_latest_ancestors() {
        let history = History((1..40).map(|timeline| (timeline, Lsn(u64::from(timeline) * 7))).collect());
        let position = Position { timeline: 40, lsn: Lsn(0x1_0000_0000), history };
        let again = at(&position.to_attribute());
        assert_eq!((again.timeline, again.lsn, again.history.0.len()), (40, position.lsn, TOLD));
        assert_eq!(again.history.left(39), Some(Lsn(39 * 7)));
        for text in ["", "1", "1:", "x:0/1", "1:0/1 2", "1:0/1  "] {
            assert_eq!(Position::from_attribute(text), None, "{text:?}");
        }
    }
}
