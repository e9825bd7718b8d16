//! The one table of what the agent can be told, and what it says of itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ocf::{About, Action, Advertised, Content, Parameter, Values};

use crate::escalation::{Escalation, is_escalation};
use crate::pattern::{Patterns, is_patterns};
use crate::svscan::{StartSvscan, is_svscan};
use crate::texts;

/// The agent's description: meta-data, man page and help are made from it.
pub(crate) const ABOUT: About = About {
    provider: "greenarrow",
    name: "services",
    version: env!("CARGO_PKG_VERSION"),
    revised: "2026-11-24",
    short: "Manages the services of a GreenArrow Primary",
    long: texts::LONG,
    parameters: PARAMETERS,
    actions: ACTIONS,
    sections: &[
        ("Files", texts::FILES),
        ("Stopping", texts::STOPPING),
        ("Exit status of monitor", texts::MONITOR),
        ("Promotion score", texts::SCORE),
        ("By hand", texts::BY_HAND),
        ("Configuration", texts::EXAMPLES),
    ],
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "service_dir",
        content: Content::Path,
        default: Some("/service"),
        unique_group: Some("services"),
        short: "Scan directory of svscan",
        long: "The directory that svscan looks after; each entry is a service, or a symbolic link to one.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "pattern",
        content: Content::Checked(is_patterns),
        default: Some("hvmail-*"),
        unique_group: Some("services"),
        short: "Services that belong to the resource",
        long: "Names of the services that belong to the resource, with * and ? as in a shell; several are divided by \
               blanks or commas. Each belongs together with its log.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "exclude",
        content: Content::Checked(is_patterns),
        default: Some("hvmail-postgres"),
        short: "Services that do not belong to it all the same",
        long: "Of the services that match pattern, those that the resource leaves alone: the database is a resource of its \
               own.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "expected_down",
        content: Content::Checked(is_patterns),
        default: Some("hvmail-qmail-smtpd3 hvmail-dnscache"),
        reloadable: true,
        short: "Services that are normally down",
        long: "Services that are not brought up, besides those that have a down file of GreenArrow's or yours. When one of \
               them is up nevertheless, monitor reports degraded.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "critical",
        content: Content::Text,
        default: None,
        reloadable: true,
        short: "Services and ports whose failure fails the resource",
        long: "Services that fail the resource when they are down, flapping or paused, so that Pacemaker recovers or moves \
               it; with the same wild cards as pattern. Entries of check_ports may be named as well, such as *:25. The \
               failure of any other one is reported as degraded, on which Pacemaker does not act: supervise restarts it. \
               When no service at all is up the resource has failed in any case.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "settle_time",
        content: Content::Time(100, 600_000),
        default: Some("4s"),
        reloadable: true,
        short: "How long a service must stay up to count as up",
        long: "How long each service must have been up without a restart before promote (or start of a plain resource) \
               ends. A service that dies at once is up for less, again and again.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "flap_window",
        content: Content::Time(1000, 86_400_000),
        default: Some("60s"),
        reloadable: true,
        short: "Two restarts within this time are flapping",
        long: "When monitors see a service restarted twice within this time it is flapping, which fails a critical service. \
               One restart is supervise's work and is reported as degraded, once. Longer than two intervals of the monitor.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "stop_first",
        content: Content::Checked(is_patterns),
        default: Some("hvmail-studio-worker"),
        reloadable: true,
        short: "Services to stop before all others",
        long: "Services that are stopped before all others, and brought up after them.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "stop_escalation",
        content: Content::Checked(is_escalation),
        default: Some("120s 20s 10s"),
        reloadable: true,
        short: "How long to wait after TERM, INT and KILL",
        long: "How long services are waited for after SIGTERM, after SIGINT and after SIGKILL. Within a shorter timeout of \
               the action the wait after SIGTERM gives way first. With two times no service is killed outright, with one \
               time each gets SIGTERM only: a stop that does not end in time fails then, and Pacemaker fences the node.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "mta_control",
        content: Content::Path,
        default: Some("/var/hvmail/bin/hvmail_init"),
        reloadable: true,
        short: "Program that starts and stops the MTA",
        long: "GreenArrow's program that starts and stops its mail transfer agent, called with start, stop or restart when \
               it exists; its progress is passed on to the log. It must belong to root and be writable by nobody else.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "status_command",
        content: Content::Path,
        default: Some("/var/hvmail/bin/greenarrow_status"),
        reloadable: true,
        short: "Program that says how GreenArrow is",
        long: "GreenArrow's program that says how it is, run by monitor at check level 10 when it exists. When it fails, \
               monitor reports degraded with its words.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "svscan",
        content: Content::Checked(is_svscan),
        default: Some("none"),
        short: "Who starts svscan",
        long: "What to do when no svscan runs: none leaves it to the system, and promote fails; start starts it; any other \
               word is a systemd unit that is started for it, such as greenarrow.service. It is not stopped again, because \
               services that belong to others may run under it.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "boot_guard",
        content: Content::Boolean,
        default: Some("true"),
        reloadable: true,
        short: "Keep services from starting by themselves",
        long: "Whether a down file is kept in each service directory, so that no service starts by itself when svscan does: \
               after a reboot, or when the file system that holds the directories is mounted. Files of that name that are \
               there already are not touched and mean a service that is normally down. With false, a stop takes the \
               agent's own away.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "check_ports",
        content: Content::Checked(is_ports),
        default: None,
        reloadable: true,
        short: "Ports that must accept connections",
        long: "Ports that monitor connects to at check level 10, as address:port or [address]:port, divided by blanks or \
               commas. One that accepts no connection is reported as degraded, or fails the resource if it is critical.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "reload_mta",
        content: Content::Choice(&["hup", "restart", "none"]),
        default: Some("hup"),
        reloadable: true,
        short: "How reload tells the MTA of changed addresses",
        long: "How reload tells the MTA that the addresses of this node have changed: hup sends SIGHUP to mta_services, \
               which a service gets only if it catches that signal; restart runs mta_control with restart, an outage of a \
               minute or two; none does nothing.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "mta_services",
        content: Content::Checked(is_patterns),
        default: Some("hvmail-qmail-send*"),
        reloadable: true,
        short: "Services that reload sends SIGHUP to",
        long: "Services of the MTA that read their configuration anew on SIGHUP, as qmail-send does.",
        ..Parameter::TEXT
    },
];

const ACTIONS: &[Advertised] = &[
    Advertised::new(Action::Start, 300),
    Advertised::new(Action::Stop, 300),
    Advertised::new(Action::Promote, 180),
    Advertised::new(Action::Demote, 300),
    Advertised::new(Action::Notify, 20),
    Advertised::new(Action::Monitor, 30).depth(0).every(10, Some("Promoted")),
    Advertised::new(Action::Monitor, 30).depth(0).every(11, Some("Unpromoted")),
    Advertised::new(Action::Monitor, 60).depth(10).every(61, Some("Promoted")),
    Advertised::new(Action::Reload, 300),
    Advertised::new(Action::ReloadAgent, 180),
    Advertised::new(Action::ValidateAll, 20).depth(0),
    Advertised::new(Action::ValidateAll, 20).depth(10),
];

/// How reload tells the MTA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReloadMta {
    Hup,
    Restart,
    None,
}

/// The parameters, typed.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) service_dir: PathBuf,
    pub(crate) pattern: Patterns,
    pub(crate) exclude: Patterns,
    pub(crate) expected_down: Patterns,
    /// Of services and of ports as they stand in `check_ports`.
    pub(crate) critical: Patterns,
    pub(crate) settle_time: Duration,
    pub(crate) flap_window: Duration,
    pub(crate) stop_first: Patterns,
    pub(crate) stop_escalation: Escalation,
    pub(crate) mta_control: PathBuf,
    pub(crate) status_command: PathBuf,
    pub(crate) svscan: StartSvscan,
    pub(crate) boot_guard: bool,
    pub(crate) check_ports: Vec<SocketAddr>,
    pub(crate) reload_mta: ReloadMta,
    pub(crate) mta_services: Patterns,
    /// What is wrong with the parameters; the wrong ones are the defaults then.
    pub(crate) wrong: Option<String>,
    /// Whether one of them says which services are meant: the defaults may mean those of another resource.
    pub(crate) services_are_wrong: bool,
}

impl Settings {
    pub(crate) fn read(values: &Values) -> Self {
        let text = |name| values.text(name).unwrap_or_default();
        let patterns = |name| Patterns::parse(text(name));
        Self {
            service_dir: text("service_dir").into(),
            pattern: patterns("pattern"),
            exclude: patterns("exclude"),
            expected_down: patterns("expected_down"),
            critical: patterns("critical"),
            settle_time: values.time("settle_time"),
            flap_window: values.time("flap_window"),
            stop_first: patterns("stop_first"),
            stop_escalation: Escalation::parse(text("stop_escalation")).unwrap_or_default(),
            mta_control: text("mta_control").into(),
            status_command: text("status_command").into(),
            svscan: StartSvscan::parse(text("svscan")),
            boot_guard: values.boolean("boot_guard"),
            check_ports: ports(text("check_ports")).unwrap_or_default(),
            reload_mta: match text("reload_mta") {
                "restart" => ReloadMta::Restart,
                "none" => ReloadMta::None,
                _ => ReloadMta::Hup,
            },
            mta_services: patterns("mta_services"),
            wrong: values.wrong(),
            services_are_wrong: ["service_dir", "pattern", "exclude"].iter().any(|name| values.is_wrong(name)),
        }
    }
}

fn is_ports(text: &str) -> Result<(), String> {
    ports(text).map(drop)
}

fn ports(text: &str) -> Result<Vec<SocketAddr>, String> {
    let words = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty());
    let port = |word: &str| {
        let parsed = word.parse::<SocketAddr>().ok().filter(|address| address.port() != 0);
        parsed.ok_or_else(|| format!("{word:?} is not a port: 192.0.2.1:25 or [2001:db8::1]:25 is the form"))
    };
    words.map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_defaults_are_right() {
        let settings = Settings::read(&Values::check(PARAMETERS, &BTreeMap::new()).unwrap());
        assert!(settings.pattern.matches("hvmail-httpd") && settings.exclude.matches("hvmail-postgres"));
        assert_eq!(settings.stop_escalation, Escalation::default());
        assert_eq!(settings.check_ports, []);
    }

    #[test]
    fn ports_are_addresses_with_a_port() {
        assert_eq!(ports("127.0.0.1:25, [::1]:587").unwrap().len(), 2);
        for wrong in ["25", "localhost:25", "127.0.0.1:0", "127.0.0.1", "::1:25:"] {
            assert!(ports(wrong).unwrap_err().contains("is the form"), "{wrong}");
        }
    }
}
