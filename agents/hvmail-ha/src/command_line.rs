//! What is typed, and what is said about it: `--help` and the man pages come from these definitions.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::bundle;
use crate::takeover::LOSSES;

/// The names the program is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Ha,
    MakePrimary,
    MakeSecondary,
}

impl Name {
    /// From the path that it was started by.
    pub(crate) fn of(path: &str) -> Self {
        match path.rsplit('/').next().unwrap_or_default() {
            "hvmail_make_primary" => Self::MakePrimary,
            "hvmail_make_secondary" => Self::MakeSecondary,
            _ => Self::Ha,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ha => "hvmail_ha",
            Self::MakePrimary => "hvmail_make_primary",
            Self::MakeSecondary => "hvmail_make_secondary",
        }
    }
}

/// Exit statuses of the two commands that change something.
const STATUSES: &str = "\
Exit status:
  0  it is as it was wanted
  1  refused: nothing was changed
  2  it was tried, and put back: the node that served before serves again
  3  wrong usage, the cluster does not answer, or it could not be put back";

const EXAMPLES_OF_HA: &str = "\
Examples:
  hvmail_ha status                 both nodes on one screen
  hvmail_ha status --watch         the same, again and again
  hvmail_ha status --nagios        one line, with the exit status of a Nagios plugin
  hvmail_ha status --prometheus > /var/lib/node_exporter/hvmail_ha.prom
  hvmail_ha preflight n2           could n2 take over now?
  hvmail_ha configure              asks, and prints a configuration for the cluster
  hvmail_ha configure --check      is the cluster configured as it should be?
  hvmail_ha rejoin                 bring back, on this node, what has gone its own way
  hvmail_ha support-bundle         one archive for whoever is to help, without secrets

hvmail_make_secondary(8) and hvmail_make_primary(8) move the Primary role.";

const EXAMPLES_OF_STATUS: &str = "\
Examples:
  hvmail_ha status                     both nodes on one screen
  hvmail_ha status --watch=5           the same, every five seconds
  hvmail_ha status --json | jq .primary
  hvmail_ha status --nagios            one line for a monitoring system, with this exit status
  hvmail_ha status --prometheus > /var/lib/node_exporter/hvmail_ha.prom

Exit status (as of a Nagios plugin):
  0  ok
  1  something has to be seen to
  2  critical: no node is Primary, for example
  3  unknown: the cluster does not answer on this node

What the agents say is asked of those on this node only; of the other node it is shown what Pacemaker knows: roles,
promotion scores, failed actions with their reasons, and what the agents there have told as node attributes.

JSON: `schema` is 1. Members are added at any time; it grows when one is taken away or changes its meaning. Members of
the document: schema, time (UTC), node (the one that looked), status (ok, warning, critical), primary (or null), quorum,
fencing, maintenance, stopped_on (the last Primary before --stop), addresses_equal (true, false, null: not told),
pacemaker (its version), nodes, findings (severity, node, what, remedy), failed_actions (resource, action, node,
exit_status, degraded, reason, time), fencing_history (target, action, status, time), leftover_constraints, not_seen.
Of a node: name, role (Primary, \"partly Primary\", Secondary, inactive, offline), online, standby, maintenance, pending,
unclean, addresses_listed (of all lists), timeline, resources (name, agent, role, promotion_score, failed, managed,
addresses_listed, says), obstacles (fact, remedy, overridden_by).";

const EXAMPLES_OF_PREFLIGHT: &str = "\
Examples:
  hvmail_ha preflight                  could the node that is not Primary take over now?
  hvmail_ha preflight n2               could n2?

It changes nothing. Each obstacle comes with the command that removes it.

Exit status: 0 it could, or it is Primary; 1 it could not; 3 unknown: the cluster does not answer";

const EXAMPLES_OF_SECONDARY: &str = "\
Examples:
  hvmail_make_secondary            the other node becomes Primary
  hvmail_make_secondary --stop     if no other node can: end everything in good order
  hvmail_make_secondary --boot     what hvmail-secondary.service runs at boot

With --stop and no node to take over, no node is Primary until hvmail_make_primary is run, reboots included.
The command may be repeated at any time, also after it was killed. No constraint stays behind.

--boot changes nothing. It asks the agents on this node, with or without a running Pacemaker, whether addresses are up,
the database is a primary or services run that the cluster has not started, and whether greenarrow.service is enabled;
its exit status is 1 then. Put it on with: systemctl enable hvmail-secondary";

const EXAMPLES_OF_PRIMARY: &str = "\
Examples:
  hvmail_make_primary              this node becomes Primary
  hvmail_make_primary --node n2    the node n2 does

It refuses while the other node is or may be Primary and cannot give the role away, or while this node's data are not
up to date; each refusal names the fact and the command that resolves it.
--force is for what loses no data: failures that keep a resource away are forgotten, and a resource that is not ready
counts as ready. What may lose data has to be named:
  --accept-data-loss=peer-unseen   the other node is gone, and nothing proves that it is off
  --accept-data-loss=database      the other node was Primary last, is gone, and has written more, or may have
The command may be repeated at any time, also after it was killed. No constraint stays behind.";

pub(crate) fn command(name: Name) -> Command {
    let command = match name {
        Name::Ha => ha(),
        Name::MakePrimary => Command::new(name.word())
            .about("Makes a node of a GreenArrow pair Primary, through Pacemaker")
            .after_help(format!("{EXAMPLES_OF_PRIMARY}\n\n{STATUSES}"))
            .arg(node("The node that is to be Primary; this one otherwise"))
            .args(moving()),
        Name::MakeSecondary => Command::new(name.word())
            .about("Moves the Primary role of a GreenArrow pair away from a node, through Pacemaker")
            .after_help(format!("{EXAMPLES_OF_SECONDARY}\n\n{STATUSES}"))
            .arg(node("The node that is to be Secondary; this one otherwise"))
            .arg(flag("stop", "If no other node can take over: end everything in good order instead"))
            .arg(
                flag("boot", "Move nothing: look whether anything of the pair has started without the cluster")
                    .conflicts_with_all(["stop", "node", "force", "accept-data-loss"]),
            )
            .args(moving()),
    };
    let manual = flag("manual", "Print the man page, for man -l -");
    command.version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true).arg(manual)
}

fn ha() -> Command {
    let status = Command::new("status")
        .about("Both nodes side by side, and what has to be seen to")
        .after_help(EXAMPLES_OF_STATUS)
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("2")
                .value_parser(value_parser!(u64).range(1..=3600))
                .help("Again and again, every 2 seconds or so many; Ctrl-C ends it"),
        )
        .arg(flag("json", "As JSON, its schema below").conflicts_with_all(["nagios", "prometheus", "watch"]))
        .arg(
            flag("nagios", "As a Nagios plugin: one line with performance data")
                .conflicts_with_all(["prometheus", "watch"]),
        )
        .arg(flag("prometheus", "As metrics for the textfile collector of node_exporter").conflicts_with("watch"));
    let preflight = Command::new("preflight")
        .about("Whether a node could take over now, and what stands in its way, the gravest first")
        .after_help(EXAMPLES_OF_PREFLIGHT)
        .arg(Arg::new("node").value_name("NODE").help("The node; otherwise the one that is not Primary"));
    Command::new(Name::Ha.word())
        .about("The high availability of a GreenArrow pair: what the operator types")
        .after_help(EXAMPLES_OF_HA)
        .subcommand(status)
        .subcommand(preflight)
        .subcommand(crate::ips::command())
        .subcommand(crate::configure::command())
        .subcommand(crate::rejoin::command())
        .subcommand(crate::completions::command())
        .subcommand(bundle::command())
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn node(help: &'static str) -> Arg {
    Arg::new("node").long("node").value_name("NODE").help(help)
}

fn moving() -> [Arg; 3] {
    [
        flag("force", "Though a resource is not ready or has failed there; loses no data"),
        Arg::new("accept-data-loss")
            .long("accept-data-loss")
            .value_name("WHAT")
            .action(ArgAction::Append)
            .value_parser(LOSSES)
            .help("Though this may be lost"),
        Arg::new("timeout")
            .long("timeout")
            .value_name("SECONDS")
            .default_value("600")
            .value_parser(value_parser!(u64).range(10..=7200))
            .help("After so long, from the start on, all is put back, in 3 minutes at most"),
    ]
}

/// The man page of a name.
pub(crate) fn manual(name: Name) -> std::io::Result<String> {
    let mut page = Vec::new();
    let man =
        clap_mangen::Man::new(command(name)).section("8").manual("GreenArrow high availability").date("2026-11-25");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    // What clap_mangen puts around possible values is no sound troff (mandoc -T lint).
    Ok(String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.br\n") + &rest(name))
}

/// The texts below the options, as they stand; and each subcommand with its own.
fn rest(name: Name) -> String {
    let mut page = String::new();
    let all = command(name);
    let mut section = |heading: &str, text: &str| {
        page.extend([".SH ", &heading.to_uppercase(), "\n.nf\n"]);
        for line in text.lines() {
            let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('`', "\\(ga");
            page.extend([if line.starts_with('.') { "\\&" } else { "" }, &line, "\n"]);
        }
        page += ".fi\n";
    };
    for one in all.get_subcommands() {
        let text = one.clone().bin_name(format!("{} {}", name.word(), one.get_name())).render_help().to_string();
        section(one.get_name(), &text);
        for inner in one.get_subcommands() {
            let path = format!("{} {}", one.get_name(), inner.get_name());
            let text = inner.clone().bin_name(format!("{} {path}", name.word())).render_help().to_string();
            section(&path, &text);
        }
    }
    section("notes", &all.get_after_help().map(ToString::to_string).unwrap_or_default());
    page + ".SH SEE ALSO\n.BR hvmail_ha (8),\n.BR hvmail_make_primary (8),\n.BR hvmail_make_secondary (8),\n.BR crm_mon (8),\n\
            .BR crm_resource (8)\n"
}

/// The words of an option that may be given more than once.
pub(crate) fn words(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).unwrap_or_default().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        for name in [Name::Ha, Name::MakePrimary, Name::MakeSecondary] {
            command(name).debug_assert();
            has_examples(&command(name));
            assert!(manual(name).unwrap().contains(".SH NAME"));
        }
    }

    /// It, and all below it.
    fn has_examples(command: &Command) {
        let help = command.clone().render_help().to_string();
        assert!(help.contains("Examples:") && help.lines().all(|line| line.chars().count() <= 120), "{help}");
        command.get_subcommands().for_each(has_examples);
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        assert_eq!(Name::of("/usr/sbin/hvmail_make_primary"), Name::MakePrimary);
        assert_eq!(Name::of("hvmail_make_secondary"), Name::MakeSecondary);
        assert_eq!(Name::of("target/debug/hvmail_ha"), Name::Ha);
    }

    #[test]
    fn only_losses_that_there_are_can_be_accepted() {
        let losses =
            |word: &str| command(Name::MakePrimary).try_get_matches_from(["x", &format!("--accept-data-loss={word}")]);
        assert_eq!(words(&losses("database").unwrap(), "accept-data-loss"), ["database"]);
        assert!(losses("everything").is_err());
    }
}
