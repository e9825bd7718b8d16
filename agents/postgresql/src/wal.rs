//! The files of pg_wal: which timeline has which part of the log.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::position::Lsn;

/// What a file of the log takes on the disk, unless initdb was told otherwise (--wal-segsize).
pub(crate) const USUAL_SIZE: u64 = 16 << 20;

/// A file of the log: its timeline, where it begins and ends (XLogFileName, xlog_internal.h: the timeline, and the number
/// of the segment in two halves, of which the lower counts the segments of 4 GiB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) timeline: u32,
    pub(crate) range: Range<u64>,
}

impl Segment {
    /// By its name and size; None for everything else that lies there.
    pub(crate) fn of(name: &str, size: u64) -> Option<Self> {
        if name.len() != 24 || size == 0 {
            return None;
        }
        let part = |range: Range<usize>| name.get(range).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (timeline, high, low) = (part(0..8)?, part(8..16)?, part(16..24)?);
        let start = (u64::from(high) << 32).checked_add(u64::from(low).checked_mul(size)?)?;
        Some(Self { timeline, range: start..start.checked_add(size)? })
    }
}

/// The directory of the log; it had another name before version 10.
pub(crate) fn directory(data: &Path) -> Result<PathBuf> {
    let names = ["pg_wal", "pg_xlog"].map(|name| data.join(name));
    let found = names.into_iter().find(|path| path.exists());
    found.with_context(|| format!("{} has no pg_wal", data.display()))
}

/// The log's files, with their paths.
pub(crate) fn segments(data: &Path) -> Result<Vec<(Segment, PathBuf)>> {
    let directory = directory(data)?;
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let segment = |entry: fs::DirEntry| {
        let size = entry.metadata().map_or(0, |facts| facts.len());
        Some((Segment::of(entry.file_name().to_str()?, size)?, entry.path()))
    };
    Ok(entries.flatten().filter_map(segment).collect())
}

/// The newest timeline of which the log right before `end` is on the disk. A standby whose primary is gone says nowhere
/// else on which timeline it is: its control file knows that of its last restart point. A server follows no timeline whose
/// history it has not; of one that pg_rewind has taken back it leaves the log since 16.6, and not the history (release
/// notes, "critical WAL").
pub(crate) fn timeline_before(data: &Path, end: Lsn) -> Option<u32> {
    let last = end.0.checked_sub(1)?;
    let directory = directory(data).ok()?;
    let followed = |timeline: u32| timeline == 1 || directory.join(history_name(timeline)).exists();
    let holding = segments(data).ok()?.into_iter().filter(|(segment, _)| segment.range.contains(&last));
    holding.map(|(segment, _)| segment.timeline).filter(|timeline| followed(*timeline)).max()
}

/// The file with the history of a timeline (TLHistoryFileName, xlog_internal.h).
pub(crate) fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_by_its_name_what_is_in_it() {
        let segment = Segment::of("000000020000000A000000FF", USUAL_SIZE).unwrap();
        assert_eq!((segment.timeline, segment.range.start), (2, 0xA_FF00_0000));
        for name in
            ["00000002.history", "000000010000000000000003.partial", "archive_status", "00000001000000000000000G"]
        {
            assert_eq!(Segment::of(name, USUAL_SIZE), None, "{name}");
        }
        assert_eq!(Segment::of("000000010000000000000003", 0), None);
    }

    #[test]
    fn the_newest_timeline_before_a_place_counts() {
        let data = std::env::temp_dir().join(format!("ocf-postgresql-wal-{}", std::process::id()));
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(data.join("pg_wal")).unwrap();
        for name in [
            "000000010000000000000000",
            "000000010000000000000001",
            "000000020000000000000001",
            "00000002.history",
            "000000030000000000000001",
        ] {
            fs::write(data.join("pg_wal").join(name), [0; 256]).unwrap();
        }
        let timeline = |end| timeline_before(&data, Lsn(end));
        assert_eq!((timeline(0), timeline(256), timeline(257), timeline(512)), (None, Some(1), Some(2), Some(2)));
        assert_eq!(timeline(513), None);
    }
}
