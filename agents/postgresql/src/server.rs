//! What the server says of itself.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::installation::Version;
use crate::position::{History, Lsn, Position};
use crate::wal;
use crate::wire::{Rows, Trouble, Wire};

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Primary(Primary),
    Standby(Standby),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Primary {
    pub(crate) timeline: u32,
    pub(crate) lsn: Lsn,
    /// The setting synchronous_standby_names.
    pub(crate) sync_names: String,
    pub(crate) standbys: Vec<Follower>,
    /// The slots that the agent made.
    pub(crate) slots: Vec<Slot>,
}

/// A standby that is connected to a primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) name: String,
    pub(crate) streaming: bool,
    /// A commit waits for it.
    pub(crate) synchronous: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) active: bool,
    /// Bytes of WAL that are kept for it; None: none yet.
    pub(crate) kept: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standby {
    /// The newest that the server itself knows of.
    pub(crate) timeline: u32,
    /// The end of the log that it has received or found on its own disk.
    pub(crate) lsn: Lsn,
    /// Bytes between the primary's log, as far as it knows it, and what it has replayed. None: it knows nothing of one.
    pub(crate) lag: Option<u64>,
    pub(crate) streaming: bool,
    pub(crate) paused: bool,
    /// Slots of its own time as a primary, which would keep WAL for ever.
    pub(crate) slots: Vec<Slot>,
}

/// The prefix of the slots that the agent makes, and drops.
pub(crate) const SLOT_PREFIX: &str = "ocf_";

impl Said {
    /// Asks for everything a monitor wants to know, in two questions.
    pub(crate) fn ask(wire: &mut Wire, version: Version) -> Result<Self> {
        let recovering = one(wire, "SELECT pg_is_in_recovery()")?;
        match recovering.as_str() {
            "t" => Standby::ask(wire, version).map(Self::Standby),
            "f" => Primary::ask(wire, version).map(Self::Primary),
            other => bail!("pg_is_in_recovery() is {other:?}; t or f is expected"),
        }
    }

    /// Its place in the log, with the history that its data directory has.
    pub(crate) fn position(&self, data: &Path) -> Result<Position> {
        let (timeline, lsn) = match self {
            Self::Primary(primary) => (primary.timeline, primary.lsn),
            Self::Standby(standby) => {
                let on_disk = wal::timeline_before(data, standby.lsn).unwrap_or(0);
                (standby.timeline.max(on_disk), standby.lsn)
            }
        };
        Ok(Position { timeline, lsn, history: History::read(data, timeline)? })
    }
}

impl Primary {
    fn ask(wire: &mut Wire, version: Version) -> Result<Self> {
        let slots = slots_of(version, "pg_current_wal_lsn()");
        let sql = format!(
            "SELECT 'self', pg_walfile_name(pg_current_wal_lsn()), pg_current_wal_lsn()::text, \
                    current_setting('synchronous_standby_names') \
             UNION ALL SELECT 'standby', application_name, (state = 'streaming')::text, \
                    (sync_state IN ('sync', 'quorum'))::text FROM pg_stat_replication \
             UNION ALL {slots}"
        );
        let rows = ask(wire, &in_words_of(version, &sql))?;
        let mut own = None;
        let (mut standbys, mut slots) = (Vec::new(), Vec::new());
        for row in rows {
            match row.iter().map(Option::as_deref).collect::<Vec<_>>()[..] {
                [Some("self"), Some(file), Some(lsn), names] => {
                    let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    let timeline = timeline.with_context(|| format!("{file:?} is no name of a WAL file"))?;
                    own = Some((timeline, lsn.parse()?, names.unwrap_or_default().to_owned()));
                }
                [Some("standby"), name, streaming, synchronous] => standbys.push(Follower {
                    name: name.unwrap_or_default().to_owned(),
                    streaming: streaming == Some("true"),
                    synchronous: synchronous == Some("true"),
                }),
                _ => slots.extend(Slot::of(&row)),
            }
        }
        let (timeline, lsn, sync_names) = own.context("the server says nothing of its own log")?;
        Ok(Self { timeline, lsn, sync_names, standbys, slots })
    }

    pub(crate) fn streaming(&self) -> Vec<&str> {
        self.standbys.iter().filter(|standby| standby.streaming).map(|standby| standby.name.as_str()).collect()
    }
}

impl Standby {
    fn ask(wire: &mut Wire, version: Version) -> Result<Self> {
        // The views of the receiver and of the control file are there since 9.6.
        let (stream, control) = if version.0 >= 906 {
            (
                "(SELECT received_tli::text || ' ' || coalesce(latest_end_lsn::text, '') FROM pg_stat_wal_receiver \
                  WHERE status = 'streaming' LIMIT 1)",
                "(SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)::text \
                  FROM pg_control_checkpoint() c, pg_control_recovery() r)",
            )
        } else {
            ("NULL", "NULL")
        };
        let slots = slots_of(version, "coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())");
        let sql = format!(
            "SELECT 'self', concat_ws(' ', coalesce(pg_last_wal_receive_lsn()::text, '0/0'), \
                    coalesce(pg_last_wal_replay_lsn()::text, '0/0'), pg_is_wal_replay_paused()::text), {stream}, {control} \
             UNION ALL {slots}"
        );
        let rows = ask(wire, &in_words_of(version, &sql))?;
        let own = rows.iter().find(|row| row.first() == Some(&Some("self".to_owned())));
        let [_, Some(state), stream, control] = own.map(Vec::as_slice).unwrap_or_default() else {
            bail!("the server says nothing of its own log");
        };
        let [received, replayed, paused] = state.split(' ').collect::<Vec<_>>()[..] else {
            bail!("{state:?} is not two LSNs and whether replay is paused");
        };
        let (received, replayed): (Lsn, Lsn) = (received.parse()?, replayed.parse()?);
        let (streams_on, known) = match stream.as_deref().and_then(|text| text.split_once(' ')) {
            Some((timeline, known)) => (Some(timeline.parse().context("received_tli")?), known.parse::<Lsn>().ok()),
            None => (None, None),
        };
        let control = control.as_deref().map_or(Ok(1), str::parse).context("the timeline of the control file")?;
        Ok(Self {
            timeline: streams_on.unwrap_or(0).max(control),
            lsn: received.max(replayed),
            lag: known.map(|known| known.0.saturating_sub(replayed.0)),
            streaming: streams_on.is_some(),
            paused: paused == "true",
            slots: rows.iter().filter_map(|row| Slot::of(row)).collect(),
        })
    }
}

impl Slot {
    fn of(row: &[Option<String>]) -> Option<Self> {
        match row {
            [Some(kind), Some(name), Some(active), kept] if kind == "slot" => Some(Self {
                name: name.clone(),
                active: active == "true",
                kept: kept.as_ref().and_then(|kept| kept.parse::<i64>().ok()).and_then(|kept| kept.try_into().ok()),
            }),
            _ => None,
        }
    }
}

fn slots_of(version: Version, end: &str) -> String {
    let difference = if version.says_wal() { "pg_wal_lsn_diff" } else { "pg_xlog_location_diff" };
    format!(
        "SELECT 'slot', slot_name::text, active::text, {difference}({end}, restart_lsn)::bigint::text \
         FROM pg_replication_slots WHERE slot_type = 'physical' AND slot_name::text LIKE 'ocf\\_%'"
    )
}

/// The functions as versions before 10 call them.
fn in_words_of(version: Version, sql: &str) -> String {
    if version.says_wal() {
        return sql.to_owned();
    }
    let pairs = [
        ("pg_walfile_name", "pg_xlogfile_name"),
        ("pg_current_wal_lsn", "pg_current_xlog_location"),
        ("pg_last_wal_receive_lsn", "pg_last_xlog_receive_location"),
        ("pg_last_wal_replay_lsn", "pg_last_xlog_replay_location"),
        ("pg_is_wal_replay_paused", "pg_is_xlog_replay_paused"),
    ];
    pairs.iter().fold(sql.to_owned(), |sql, (new, old)| sql.replace(new, old))
}

/// The standbys that have written everything up to `lsn` to their disks.
pub(crate) fn have_flushed(wire: &mut Wire, lsn: Lsn) -> Result<Vec<String>> {
    // Before version 10 the column was flush_location; the view has no other that could be meant.
    let sql = format!(
        "SELECT name FROM (SELECT application_name AS name, \
         coalesce(to_json(r)->>'flush_lsn', to_json(r)->>'flush_location')::pg_lsn AS flushed \
         FROM pg_stat_replication r WHERE state = 'streaming') s WHERE flushed >= '{lsn}'"
    );
    Ok(ask(wire, &sql)?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Asks, and turns trouble into a sentence.
pub(crate) fn ask(wire: &mut Wire, sql: &str) -> Result<Rows> {
    wire.ask(sql).map_err(|trouble| match trouble {
        Trouble::Said { sqlstate, words } => {
            anyhow!("the server answers a question with {words:?} ({sqlstate}): {sql:.60}")
        }
        Trouble::Silent => anyhow!("the server does not answer a question in time: {sql:.60}"),
        Trouble::Broken(words) => anyhow!("the connection to the server broke while it was asked: {words}"),
        Trouble::WantsAuthentication(what) => anyhow!("the server asks for {what} in the middle of a session"),
    })
}

/// The first column of the first row.
pub(crate) fn one(wire: &mut Wire, sql: &str) -> Result<String> {
    let rows = ask(wire, sql)?;
    rows.into_iter()
        .next()
        .and_then(|row| row.into_iter().next().flatten())
        .with_context(|| format!("no answer to: {sql}"))
}

/// A text in the quotes of SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_asked_in_their_words() {
        let sql = "SELECT pg_walfile_name(pg_current_wal_lsn()), pg_last_wal_replay_lsn()";
        assert_eq!(in_words_of(Version(1000), sql), sql);
        let old = in_words_of(Version(905), sql);
        assert!(!old.contains("wal_") && !old.contains("walfile"), "{old}");
    }

    #[test]
    fn a_slot_keeps_wal_or_does_not_know() {
        let row = |kept: Option<&str>| {
            ["slot", "ocf_n2", "false"].map(|text| Some(text.to_owned())).into_iter().chain([kept.map(str::to_owned)])
        };
        let slot = |kept| Slot::of(&row(kept).collect::<Vec<_>>()).unwrap();
        assert_eq!(slot(Some("16777216")).kept, Some(16_777_216));
        assert_eq!((slot(None).kept, slot(Some("-5")).kept), (None, None));
        assert_eq!(Slot::of(&[Some("standby".into()), None, None, None]), None);
    }

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quoted("a'b"), "'a''b'");
    }
}
