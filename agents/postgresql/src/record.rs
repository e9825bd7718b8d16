//! What this instance was made to be, and since when; gone after a reboot.

use std::time::Duration;

use anyhow::Result;
use ocf::{Store, uptime};

const KIND: &str = "role";
/// A standby streamed since it was started.
const STREAMED: &str = "streamed";
/// When the promoted instance failed.
const FAILED: &str = "failed";
/// A failure so long ago has nothing to do with the next one.
const FORGIVEN: Duration = Duration::from_secs(600);

/// The role that the cluster gave the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Unpromoted,
    Promoted,
}

/// The role and its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) role: Role,
    pub(crate) age: Duration,
}

impl Record {
    /// None: stopped, or never started by the cluster since the node's boot. What cannot be read is not believed, and the
    /// server's own word counts.
    pub(crate) fn read(store: &Store) -> Option<Self> {
        Self::from_text(&store.read(KIND).ok().flatten()?, uptime())
    }

    fn from_text(text: &str, now: Duration) -> Option<Self> {
        let (role, since) = text.trim().split_once(' ')?;
        let role = match role {
            "unpromoted" => Role::Unpromoted,
            "promoted" => Role::Promoted,
            _ => return None,
        };
        let since = Duration::from_secs(since.parse().ok()?);
        Some(Self { role, age: now.checked_sub(since)? })
    }

    pub(crate) fn write(store: &Store, role: Role) -> Result<()> {
        let word = match role {
            Role::Unpromoted => "unpromoted",
            Role::Promoted => "promoted",
        };
        store.write(KIND, &format!("{word} {}", uptime().as_secs()))?;
        store.remove(STREAMED)
    }

    pub(crate) fn remove(store: &Store) -> Result<()> {
        [KIND, STREAMED].iter().try_for_each(|kind| store.remove(kind))
    }
}

/// Whether this standby has streamed since it was started.
pub(crate) fn has_streamed(store: &Store) -> bool {
    store.read(STREAMED).is_ok_and(|text| text.is_some())
}

pub(crate) fn note_streaming(store: &Store) -> Result<()> {
    if has_streamed(store) { Ok(()) } else { store.write(STREAMED, "") }
}

/// Writes down that the promoted instance has failed, and says whether it did so shortly before. That outlives a stop,
/// which is a part of the recovery.
pub(crate) fn failed_again(store: &Store) -> Result<bool> {
    let before = store.read(FAILED).ok().flatten().and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let recently = before.and_then(|before| uptime().checked_sub(before)).is_some_and(|ago| ago < FORGIVEN);
    store.write(FAILED, &uptime().as_secs().to_string())?;
    Ok(recently)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_a_role_and_an_age() {
        let read = |text| Record::from_text(text, Duration::from_secs(100));
        assert_eq!(read("promoted 40"), Some(Record { role: Role::Promoted, age: Duration::from_secs(60) }));
        assert_eq!(read("unpromoted 100\n").map(|record| record.role), Some(Role::Unpromoted));
        for text in ["", "promoted", "promoted x", "dancing 1", "promoted 101"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
