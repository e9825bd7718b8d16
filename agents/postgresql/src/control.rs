//! What the control file says: the server's state when it last wrote it, which tells its role where it cannot be asked.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use crate::position::Lsn;

const FILE: &str = "global/pg_control";

/// `DBState` of PostgreSQL (catalog/pg_control.h), unchanged in 9.5 to 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClusterState {
    StartingUp,
    ShutDown,
    ShutDownInRecovery,
    ShuttingDown,
    CrashRecovery,
    ArchiveRecovery,
    Production,
}

impl ClusterState {
    /// Reads it.
    pub(crate) fn read(data: &Path) -> Result<Self> {
        let head = head(data)?;
        let number = u32::from_ne_bytes([head[16], head[17], head[18], head[19]]);
        let state = Self::from_number(number);
        state.with_context(|| {
            format!("{}/{FILE}: {number} is no state of a cluster; is it PostgreSQL's?", data.display())
        })
    }

    fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::StartingUp,
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            3 => Self::ShuttingDown,
            4 => Self::CrashRecovery,
            5 => Self::ArchiveRecovery,
            6 => Self::Production,
            _ => return None,
        })
    }

    /// Whether a server in this state was, or is, a primary. None: it does not tell.
    pub(crate) fn of_primary(self) -> Option<bool> {
        match self {
            Self::Production | Self::ShutDown | Self::ShuttingDown => Some(true),
            Self::ArchiveRecovery | Self::ShutDownInRecovery => Some(false),
            Self::StartingUp | Self::CrashRecovery => None,
        }
    }
}

/// What a database and its copies have in common, and no other database has.
pub(crate) fn system_identifier(data: &Path) -> Result<u64> {
    let head = head(data)?;
    Ok(u64::from_ne_bytes([head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]]))
}

/// The 20 bytes at the beginning that are the same in all versions: system identifier (8 bytes), version of the file (4),
/// of the catalogue (4), and the state (4), in the machine's byte order.
fn head(data: &Path) -> Result<[u8; 20]> {
    let path = data.join(FILE);
    let mut head = [0; 20];
    let read = File::open(&path).and_then(|mut file| file.read_exact(&mut head));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(head)
}

/// What pg_controldata prints, as far as it matters here. Used where a program may be started, not in a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlData {
    pub(crate) checkpoint: Lsn,
    pub(crate) checkpoint_timeline: u32,
    pub(crate) minimum_recovery: Lsn,
    pub(crate) minimum_recovery_timeline: u32,
    /// Changes of hint bits are logged, or pages have checksums: what pg_rewind needs.
    pub(crate) can_be_rewound: bool,
}

impl ControlData {
    /// In the C locale; the labels are those of pg_controldata.c, and the same in all versions.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let field = |label: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'));
            value.map(str::trim).with_context(|| format!("pg_controldata does not print {label:?}"))
        };
        let number = |label: &str| -> Result<u32> {
            let value = field(label)?;
            value.parse().with_context(|| format!("pg_controldata prints {value:?} as {label}; a number is expected"))
        };
        Ok(Self {
            checkpoint: field("Latest checkpoint location")?.parse()?,
            checkpoint_timeline: number("Latest checkpoint's TimeLineID")?,
            minimum_recovery: field("Minimum recovery ending location")?.parse()?,
            minimum_recovery_timeline: number("Min recovery ending loc's timeline")?,
            can_be_rewound: field("wal_log_hints setting").is_ok_and(|hints| hints == "on")
                || number("Data page checksum version")? > 0,
        })
    }

    /// The timeline of the end of the log, and the last place of it that the file knows of. After a crash of a primary
    /// there is more of it.
    pub(crate) fn end(&self) -> (u32, Lsn) {
        let checkpoint = (self.checkpoint_timeline, self.checkpoint);
        let recovery = (self.minimum_recovery_timeline, self.minimum_recovery);
        if self.minimum_recovery_timeline == 0 { checkpoint } else { checkpoint.max(recovery) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// pg_controldata of PostgreSQL 16, shortened.
    const OUTPUT: &str = "\
pg_control version number:            1300
Database system identifier:           7576543210987654321
Database cluster state:               shut down in recovery
Latest checkpoint location:           0/3000098
Latest checkpoint's REDO location:    0/3000060
Latest checkpoint's TimeLineID:       1
Latest checkpoint's PrevTimeLineID:   1
Minimum recovery ending location:     0/5000110
Min recovery ending loc's timeline:   2
wal_log_hints setting:                off
Data page checksum version:           1
";

    #[test]
    fn the_output_of_pg_controldata_is_read() {
        let data = ControlData::parse(OUTPUT).unwrap();
        assert_eq!((data.checkpoint_timeline, data.checkpoint), (1, Lsn(0x0300_0098)));
        assert_eq!(data.end(), (2, Lsn(0x0500_0110)));
        assert!(data.can_be_rewound);
        let primary = OUTPUT.replace("0/5000110", "0/0").replace("timeline:   2", "timeline:   0");
        assert_eq!(ControlData::parse(&primary).unwrap().end(), (1, Lsn(0x0300_0098)));
        let bare = OUTPUT.replace("checksum version:           1", "checksum version:           0");
        assert!(!ControlData::parse(&bare).unwrap().can_be_rewound);
        let hints = bare.replace("setting:                off", "setting:                on");
        assert!(ControlData::parse(&hints).unwrap().can_be_rewound);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = ControlData::parse("pg_control version number: 1300\n").unwrap_err();
        assert!(error.to_string().contains("\"Latest checkpoint location\""), "{error}");
    }

    #[test]
    fn a_state_tells_the_role_or_does_not() {
        let roles: Vec<_> =
            (0..8).map(|number| ClusterState::from_number(number).map(ClusterState::of_primary)).collect();
        let expected = [None, Some(true), Some(false), Some(true), None, Some(false), Some(true)];
        assert_eq!(roles[..7], expected.map(Some));
        assert_eq!(roles[7], None);
    }
}
