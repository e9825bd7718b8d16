//! An old primary whose log ends in half a record, as where its disk was full when the next segment was to be made: no other
//! node has that record, and the new timeline begins where it does.
//!
//! As a standby the server finds the half in its own segment and asks the primary for the next one, in which the rest would
//! be, for ever (WaitForWALToBecomeAvailable, xlogrecovery.c, asks for the page that it lacks). Nothing has parted: it has
//! replayed nothing that the primary does not have. Without its own segments of that place it asks for the primary's.

use std::fs;

use anyhow::{Context, Result};
use ocf::Run;

use crate::aside::Aside;
use crate::control::ClusterState;
use crate::installation::Installation;
use crate::position::{History, Lsn};
use crate::record;
use crate::server::Standby;
use crate::wal;

/// Where the standby stands, if that is where its timeline was left for the one that it asks for. A server on its way
/// through that place is there for a moment: the primary writes the first record of its timeline as it is promoted.
pub(crate) fn place(history: impl Fn(u32) -> Option<History>, standby: &Standby) -> Option<Lsn> {
    let source = standby.source.as_ref().filter(|source| source.timeline > standby.own_timeline)?;
    let left = history(source.timeline)?.left(standby.own_timeline)?;
    (standby.replayed == left).then_some(left)
}

/// Puts aside what a monitor has found, so that the server that is started now does not.
pub(crate) fn put_aside(run: &Run, installed: &Installation) -> Result<()> {
    let Some((timeline, left)) = record::half_record(&run.store) else { return Ok(()) };
    if ClusterState::read(&installed.data)? != ClusterState::ShutDownInRecovery {
        return Ok(());
    }
    let aside = Aside::open(installed, timeline, left)?;
    let segments = wal::segments(&installed.data)?.into_iter();
    for (_, path) in segments.filter(|(segment, _)| segment.timeline == timeline && segment.range.end > left.0) {
        // It is copied, for pg_wal may be on another file system.
        let to = aside.keep(&path)?;
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        run.log.warning(&format!("{} ends in half a record, and was put aside as {}", path.display(), to.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;
    use crate::server::Source;

    #[test]
    fn only_a_standby_at_the_end_of_its_own_timeline_stands_there() {
        let history =
            |timeline| (timeline == 3).then(|| Position::from_attribute("3:0/0 1@0/20 2@0/50").unwrap().history);
        let at = |own_timeline, replayed, streams: Option<u32>| {
            let source = streams.map(|timeline| Source { timeline, host: None, slot: None });
            place(history, &Standby { own_timeline, replayed: Lsn(replayed), source, ..Standby::default() })
        };
        assert_eq!(at(2, 0x50, Some(3)), Some(Lsn(0x50)));
        assert_eq!(at(1, 0x20, Some(3)), Some(Lsn(0x20)));
        for (own, replayed, streams) in [
            (2, 0x51, Some(3)),
            (2, 0x4f, Some(3)),
            (3, 0x50, Some(3)),
            (2, 0x50, Some(2)),
            (2, 0x50, None),
            (2, 0x50, Some(4)),
        ] {
            assert_eq!(at(own, replayed, streams), None, "{own} {replayed:x} {streams:?}");
        }
    }
}
