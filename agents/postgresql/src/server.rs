//! What the server says of itself.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use crate::installation::Version;
use crate::mark;
use crate::position::{History, Lsn, Position};
use crate::session::{Rows, Session, Trouble};
use crate::wal;

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

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standby {
    /// The newest that the server itself knows of.
    pub(crate) timeline: u32,
    /// The end of the log that it has received or found on its own disk.
    pub(crate) lsn: Lsn,
    /// That of the log that it has replayed, by its control file, which may not know of the newest.
    pub(crate) own_timeline: u32,
    /// The end of what it has replayed.
    pub(crate) replayed: Lsn,
    /// Bytes between the primary's log, as far as it knows it, and what it has replayed. None: it knows nothing of one.
    pub(crate) lag: Option<u64>,
    pub(crate) streaming: bool,
    /// What its receiver streams, while it does.
    pub(crate) source: Option<Source>,
    pub(crate) paused: bool,
    /// Slots of its own time as a primary, which would keep WAL for ever.
    pub(crate) slots: Vec<Slot>,
}

/// Whence a standby streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) timeline: u32,
    /// As primary_conninfo has it, from version 11 on.
    pub(crate) host: Option<String>,
    pub(crate) slot: Option<String>,
}

/// The prefix of the slots that the agent makes, and drops.
pub(crate) const SLOT_PREFIX: &str = "ocf_";

impl Said {
    /// Asks for everything a monitor wants to know, in two questions.
    pub(crate) fn ask(session: &mut Session, version: Version) -> Result<Self> {
        let recovering = one(session, "SELECT pg_is_in_recovery()")?;
        match recovering.as_str() {
            "t" => Standby::ask(session, version).map(Self::Standby),
            "f" => Primary::ask(session, version).map(Self::Primary),
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
        Ok(Position { timeline, lsn, history: History::read(data, timeline)?, mark: mark::of(data, timeline) })
    }
}

impl Primary {
    fn ask(session: &mut Session, version: Version) -> Result<Self> {
        let rows = ask(session, &question_to_primary(version))?;
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
    fn ask(session: &mut Session, version: Version) -> Result<Self> {
        let rows = ask(session, &question_to_standby(version))?;
        let own = rows.iter().find(|row| row.first() == Some(&Some("self".to_owned())));
        let [_, Some(state), stream, control] = own.map(Vec::as_slice).unwrap_or_default() else {
            bail!("the server says nothing of its own log");
        };
        let [received, replayed, paused] = state.split(' ').collect::<Vec<_>>()[..] else {
            bail!("{state:?} is not two LSNs and whether replay is paused");
        };
        let (received, replayed): (Lsn, Lsn) = (received.parse()?, replayed.parse()?);
        let (source, known) = stream.as_deref().map(Source::of).transpose()?.unzip();
        let control = control.as_deref().map_or(Ok(1), str::parse).context("the timeline of the control file")?;
        Ok(Self {
            timeline: source.as_ref().map_or(0, |source| source.timeline).max(control),
            own_timeline: control,
            lsn: received.max(replayed),
            replayed,
            lag: known.flatten().map(|known| known.0.saturating_sub(replayed.0)),
            streaming: source.is_some(),
            source,
            paused: paused == "true",
            slots: rows.iter().filter_map(|row| Slot::of(row)).collect(),
        })
    }
}

impl Source {
    /// Timeline, end of the primary's log, slot and host, divided by blanks; the last three may be empty.
    fn of(text: &str) -> Result<(Self, Option<Lsn>)> {
        let mut words = text.splitn(4, ' ');
        let timeline = words.next().unwrap_or_default().parse().context("received_tli")?;
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (known, slot, host) = (word(), word(), word());
        let source = Self { timeline, host: host.map(str::to_owned), slot: slot.map(str::to_owned) };
        Ok((source, known.and_then(|known| known.parse().ok())))
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

fn question_to_primary(version: Version) -> String {
    let slots = slots_of(version, "pg_current_wal_lsn()");
    let sql = format!(
        "SELECT 'self', pg_walfile_name(pg_current_wal_lsn()), pg_current_wal_lsn()::text, \
                current_setting('synchronous_standby_names') \
         UNION ALL SELECT 'standby', application_name, (state = 'streaming')::text, \
                (sync_state IN ('sync', 'quorum'))::text FROM pg_stat_replication \
         UNION ALL {slots}"
    );
    in_words_of(version, &sql)
}

fn question_to_standby(version: Version) -> String {
    let host = if version.0 >= 1100 { "coalesce(sender_host, '')" } else { "''" };
    let stream = format!(
        "(SELECT received_tli::text || ' ' || coalesce(latest_end_lsn::text, '') || ' ' || coalesce(slot_name, '') \
          || ' ' || {host} FROM pg_stat_wal_receiver WHERE status = 'streaming' LIMIT 1)"
    );
    let control = "(SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)::text \
                    FROM pg_control_checkpoint() c, pg_control_recovery() r)";
    // The views of the receiver and of the control file are there since 9.6.
    let (stream, control) = if version.0 >= 906 { (stream.as_str(), control) } else { ("NULL", "NULL") };
    let slots = slots_of(version, "coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())");
    let sql = format!(
        "SELECT 'self', concat_ws(' ', coalesce(pg_last_wal_receive_lsn()::text, '0/0'), \
                coalesce(pg_last_wal_replay_lsn()::text, '0/0'), pg_is_wal_replay_paused()::text), {stream}, {control} \
         UNION ALL {slots}"
    );
    in_words_of(version, &sql)
}

/// A record in the log that means nothing to anybody, and its flush with the commit: no table is needed for it. 9.5 has no
/// messages; there a transaction with a number of its own and a restore point ends with one (RecordTransactionCommit,
/// xact.c).
pub(crate) fn writing(version: Version) -> &'static str {
    if version.0 >= 906 {
        "SELECT pg_logical_emit_message(true, 'ocf', '')"
    } else {
        "SELECT txid_current(), pg_create_restore_point('ocf')"
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
pub(crate) fn have_flushed(session: &mut Session, lsn: Lsn) -> Result<Vec<String>> {
    // Before version 10 the column was flush_location; the view has no other that could be meant.
    let sql = format!(
        "SELECT name FROM (SELECT application_name AS name, \
         coalesce(to_json(r)->>'flush_lsn', to_json(r)->>'flush_location')::pg_lsn AS flushed \
         FROM pg_stat_replication r WHERE state = 'streaming') s WHERE flushed >= '{lsn}'"
    );
    Ok(ask(session, &sql)?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Whether commits wait for the standbys that this session is told of. The checkpointer is who has them wait, when it has
/// read the configuration (SyncRepUpdateSyncStandbysDefined, syncrep.c), and amid a checkpoint in haste it reads none, such
/// as that of a promotion (CheckpointWriteDelay, checkpointer.c). Where it waits for work or between two writes it has. That
/// is shown from version 10 on, the second from 14 on; before 10 a checkpoint has it read.
pub(crate) fn commits_wait(session: &mut Session, version: Version) -> Result<bool> {
    if !version.says_wal() {
        return ask(session, "CHECKPOINT").map(|_| true);
    }
    let sql = "SELECT coalesce(bool_or(wait_event IN ('CheckpointerMain', 'CheckpointWriteDelay')), false)::text \
               FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
    Ok(one(session, sql)? == "true")
}

/// Asks, and turns trouble into a sentence.
pub(crate) fn ask(session: &mut Session, sql: &str) -> Result<Rows> {
    session.ask(sql).map_err(|trouble| match trouble {
        Trouble::Said { sqlstate, words } => {
            anyhow!("the server answers a question with {words:?} ({sqlstate}): {sql:.60}")
        }
        Trouble::Silent => anyhow!("the server does not answer a question in time: {sql:.60}"),
        Trouble::Broken(words) | Trouble::Unreachable(words) | Trouble::WantsAuthentication(words) => {
            anyhow!("the connection to the server broke while it was asked: {words}")
        }
        Trouble::Queued => anyhow!("the connection to the server broke while it was asked"),
    })
}

/// The first column of the first row.
pub(crate) fn one(session: &mut Session, sql: &str) -> Result<String> {
    let rows = ask(session, sql)?;
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

    /// Every function and view in it, for a table of what is sent.
    fn names_in(sql: &str) -> Vec<String> {
        let words = sql.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let mut names: Vec<String> = words.filter(|word| word.starts_with("pg_")).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    #[test]
    fn each_version_is_asked_for_what_it_has() {
        let primary = |version| names_in(&question_to_primary(Version(version)));
        let standby = |version| names_in(&question_to_standby(Version(version)));
        let old = ["pg_current_xlog_location", "pg_replication_slots", "pg_stat_replication"];
        assert_eq!(primary(905), [&old[..], &["pg_xlog_location_diff", "pg_xlogfile_name"]].concat());
        assert_eq!(primary(906), primary(905));
        let new = ["pg_current_wal_lsn", "pg_replication_slots", "pg_stat_replication"];
        for version in [1000, 1100, 1200, 1300, 1600, 1800] {
            assert_eq!(primary(version), [&new[..], &["pg_wal_lsn_diff", "pg_walfile_name"]].concat());
        }
        let functions = ["pg_is_xlog_replay_paused", "pg_last_xlog_receive_location", "pg_last_xlog_replay_location"];
        let rest = ["pg_replication_slots", "pg_xlog_location_diff"];
        assert_eq!(standby(905), [&functions[..], &rest].concat());
        let control = ["pg_control_checkpoint", "pg_control_recovery"];
        let rest = ["pg_replication_slots", "pg_stat_wal_receiver", "pg_xlog_location_diff"];
        assert_eq!(standby(906), [&control[..], &functions, &rest].concat());
        let functions = ["pg_is_wal_replay_paused", "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn"];
        let rest = ["pg_replication_slots", "pg_stat_wal_receiver", "pg_wal_lsn_diff"];
        for version in [1000, 1100, 1200, 1300, 1600, 1800] {
            assert_eq!(standby(version), [&control[..], &functions, &rest].concat());
            assert_eq!(question_to_standby(Version(version)).contains("sender_host"), version >= 1100, "{version}");
        }
        assert_eq!(names_in(writing(Version(905))), ["pg_create_restore_point"]);
        assert_eq!(names_in(writing(Version(906))), ["pg_logical_emit_message"]);
    }

    #[test]
    fn whence_a_standby_streams() {
        let source = |timeline, host: &str, slot: &str| {
            let word = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Source { timeline, host: word(host), slot: word(slot) }
        };
        let all = Source::of("3 0/3000060 ocf_n2 192.0.2.1").unwrap();
        assert_eq!(all, (source(3, "192.0.2.1", "ocf_n2"), Some(Lsn(0x0300_0060))));
        assert_eq!(Source::of("3   ").unwrap(), (source(3, "", ""), None));
        assert_eq!(Source::of("1 0/1  db.example").unwrap(), (source(1, "db.example", ""), Some(Lsn(1))));
        assert!(Source::of("").is_err());
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
