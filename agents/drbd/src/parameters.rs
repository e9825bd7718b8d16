//! The one table of what the agent can be told, and what it says of itself. The names and meanings are those of
//! ocf:linbit:drbd, so that a definition moves over by its provider alone.

use std::path::PathBuf;
use std::time::Duration;

use ocf::{About, Action, Advertised, Content, Parameter, Values};

use super::proc_drbd::{Version, parse_version};
use super::score::Ladder;
use super::texts;

/// The agent's description: meta-data, man page and help are made from it.
pub(crate) const ABOUT: About = About {
    provider: "greenarrow",
    name: "drbd",
    version: env!("CARGO_PKG_VERSION"),
    revised: "2026-11-25",
    short: "Manages the role of a DRBD resource",
    long: texts::LONG,
    parameters: PARAMETERS,
    actions: ACTIONS,
    sections: &[
        ("Coming from ocf:linbit:drbd", texts::LINBIT),
        ("Exit status of monitor", texts::MONITOR),
        ("Promotion score", texts::SCORE),
        ("Split brain", texts::SPLIT_BRAIN),
        ("Fencing", texts::FENCING),
        ("Files", texts::FILES),
        ("By hand", texts::BY_HAND),
        ("Configuration", texts::EXAMPLES),
    ],
};

const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "drbd_resource",
        content: Content::Checked(is_name),
        required: true,
        unique_group: Some("drbd_resource"),
        short: "Name of the DRBD resource",
        long: "The name of the resource in drbd.conf.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "drbdconf",
        content: Content::Path,
        default: Some("/etc/drbd.conf"),
        short: "Path of drbd.conf",
        long: "The full path of drbd.conf. It is needed to start and to reload only. When it can no longer be read, monitor says so \
               (degraded) and goes on with what the kernel says.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "adjust_master_score",
        content: Content::Text,
        default: Some("0 10 1000 10000"),
        reloadable: true,
        short: "The steps of the promotion score",
        long: "Four whole numbers, none smaller than the one before: the promotion score of a node that has data which is \
               consistent, but perhaps old; of one that reaches good data at a peer only; of a Secondary with good data that \
               does not know how a peer's is; and of one with good data that is Primary, is connected to the Primary, or knows \
               its peers. 0 is no score. Anything else than four such numbers is warned of, and the default stands in its \
               place.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "stop_outdates_secondary",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Outdate the data of a stopped Secondary",
        long: "Whether a Secondary marks its data as outdated when it is stopped, or not connected, while Pacemaker has \
               another node promoted. Needs notify=true. Fencing in drbd.conf is the better way.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "ignore_missing_notifications",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Has no effect",
        long: "ocf:linbit:drbd does not start without notify=true unless this is true. This agent needs no notifications, and \
               uses them where there are some.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "wfc_timeout",
        content: Content::Text,
        default: Some("5"),
        reloadable: true,
        short: "How long start waits for connections",
        long: "How many seconds start waits for the connections at most, but not for more than half of its time; 0: for that half. \
               Anything that is no number does not wait at all.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "remove_master_score_if_peer_primary",
        content: Content::Text,
        default: Some("false"),
        reloadable: true,
        short: "No promotion score next to a Primary",
        long: "Whether a node that is connected to a Primary with good data has no promotion score: true; unexpected: only \
               where Pacemaker does not know of that Primary, which costs a crm_resource each time; anything else: false. It \
               delays a takeover until DRBD has noticed that the Primary is dead, and until the next monitor.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "fail_promote_early_if_peer_primary",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Promote only once next to a Primary",
        long: "Whether a promotion fails at the first try when a peer is Primary of which Pacemaker does not know. Otherwise it is \
               tried for up to 15 seconds: each try makes DRBD ask whether the peer still lives.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "unfence_if_all_uptodate",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Call the unfence handler when all is well",
        long: "Whether the monitor of the Primary calls drbdadm unfence-peer when all copies have become good, and once a \
               minute from then on, in case a fencing constraint was left behind.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "unfence_extra_args",
        content: Content::Text,
        default: Some("--quiet --flock-required --flock-timeout 0 --unfence-only-if-owner-match"),
        reloadable: true,
        short: "More arguments of the unfence handler",
        long: "What the handler finds in the variable OCF_RESKEY_unfence_extra_args.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "require_drbd_module_version_ge",
        content: Content::Checked(is_version),
        default: Some("8.0.0"),
        reloadable: true,
        short: "Least version of the module",
        long: "The module must have this version or a later one, as x.y.z; otherwise the resource does not start. This agent \
               itself needs 8.4.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "require_drbd_module_version_lt",
        content: Content::Checked(is_version),
        default: Some("10.0.0"),
        reloadable: true,
        short: "Version that the module must be below",
        long: "The module must be older than this version, x.y.z; otherwise the resource does not start.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "connect_only_after_promote",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Connect after the promotion only",
        long: "Whether a Secondary stays without connection, which promote makes then. For stacked resources without fencing \
               below them. Each takeover begins a new data generation.",
        ..Parameter::TEXT
    },
];

const ACTIONS: &[Advertised] = &[
    Advertised::new(Action::Start, 240),
    Advertised::new(Action::Stop, 100),
    Advertised::new(Action::Promote, 90),
    Advertised::new(Action::Demote, 90),
    Advertised::new(Action::Monitor, 20).every(10, Some("Promoted")),
    Advertised::new(Action::Monitor, 20).every(20, Some("Unpromoted")),
    Advertised::new(Action::Notify, 90),
    Advertised::new(Action::Reload, 30),
    Advertised::new(Action::ReloadAgent, 30),
    Advertised::new(Action::ValidateAll, 20).depth(0),
    Advertised::new(Action::ValidateAll, 20).depth(10),
];

/// When there is to be no score because a peer is Primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AwayFromPrimary {
    No,
    Yes,
    Unexpected,
}

/// The parameters of one instance.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of its own")]
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Empty where it is not set, for the actions that go on without.
    pub(crate) name: String,
    pub(crate) drbdconf: PathBuf,
    pub(crate) ladder: Ladder,
    pub(crate) stop_outdates_secondary: bool,
    pub(crate) wait_for_peers: Option<Duration>,
    pub(crate) away_from_primary: AwayFromPrimary,
    pub(crate) fail_promote_early: bool,
    pub(crate) unfence_if_all_uptodate: bool,
    pub(crate) unfence_extra_args: String,
    pub(crate) version_ge: Option<Version>,
    pub(crate) version_lt: Option<Version>,
    pub(crate) connect_only_after_promote: bool,
    /// What is wrong with the parameters.
    pub(crate) wrong: Option<String>,
}

impl Settings {
    pub(crate) fn read(values: &Values) -> Self {
        let text = |name| values.text(name).unwrap_or_default();
        let ladder = Ladder::parse(text("adjust_master_score"));
        let no_ladder = ladder.is_none().then(|| {
            let given = text("adjust_master_score");
            format!(
                "parameter adjust_master_score={given:?} is not four numbers that do not fall; 0 10 1000 10000 is used"
            )
        });
        let wrong: Vec<String> = values.wrong().into_iter().chain(no_ladder).collect();
        let wait = text("wfc_timeout");
        Self {
            name: text("drbd_resource").to_owned(),
            drbdconf: text("drbdconf").into(),
            ladder: ladder.unwrap_or(Ladder::USUAL),
            stop_outdates_secondary: values.boolean("stop_outdates_secondary"),
            wait_for_peers: wait
                .parse()
                .ok()
                .filter(|_| wait.bytes().all(|b| b.is_ascii_digit()))
                // As for drbdadm wait-connect.
                .map(|seconds| if seconds == 0 { Duration::MAX } else { Duration::from_secs(seconds) }),
            away_from_primary: match text("remove_master_score_if_peer_primary").to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" | "on" | "ja" => AwayFromPrimary::Yes,
                "unexpected" => AwayFromPrimary::Unexpected,
                _ => AwayFromPrimary::No,
            },
            fail_promote_early: values.boolean("fail_promote_early_if_peer_primary"),
            unfence_if_all_uptodate: values.boolean("unfence_if_all_uptodate"),
            unfence_extra_args: text("unfence_extra_args").to_owned(),
            version_ge: parse_version(text("require_drbd_module_version_ge")),
            version_lt: parse_version(text("require_drbd_module_version_lt")),
            connect_only_after_promote: values.boolean("connect_only_after_promote"),
            wrong: (!wrong.is_empty()).then(|| wrong.join("; ")),
        }
    }
}

/// What drbdadm takes as a name, without what it would take for something else.
fn is_name(text: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.%+=@".contains(c);
    if !text.is_empty() && text.chars().all(fits) && !text.starts_with('-') && text != "all" {
        return Ok(());
    }
    Err("the name of a resource in drbd.conf is expected: letters, digits and -_.%+=@, not all".to_owned())
}

fn is_version(text: &str) -> Result<(), String> {
    parse_version(text).map(drop).ok_or_else(|| "a version x.y.z is expected, such as 8.4.11".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn settings(given: &[(&str, &str)]) -> Settings {
        let given: BTreeMap<_, _> =
            given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::read(&Values::forgive(PARAMETERS, &given))
    }

    #[test]
    fn the_defaults_are_those_of_linbit() {
        let usual = settings(&[("drbd_resource", "r0")]);
        assert_eq!((usual.ladder, usual.wait_for_peers), (Ladder::USUAL, Some(Duration::from_secs(5))));
        assert_eq!((usual.version_ge, usual.version_lt), (Some((8, 0, 0)), Some((10, 0, 0))));
        assert_eq!((usual.away_from_primary, usual.wrong), (AwayFromPrimary::No, None));
    }

    #[test]
    fn a_wait_that_is_no_number_is_none_and_a_wrong_ladder_is_warned_of() {
        let odd = settings(&[("drbd_resource", "r0"), ("wfc_timeout", "x"), ("adjust_master_score", "5 4 3 2")]);
        assert_eq!((odd.wait_for_peers, odd.ladder), (None, Ladder::USUAL));
        assert!(odd.wrong.unwrap().contains("is not four numbers"));
        // In DRBD 0 is without limit.
        assert_eq!(settings(&[("drbd_resource", "r0"), ("wfc_timeout", "0")]).wait_for_peers, Some(Duration::MAX));
    }

    #[test]
    fn a_name_cannot_be_taken_for_an_option_or_for_all() {
        for wrong in ["", "-c", "all", "a b", "a/b", "r0:1", "r\u{e9}"] {
            assert!(is_name(wrong).is_err(), "{wrong:?}");
        }
        assert!(is_name("mail-0_a.b").is_ok());
    }
}
