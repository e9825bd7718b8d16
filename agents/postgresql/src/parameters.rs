//! The one table of what the agent can be told, and the parameters typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ocf::{Content, Parameter, Values};

use crate::hosts::Hosts;
use crate::position::Standing;

pub(crate) const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "pgdata",
        content: Content::Path,
        default: Some("/var/hvmail/postgres/default/data"),
        unique_group: Some("data_directory"),
        short: "Directory with postgresql.conf",
        long: "What the server is started with as -D: the directory that holds postgresql.conf, as a rule the data \
               directory itself.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "datadir",
        content: Content::Path,
        short: "Data directory, where pgdata is not it",
        long: "The data directory, where postgresql.conf lies elsewhere and sets data_directory, as on Debian.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "system_user",
        short: "User that the server runs as",
        long: "The operating system's user that the server runs as. Without it: the owner of the data directory.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "bindir",
        content: Content::Path,
        short: "Directory of postgres and pg_ctl",
        long: "The directory of the server's programs. Without it the major version that PG_VERSION of the data directory \
               names is looked for, in this order: /var/hvmail/postgres/VERSION/bin, /usr/pgsql-VERSION/bin, \
               /usr/lib/postgresql/VERSION/bin, /opt/postgresql/bin and /usr/bin.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "pghost",
        content: Content::Path,
        default: Some("/tmp"),
        short: "Directory of the server's Unix socket",
        long: "The directory of the server's Unix socket. It counts only where the running server's own word \
               (postmaster.pid) is missing.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "pgport",
        content: Content::Integer(1, 65_535),
        default: Some("5432"),
        short: "Port of the servers",
        long: "The port of the servers, the same on all nodes: a standby follows its primary there.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "start_opts",
        short: "More arguments of the server",
        long: "Further arguments of the server, divided by blanks, such as -c config_file=/etc/postgresql/16/main/postgresql.conf. \
               They are not read by a shell: quotes mean nothing.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "control",
        content: Content::Choice(&["pg_ctl", "daemontools"]),
        default: Some("pg_ctl"),
        short: "Who runs the server",
        long: "pg_ctl: the agent starts the server itself and stops it by its signals, as pg_ctl does. daemontools: the \
               server runs under supervise as service, which must have a file down, so that only the cluster starts it; \
               the agent has it run once, so that only the cluster starts it again. Its run script must start the server \
               in the foreground and with the arguments that start_opts tells the agent.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "service",
        content: Content::Path,
        default: Some("/service/hvmail-postgres"),
        short: "Service directory of daemontools",
        long: "With control=daemontools, the directory of the service.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "logfile",
        content: Content::Path,
        default: Some("/var/log/ocf-postgresql.log"),
        short: "Where the server writes before and without its logging collector",
        long: "The file that the server's standard error is appended to: what it says before its own logging begins, and \
               everything where logging_collector is off. At a start, a file larger than 16 MiB is renamed to .old first. With \
               control=daemontools it is only read, for the reason of a failed start: give it multilog's current file.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "primary_hosts",
        content: Content::Checked(is_hosts),
        short: "Where a standby finds the primary",
        long: "NODE:ADDRESS for each node, divided by blanks, such as n1:192.0.2.1 n2:192.0.2.2; or one address that moves with \
               the primary. A standby asks the others in turn and follows the one that accepts writes. With the nodes' names \
               sync=prefer waits for those nodes and for no other program that streams, and a node that lacks commits is known.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "replication_user",
        default: Some("postgres"),
        short: "Role that the standbys connect as",
        long: "The role that standbys connect as, with the attribute REPLICATION; rejoin=rewind needs a superuser. Its \
               password, if pg_hba.conf of the primary asks for one, is found in .pgpass in the home of system_user.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "monitor_user",
        short: "Role that the agent connects as",
        long: "The role that the agent connects as, over the Unix socket and as the operating system's user system_user: a \
               superuser that pg_hba.conf lets in by peer or trust. Without it, the role called like system_user.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "monitor_db",
        default: Some("postgres"),
        reloadable: true,
        short: "Database that the agent connects to",
        long: "The database that the agent connects to.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "add_include",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Add the include line to postgresql.conf",
        long: "The agent writes its settings into a file of its own, ocf-postgresql.conf in the data directory, which \
               postgresql.conf must include. true adds that line where it is missing; false says what to add.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "stop_mode_timeouts",
        content: Content::Checked(are_shares),
        default: Some("60 20"),
        reloadable: true,
        short: "How long fast and immediate shutdown may take",
        long: "How much of the time of a stop a fast shutdown may take before an immediate one is tried, and how much that \
               one may take before the processes are killed, both in percent.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "maxlag",
        content: Content::Integer(0, i64::MAX),
        default: Some("0"),
        reloadable: true,
        short: "Bytes that a standby may be behind",
        long: "How many bytes a standby's replay may be behind its primary before it is degraded and the last to be promoted. \
               0: any number.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "sync",
        content: Content::Choice(&["off", "prefer", "require"]),
        default: Some("off"),
        reloadable: true,
        short: "Synchronous replication",
        long: "off leaves synchronous_standby_names as postgresql.conf has it. prefer makes commits wait for a standby while \
               one streams, and not when none does. require lets no commit be acknowledged that is not on a standby too, \
               whatever is down: it needs primary_hosts with the nodes' names.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "use_slots",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Keep WAL for the standbys in replication slots",
        long: "Whether each standby has a physical replication slot on the primary, ocf_NODE, so that the WAL it lacks is kept. \
               The agent makes and drops these slots; it touches no others. Needs primary_hosts with the nodes' names.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "max_slot_wal",
        content: Content::Integer(0, i64::MAX),
        default: Some("17179869184"),
        reloadable: true,
        short: "Bytes of WAL that a slot may keep",
        long: "How many bytes of WAL a slot of a standby that is not connected may keep before the primary drops it. 0: any \
               number, until the disk is full.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "rejoin",
        content: Content::Choice(&["manual", "rewind", "basebackup"]),
        default: Some("manual"),
        reloadable: true,
        short: "What to do with an old primary that has gone its own way",
        long: "What a start does when this node has written what the new primary does not have: manual refuses and says \
               which command mends it; rewind keeps the WAL that only this node has aside, in DATADIR.diverged, and runs \
               pg_rewind; basebackup keeps that WAL too, takes a new base backup, and keeps the old data directory as DATADIR.old \
               until the server streams with the new one; then it is removed. start needs a \
               timeout for either: an interrupted pg_rewind leaves a directory that is good for nothing.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "disk_min_free",
        content: Content::Integer(0, 99),
        default: Some("5"),
        reloadable: true,
        short: "Percent of the disk that must be free",
        long: "How many percent of the file systems of the data directory and of pg_wal must be free; below that the instance \
               is degraded, and a standby the last to be promoted. 0: do not look.",
        ..Parameter::TEXT
    },
];

/// Whether acknowledged means on two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    Off,
    Prefer,
    Require,
}

/// What a start does with a node that has parted from the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejoin {
    Manual,
    Rewind,
    BaseBackup,
}

impl Rejoin {
    /// Whether a start mends this.
    pub(crate) fn mends(self, standing: Standing) -> bool {
        match standing {
            Standing::Diverged(_) => self != Self::Manual,
            Standing::Unrelated => self == Self::BaseBackup,
            Standing::Equal | Standing::Ahead | Standing::Behind | Standing::OtherDiverged => false,
        }
    }
}

/// The parameters, typed.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) pgdata: PathBuf,
    pub(crate) datadir: PathBuf,
    pub(crate) system_user: Option<String>,
    pub(crate) bindir: Option<PathBuf>,
    pub(crate) socket_directory: PathBuf,
    pub(crate) port: u16,
    pub(crate) start_options: Vec<String>,
    /// The server runs under supervise, in this directory.
    pub(crate) service: Option<PathBuf>,
    pub(crate) logfile: PathBuf,
    pub(crate) hosts: Hosts,
    pub(crate) replication_user: String,
    pub(crate) monitor_user: Option<String>,
    pub(crate) database: String,
    pub(crate) add_include: bool,
    /// Percent of a stop's time for the fast and for the immediate shutdown.
    pub(crate) stop_shares: (u32, u32),
    /// None: a standby may be behind by any number of bytes.
    pub(crate) max_lag: Option<u64>,
    pub(crate) sync: Sync,
    pub(crate) use_slots: bool,
    /// None: a slot may keep any number of bytes.
    pub(crate) max_slot_wal: Option<u64>,
    pub(crate) rejoin: Rejoin,
    /// None: nobody looks at the disk.
    pub(crate) disk_min_free: Option<u64>,
    /// What is wrong with the parameters; the wrong ones are the defaults then.
    pub(crate) wrong: Option<String>,
    /// Where the server is may be one of the wrong ones: then nothing can be said of it.
    pub(crate) place_is_wrong: bool,
}

impl Settings {
    pub(crate) fn read(values: &Values) -> Self {
        let text = |name| values.text(name).unwrap_or_default().to_owned();
        let path = |name| PathBuf::from(text(name));
        let limit = |name| u64::try_from(values.integer(name)).ok().filter(|limit| *limit > 0);
        let pgdata = path("pgdata");
        Self {
            datadir: values.text("datadir").map_or_else(|| pgdata.clone(), PathBuf::from),
            pgdata,
            system_user: values.text("system_user").map(str::to_owned),
            bindir: values.text("bindir").map(PathBuf::from),
            socket_directory: path("pghost"),
            port: u16::try_from(values.integer("pgport")).unwrap_or_default(),
            start_options: text("start_opts").split_whitespace().map(str::to_owned).collect(),
            service: (values.text("control") == Some("daemontools")).then(|| path("service")),
            logfile: path("logfile"),
            hosts: Hosts::parse(values.text("primary_hosts").unwrap_or_default()).unwrap_or_default(),
            replication_user: text("replication_user"),
            monitor_user: values.text("monitor_user").map(str::to_owned),
            database: text("monitor_db"),
            add_include: values.boolean("add_include"),
            stop_shares: shares(&text("stop_mode_timeouts")).unwrap_or((60, 20)),
            max_lag: limit("maxlag"),
            sync: match values.text("sync") {
                Some("prefer") => Sync::Prefer,
                Some("require") => Sync::Require,
                _ => Sync::Off,
            },
            use_slots: values.boolean("use_slots"),
            max_slot_wal: limit("max_slot_wal"),
            rejoin: match values.text("rejoin") {
                Some("rewind") => Rejoin::Rewind,
                Some("basebackup") => Rejoin::BaseBackup,
                _ => Rejoin::Manual,
            },
            disk_min_free: limit("disk_min_free"),
            wrong: values.wrong(),
            place_is_wrong: values.is_wrong("pgdata") || values.is_wrong("datadir"),
        }
    }

    /// The share of `whole` that a fast shutdown may take, and the one of an immediate shutdown after it.
    pub(crate) fn stop_times(&self, whole: Duration) -> (Duration, Duration) {
        (whole * self.stop_shares.0 / 100, whole * self.stop_shares.1 / 100)
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        let mut options = self.start_options.iter().filter_map(|word| {
            let word = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).unwrap_or(word);
            word.strip_prefix("config_file=").or_else(|| word.strip_prefix("config-file="))
        });
        options.next_back().map_or_else(|| self.pgdata.join("postgresql.conf"), |path| Path::new(path).to_owned())
    }
}

fn is_hosts(text: &str) -> Result<(), String> {
    Hosts::parse(text).map(drop)
}

fn are_shares(text: &str) -> Result<(), String> {
    let sound = shares(text).filter(|(fast, immediate)| *fast > 0 && *immediate > 0 && fast + immediate <= 95);
    sound.map(drop).ok_or_else(|| {
        "two percentages are expected, of the fast and the immediate shutdown, 95 at most together: 60 20".to_owned()
    })
}

fn shares(text: &str) -> Option<(u32, u32)> {
    match text.split_whitespace().map(|word| word.parse().ok()).collect::<Vec<Option<u32>>>()[..] {
        [Some(fast), Some(immediate)] => Some((fast, immediate)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, String> {
        let given: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Values::check(PARAMETERS, &given).map(|values| Settings::read(&values)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_defaults_are_right() {
        let defaults = settings(&[]).unwrap();
        assert_eq!(defaults.datadir, defaults.pgdata);
        assert_eq!((defaults.max_lag, defaults.disk_min_free), (None, Some(5)));
        assert_eq!(defaults.config_file(), Path::new("/var/hvmail/postgres/default/data/postgresql.conf"));
        let times = defaults.stop_times(Duration::from_secs(100));
        assert_eq!(times, (Duration::from_secs(60), Duration::from_secs(20)));
    }

    #[test]
    fn the_configuration_file_may_be_elsewhere() {
        for options in ["-c config_file=/etc/pg.conf", "--config-file=/etc/pg.conf", "-cconfig_file=/etc/pg.conf"] {
            let settings = settings(&[("start_opts", options), ("pgdata", "/x")]).unwrap();
            assert_eq!(settings.config_file(), Path::new("/etc/pg.conf"), "{options}");
        }
    }

    #[test]
    fn wrong_values_say_what_is_expected() {
        for (name, value, part) in [
            ("stop_mode_timeouts", "60", "two percentages"),
            ("stop_mode_timeouts", "90 20", "95 at most"),
            ("primary_hosts", "n1:192.0.2.1 192.0.2.2", "n1:192.0.2.1 n2:192.0.2.2"),
            ("sync", "on", "off, prefer, require"),
        ] {
            let error = settings(&[(name, value)]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
