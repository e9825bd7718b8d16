//! Which of several timelines of the same number: a mark, made when the agent promotes, in a file of the data directory.
//!
//! PostgreSQL counts timelines (findNewestTimeLine, timeline.c), so two servers that were promoted without knowing of each
//! other give the same number to different ones. Where both began at the same place, no history file tells them apart, and a
//! standby of the one would take log of the other for its own. Base backups and pg_rewind bring the file along; a standby
//! that follows a primary to a new timeline takes the mark over.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use crate::configuration;
use crate::installation::Installation;

/// `TIMELINE MARK`.
const FILE: &str = "ocf-timeline";

/// The mark of that timeline, if the directory has one.
pub(crate) fn of(data: &Path, timeline: u32) -> Option<u64> {
    let text = fs::read_to_string(data.join(FILE)).ok()?;
    let (number, mark) = text.trim().split_once(' ')?;
    (number.parse() == Ok(timeline)).then(|| mark.parse().ok()).flatten()
}

/// A timeline that begins here and now. Nanoseconds since 1970: no two promotions have the same.
pub(crate) fn new() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn write(installed: &Installation, timeline: u32, mark: u64) -> Result<()> {
    configuration::place(installed, &installed.data.join(FILE), format!("{timeline} {mark}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_mark_of_that_timeline_counts() {
        let data = std::env::temp_dir().join(format!("ocf-postgresql-mark-{}", std::process::id()));
        fs::create_dir_all(&data).unwrap();
        let with = |text: &str, timeline| {
            fs::write(data.join(FILE), text).unwrap();
            of(&data, timeline)
        };
        assert_eq!((with("3 17\n", 3), with("3 17\n", 4)), (Some(17), None));
        for damaged in ["", "3", "3 ", "3 x\n", "3 -1\n", "\u{0}\u{0}"] {
            assert_eq!(with(damaged, 3), None, "{damaged:?}");
        }
        fs::remove_dir_all(&data).unwrap();
        assert_eq!(of(&data, 3), None);
    }
}
