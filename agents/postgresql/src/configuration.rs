//! The agent's own configuration file, which postgresql.conf includes, and the file that makes a server a standby.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ocf::{Deadline, Failure, Kind, Log};

use crate::installation::{Installation, Version};
use crate::parameters::{Settings, Sync};

/// The agent's file in the data directory.
pub(crate) const OWN_FILE: &str = "ocf-postgresql.conf";
const HEADING: &str = "# Written by ocf:greenarrow:postgresql; what is changed here is lost.\n";
const STANDBY_SIGNAL: &str = "standby.signal";
const RECOVERY_CONF: &str = "recovery.conf";

/// What makes this node's server the one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    /// How a standby reaches its primary; None: it follows nobody.
    pub(crate) conninfo: Option<String>,
    pub(crate) slot: Option<String>,
    /// synchronous_standby_names; None: postgresql.conf has it.
    pub(crate) sync_names: Option<String>,
}

impl Own {
    /// The configuration of the node called `node`, with these names as synchronous standbys where the agent manages them.
    pub(crate) fn of(settings: &Settings, version: Version, node: &str, sync_names: &str) -> Self {
        Self {
            conninfo: conninfo(settings, version, node),
            slot: settings.use_slots.then(|| slot_name(node)),
            sync_names: (settings.sync != Sync::Off).then(|| sync_names.to_owned()),
        }
    }

    fn settings_of_standby(&self) -> Vec<(&'static str, &str)> {
        let pairs = [("primary_conninfo", self.conninfo.as_deref()), ("primary_slot_name", self.slot.as_deref())];
        let set = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
        set.chain([("recovery_target_timeline", "latest")]).collect()
    }

    fn file(&self, version: Version) -> String {
        let mut text = HEADING.to_owned();
        // A standby that lost its primary looks for the new one twice a second, not every five seconds; a connection
        // whose other end lost its power is given up after ten, not after sixty (documentation, "Replication").
        let always = [
            ("hot_standby", "on"),
            ("wal_retrieve_retry_interval", "500ms"),
            ("wal_receiver_timeout", "10s"),
            ("wal_sender_timeout", "10s"),
        ];
        let mut pairs: Vec<(&str, &str)> = always.into();
        if version.has_signal_file() {
            pairs.extend(self.settings_of_standby());
        }
        pairs.extend(self.sync_names.as_deref().map(|names| ("synchronous_standby_names", names)));
        text.extend(pairs.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))));
        text
    }

    fn recovery_conf(&self) -> String {
        let pairs = self.settings_of_standby();
        let lines = pairs.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value)));
        format!("{HEADING}standby_mode = 'on'\n{}", lines.collect::<String>())
    }

    /// Writes the included file, and says whether it is another one than before.
    pub(crate) fn write(&self, installed: &Installation) -> Result<bool> {
        let path = installed.data.join(OWN_FILE);
        let text = self.file(installed.version);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        place(installed, &path, text.as_bytes()).map(|()| true)
    }

    /// Whether commits waited for a standby with the file that the server has, or had last.
    pub(crate) fn has_sync_names(data: &Path) -> bool {
        let text = fs::read_to_string(data.join(OWN_FILE)).unwrap_or_default();
        let names = text.lines().find_map(|line| line.strip_prefix("synchronous_standby_names = "));
        names.is_some_and(|names| names != "''")
    }

    /// Makes the server start as a standby.
    pub(crate) fn write_signal(&self, installed: &Installation) -> Result<()> {
        if installed.version.has_signal_file() {
            place(installed, &installed.data.join(STANDBY_SIGNAL), b"")
        } else {
            place(installed, &installed.data.join(RECOVERY_CONF), self.recovery_conf().as_bytes())
        }
    }
}

/// How standby `node` connects. The hosts are asked in turn for one that accepts writes, so that it finds the primary
/// whoever that is, and needs no restart to follow another (libpq since 10: "Specifying Multiple Hosts").
fn conninfo(settings: &Settings, version: Version, node: &str) -> Option<String> {
    let hosts = settings.hosts.others(node).join(",");
    if hosts.is_empty() {
        return None;
    }
    let mut pairs = vec![
        ("host", hosts),
        ("port", settings.port.to_string()),
        ("user", settings.replication_user.clone()),
        ("application_name", node.to_owned()),
        // The least that libpq takes.
        ("connect_timeout", "2".to_owned()),
    ];
    if version.says_wal() {
        pairs.push(("target_session_attrs", "read-write".to_owned()));
    }
    Some(pairs.iter().map(|(name, value)| format!("{name}={}", conninfo_value(value))).collect::<Vec<_>>().join(" "))
}

/// A connection to the primary for the server's programs, by the same hosts.
pub(crate) fn source(settings: &Settings, version: Version, node: &str) -> Option<String> {
    conninfo(settings, version, node)
        .map(|conninfo| format!("{conninfo} dbname={}", conninfo_value(&settings.database)))
}

/// Documentation, "Keyword/Value Connection Strings": in quotes, with a backslash before quote and backslash.
fn conninfo_value(value: &str) -> String {
    if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "._-,:%/".contains(c)) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A value of postgresql.conf (guc-file.l): in quotes, which are doubled, and with doubled backslashes.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The slot of a node. Names of slots have small letters, digits and underscores (ReplicationSlotValidateName, slot.c).
pub(crate) fn slot_name(node: &str) -> String {
    let sound = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '_' };
    format!("{}{}", crate::server::SLOT_PREFIX, node.to_ascii_lowercase().chars().map(sound).collect::<String>())
}

/// Nodes as synchronous_standby_names has them: in the quotes of identifiers.
pub(crate) fn sync_names(nodes: &[&str]) -> String {
    nodes.iter().map(|node| format!("\"{}\"", node.replace('"', "\"\""))).collect::<Vec<_>>().join(",")
}

/// Puts a file of the server's user in place, wholly or not at all. Its directory is another user's: no link of his is
/// followed.
pub(crate) fn place(installed: &Installation, path: &Path, content: &[u8]) -> Result<()> {
    let new = PathBuf::from(format!("{}.ocf-new", path.display()));
    let write = || -> Result<()> {
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        fchown(&file, Some(installed.user.uid.as_raw()), Some(installed.user.gid.as_raw()))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(File::open(path.parent().context("a file in no directory")?)?.sync_all()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Whether the directory has what makes a server a standby.
pub(crate) fn has_signal(data: &Path, version: Version) -> bool {
    data.join(if version.has_signal_file() { STANDBY_SIGNAL } else { RECOVERY_CONF }).exists()
}

/// Files with which the server would not start, or not as a standby of this cluster.
pub(crate) fn check_foreign_files(installed: &Installation) -> Result<(), Failure> {
    let (data, version) = (installed.data.display(), installed.version);
    let refused = |file: &str, why: &str| {
        Err(Failure::new(
            Kind::Arguments,
            format!("{data}/{file} is there: {why}. Move it away, then: crm_resource --cleanup"),
        ))
    };
    let there = |file: &str| installed.data.join(file).exists();
    if version.has_signal_file() && there(RECOVERY_CONF) {
        return refused(
            RECOVERY_CONF,
            &format!("PostgreSQL {version} does not start with it, its settings belong into postgresql.conf"),
        );
    }
    if !version.has_signal_file() && there(STANDBY_SIGNAL) {
        return refused(
            STANDBY_SIGNAL,
            &format!("PostgreSQL {version} does not know it; its standbys have a {RECOVERY_CONF}"),
        );
    }
    if there("recovery.signal") {
        return refused("recovery.signal", "the server would recover to a target and not follow a primary");
    }
    if let Ok(text) = fs::read_to_string(installed.data.join(RECOVERY_CONF))
        && !text.starts_with(HEADING)
        && text.lines().any(|line| line.trim_start().starts_with("restore_command"))
    {
        return refused(
            RECOVERY_CONF,
            "it has a restore_command, which would be lost; a standby that the agent starts has none",
        );
    }
    Ok(())
}

/// Proves that the server would take up the agent's file and nothing overrides it, by asking the server's own program.
pub(crate) fn check_included(
    settings: &Settings,
    installed: &Installation,
    own: &Own,
    deadline: Deadline,
    log: &Log,
) -> Result<(), Failure> {
    let wanted = match own.conninfo.as_deref() {
        Some(conninfo) if installed.version.has_signal_file() => ("primary_conninfo", conninfo),
        _ => ("wal_retrieve_retry_interval", "500"),
    };
    let (name, value) = wanted;
    let mut found = installed.setting(settings, name, deadline).map_err(|error| unreadable(&error))?;
    // Versions differ in whether they print the unit.
    let same = |found: &str| found == value || found.trim_end_matches("ms") == value;
    if !same(&found) && settings.add_include && !includes(settings, installed) {
        add_include(settings, installed)?;
        log.info(&format!("{} now includes {OWN_FILE}", settings.config_file().display()));
        found = installed.setting(settings, name, deadline).map_err(|error| unreadable(&error))?;
    }
    if same(&found) {
        return Ok(());
    }
    let (config, line) = (settings.config_file(), include_line(installed));
    let reason = if includes(settings, installed) {
        format!(
            "{name} is {found:?} and not {value:?}: something overrides {OWN_FILE}. Take {name} out of {}/postgresql.auto.conf \
             (ALTER SYSTEM RESET {name}, or delete its line while the server is stopped), and move the line \"{line}\" to the end of {}",
            installed.data.display(),
            config.display()
        )
    } else {
        format!(
            "{} does not include the agent's settings: add the line \"{line}\" at its end, or set add_include=true",
            config.display()
        )
    };
    Err(Failure::new(Kind::Arguments, format!("{reason}. Then: crm_resource --cleanup")))
}

/// A configuration that the server's own program refuses: its words name file and line.
fn unreadable(error: &anyhow::Error) -> Failure {
    Failure::new(Kind::Arguments, format!("the server's configuration cannot be read: {error:#}"))
}

fn include_line(installed: &Installation) -> String {
    format!("include_if_exists '{}'", installed.data.join(OWN_FILE).display())
}

fn includes(settings: &Settings, installed: &Installation) -> bool {
    let text = fs::read_to_string(settings.config_file()).unwrap_or_default();
    let line = include_line(installed);
    text.lines().any(|one| one.trim() == line || (one.trim_start().starts_with("include") && one.contains(OWN_FILE)))
}

fn add_include(settings: &Settings, installed: &Installation) -> Result<(), Failure> {
    let path = settings.config_file();
    let add = || -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&path)?;
        Ok(write!(
            file,
            "\n# Settings of the cluster's resource agent, ocf:greenarrow:postgresql\n{}\n",
            include_line(installed)
        )?)
    };
    Ok(add().with_context(|| format!("cannot add the include line to {}", path.display()))?)
}

/// The setting that PostgreSQL's server port must agree with: the standbys connect to pgport.
pub(crate) fn check_port(settings: &Settings, installed: &Installation, deadline: Deadline) -> Result<(), Failure> {
    let found = installed.setting(settings, "port", deadline).map_err(|error| unreadable(&error))?;
    if found == settings.port.to_string() {
        return Ok(());
    }
    let reason = format!(
        "the server's configuration sets port {found}, and pgport is {}: they must agree, for the standbys connect to pgport",
        settings.port
    );
    Err(Failure::new(Kind::Arguments, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::PARAMETERS;
    use ocf::Values;

    fn settings(hosts: &str, more: &[(&str, &str)]) -> Settings {
        let pairs = [("primary_hosts", hosts)].into_iter().chain(more.iter().copied());
        Settings::read(
            &Values::check(PARAMETERS, &pairs.map(|(name, value)| (name.into(), value.into())).collect()).unwrap(),
        )
    }

    #[test]
    fn a_standby_looks_for_the_one_that_accepts_writes() {
        let of = |hosts, version| conninfo(&settings(hosts, &[]), Version(version), "n1");
        let three = "n1:192.0.2.1 n2:192.0.2.2 n3:192.0.2.3";
        let expected = "host=192.0.2.2,192.0.2.3 port=5432 user=postgres application_name=n1 connect_timeout=2 \
                        target_session_attrs=read-write";
        assert_eq!(of(three, 1600).unwrap(), expected);
        assert_eq!(
            of("n1:192.0.2.1 n2:192.0.2.2", 905).unwrap(),
            "host=192.0.2.2 port=5432 user=postgres application_name=n1 connect_timeout=2"
        );
        assert_eq!(of("", 1600), None);
    }

    #[test]
    fn the_file_of_each_version() {
        let settings = settings("n1:192.0.2.1 n2:192.0.2.2", &[("use_slots", "yes"), ("sync", "prefer")]);
        let new = Own::of(&settings, Version(1600), "N1.x", "").file(Version(1600));
        assert!(new.contains("primary_conninfo = 'host=") && new.contains("primary_slot_name = 'ocf_n1_x'"), "{new}");
        assert!(new.contains("synchronous_standby_names = ''\n"), "{new}");
        let own = Own::of(&settings, Version(1100), "n1", "\"n2\"");
        let old = own.file(Version(1100));
        assert!(!old.contains("conninfo") && old.contains("synchronous_standby_names = '\"n2\"'"), "{old}");
        let recovery = own.recovery_conf();
        assert!(recovery.contains("standby_mode = 'on'\nprimary_conninfo = 'host=192.0.2.2"), "{recovery}");
        assert!(recovery.contains("recovery_target_timeline = 'latest'"), "{recovery}");
    }

    #[test]
    fn names_are_quoted_where_they_end_up() {
        assert_eq!(conninfo_value("a b'c\\"), "'a b\\'c\\\\'");
        assert_eq!(quoted("user='a'"), "'user=''a'''");
        assert_eq!(sync_names(&["n1", "a\"b"]), "\"n1\",\"a\"\"b\"");
        let without = settings("", &[("sync", "off")]);
        assert_eq!(Own::of(&without, Version(1600), "n1", "x").sync_names, None);
    }
}
