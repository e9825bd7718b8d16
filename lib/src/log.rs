//! Where an agent's sentences go: what Pacemaker's users expect of `ocf_log`.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use nix::fcntl::OFlag;

use crate::environment::Environment;
use crate::parameter::parse_boolean;

const SYSLOG_SOCKET: &str = "/dev/log";
/// Pacemaker's own default facility.
const DAEMON: u8 = 3;

/// How grave a sentence is; the numbers are syslog's severities (RFC 5424, 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

impl Level {
    /// The words of `ocf_log`.
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }
}

/// The log of one action.
#[derive(Debug)]
pub struct Log {
    tag: String,
    facility: Option<u8>,
    file: Option<PathBuf>,
    debug_file: Option<PathBuf>,
    debug: bool,
    by_hand: bool,
    trace: Option<Mutex<File>>,
}

impl Log {
    /// The log that the environment asks for: HA_LOGFACILITY for syslog, HA_LOGFILE and HA_DEBUGLOG for files, `none` for
    /// nothing of the kind, and stderr for an action that Pacemaker did not start.
    pub(crate) fn from_environment(environment: &Environment, agent: &str, action: &str) -> Self {
        let path = |name| environment.variable(name).filter(|path| *path != "none" && *path != "/dev/null");
        let file: Option<PathBuf> = path("HA_LOGFILE").map(Into::into);
        let debug_file = path("HA_DEBUGLOG").map(PathBuf::from).filter(|path| Some(path) != file.as_ref());
        let facility = environment.variable("HA_LOGFACILITY").filter(|name| *name != "none");
        Self {
            tag: format!("{agent}({})[{}]", environment.instance(), std::process::id()),
            facility: facility.map(facility_number),
            file,
            debug_file,
            debug: environment.variable("HA_debug").is_some_and(|level| level != "0"),
            by_hand: !environment.by_pacemaker(),
            trace: trace_file(environment, agent, action).map(Mutex::new),
        }
    }

    /// The log of a program that is no agent, such as a handler that the kernel starts: syslog, and stderr on a terminal.
    pub fn of_program(name: &str) -> Self {
        Self {
            tag: format!("{name}[{}]", std::process::id()),
            facility: Some(DAEMON),
            file: None,
            debug_file: None,
            debug: false,
            by_hand: std::io::stderr().is_terminal(),
            trace: None,
        }
    }

    /// Something an administrator must act upon.
    pub fn error(&self, sentence: &str) {
        self.write(Level::Error, sentence);
    }

    /// Something that is wrong and has been dealt with, or can wait.
    pub fn warning(&self, sentence: &str) {
        self.write(Level::Warning, sentence);
    }

    /// Something that was done.
    pub fn info(&self, sentence: &str) {
        self.write(Level::Info, sentence);
    }

    /// Something only a developer wants to know.
    pub fn debug(&self, sentence: &str) {
        self.write(Level::Debug, sentence);
    }

    /// A step of the action, for trace_ra alone.
    pub fn step(&self, sentence: &str) {
        if let Some(trace) = &self.trace {
            let line = format!("+ {}: {}\n", now().strftime("%H:%M:%S%.6f"), one_line(sentence));
            // A trace that cannot be written must not stop what it traces.
            let _ = trace.lock().map(|mut file| file.write_all(line.as_bytes()));
        }
    }

    fn write(&self, level: Level, sentence: &str) {
        self.step(&format!("{}: {sentence}", level.word()));
        if level == Level::Debug && !self.debug {
            return;
        }
        let sentence = one_line(sentence);
        let stamped = || format!("{} {}: {}\n", now().strftime("%b %d %H:%M:%S"), level.word(), sentence);
        if let Some(facility) = self.facility {
            self.to_syslog(facility * 8 + level as u8, &format!("{}: {sentence}", level.word()));
        }
        if let Some(path) = &self.file {
            append(path, &format!("{}: {}", self.tag, stamped()));
        }
        if let Some(path) = &self.debug_file {
            append(path, &format!("{}: {}", self.tag, stamped()));
        }
        if self.by_hand {
            let _ = std::io::stderr().write_all(stamped().as_bytes());
        }
    }

    /// The form every syslog daemon reads from its socket (RFC 3164, 4.1). Without a daemon there is nobody to tell.
    fn to_syslog(&self, priority: u8, sentence: &str) {
        let line = format!("<{priority}>{} {}: {sentence}", now().strftime("%b %e %H:%M:%S"), self.tag);
        let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        let _ = socket.and_then(|socket| socket.send_to(line.as_bytes(), SYSLOG_SOCKET));
    }
}

/// The time as the node's clock on the wall shows it.
///
/// Zoned::now lists every directory of /usr/share/zoneinfo to find the zone's name, which no log shows; that takes 1.5 ms
/// of an action that takes a hundred addresses away in 5.
fn now() -> Zoned {
    let zone = if std::env::var_os("TZ").is_some() {
        TimeZone::system()
    } else {
        let rules = fs::read("/etc/localtime").ok().and_then(|rules| TimeZone::tzif("local", &rules).ok());
        // As tzset(3) has it.
        rules.unwrap_or(TimeZone::UTC)
    };
    Timestamp::now().to_zoned(zone)
}

/// A line break in a log is a place for somebody else's line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn append(path: &Path, line: &str) {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    // A log that cannot be written must not fail the action.
    let _ = options.open(path).and_then(|mut file| file.write_all(line.as_bytes()));
}

/// The file of trace_ra: the given one, or one of this action's own where resource-agents puts its traces.
fn trace_file(environment: &Environment, agent: &str, action: &str) -> Option<File> {
    let parameters = environment.parameters();
    let wanted = parameters.get("trace_ra").is_some_and(|value| parse_boolean(value) == Some(true));
    if !wanted {
        return None;
    }
    let own = || {
        let moment = now().strftime("%F.%T").to_string();
        let instance = environment.instance().replace('/', "_");
        PathBuf::from(format!("/var/lib/heartbeat/trace_ra/{agent}/{instance}.{action}.{moment}"))
    };
    let given = parameters.get("trace_file").filter(|path| path.starts_with('/')).map(PathBuf::from);
    let path = given.unwrap_or_else(own);
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path.parent()?);
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    made.and_then(|()| options.open(path)).ok()
}

/// The facilities' names and numbers are those of syslog(3).
fn facility_number(name: &str) -> u8 {
    let names = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
    let local = name.strip_prefix("local").and_then(|number| number.parse().ok()).filter(|number| *number < 8);
    let listed = names.iter().zip(0..).find(|(known, _)| **known == name).map(|(_, number)| number);
    listed.or(local.map(|number: u8| 16 + number)).unwrap_or(DAEMON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_variables(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn temporary(name: &str) -> String {
        let path = std::env::temp_dir().join(format!("ocf-log-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn facilities_have_syslogs_numbers() {
        assert_eq!(facility_number("mail"), 2);
        assert_eq!(facility_number("authpriv"), 10);
        assert_eq!(facility_number("local7"), 23);
        assert_eq!(facility_number("local8"), DAEMON);
        assert_eq!(facility_number("nonsense"), DAEMON);
    }

    #[test]
    fn a_line_in_the_file_names_instance_process_and_level_and_is_one_line() {
        let path = temporary("file");
        let log = Log::from_environment(
            &environment(&[
                ("HA_LOGFILE", &path),
                ("OCF_RESOURCE_INSTANCE", "ips"),
                ("OCF_RESKEY_crm_feature_set", "3.16.1"),
            ]),
            "primary-ips",
            "monitor",
        );
        log.warning("one\ntwo");
        log.debug("not asked for");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(&format!("primary-ips(ips)[{}]: ", std::process::id())), "{text}");
        assert!(text.ends_with(" WARNING: one two\n") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn none_is_off() {
        let all = [("HA_LOGFILE", "none"), ("HA_LOGFACILITY", "none"), ("HA_DEBUGLOG", "/dev/null")];
        let log = Log::from_environment(&environment(&all), "sample", "start");
        assert!(log.file.is_none() && log.facility.is_none() && log.debug_file.is_none());
    }

    #[test]
    fn a_trace_has_every_step_with_its_time() {
        let path = temporary("trace");
        let asked = [("OCF_RESKEY_trace_ra", "1"), ("OCF_RESKEY_trace_file", path.as_str())];
        let log = Log::from_environment(&environment(&asked), "sample", "start");
        log.step("dumped 520 addresses");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("+ ") && text.ends_with(": dumped 520 addresses\n"), "{text}");
    }

    #[test]
    fn without_trace_ra_nothing_is_traced() {
        let path = temporary("no-trace");
        let log = Log::from_environment(&environment(&[("OCF_RESKEY_trace_file", &path)]), "sample", "start");
        log.step("x");
        assert!(!Path::new(&path).exists());
    }
}
