//! `hvmail_make_secondary --boot`: what a boot unit runs. It changes nothing and moves nothing, for that is Pacemaker's
//! part. Before Pacemaker runs, whatever of the pair is up on this node has come up by itself, and that is what it looks for.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::unistd::geteuid;
use ocf::{Deadline, Program};

use crate::agents::{self, Word};
use crate::cib::{Configuration, Resource};
use crate::crm_mon::Monitored;
use crate::ips::listed::bytes;
use crate::make::{DONE, REFUSED, UNKNOWN, say};
use crate::tools;

/// Where Pacemaker keeps the configuration while it does not run (pcmk__config, `CIB_DIR`).
const CIB: &str = "/var/lib/pacemaker/cib/cib.xml";
/// The largest that is read.
const LARGEST: u64 = 16 << 20;
/// The vendor's own start of everything.
const VENDORS_UNIT: &str = "greenarrow.service";
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a resource on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    kind: String,
    word: Word,
    /// Pacemaker's word, where it runs: its role here, or that it is at it.
    by_cluster: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// As it is to be.
    Sound,
    /// Worth a line.
    Note(String),
    /// It has started by itself; and what to do.
    ByItself(String, &'static str),
    /// Nobody can tell.
    Unknown(String),
}

/// Looks, and says what there is.
pub(crate) fn look() -> Result<u8> {
    if !geteuid().is_root() {
        bail!("this needs root: it is run by user {}", geteuid());
    }
    let state = tools::state().ok();
    let here = if state.is_some() { tools::own_name() } else { tools::host_name() };
    let resources = resources(state.is_some());
    let known = known(state.as_ref(), &resources, &here);
    let mut found: Vec<_> = known.iter().map(judge).collect();
    found.push(vendors_start(&enabled(VENDORS_UNIT)));
    Ok(tell(&here, state.is_some(), &found))
}

/// The pair's resources by the cluster's word, else by what it left on the disk, else by the agents' defaults.
fn resources(cluster: bool) -> Vec<Resource> {
    let live = cluster.then(|| tools::configuration().ok()).flatten();
    let kept = || Configuration::parse(&String::from_utf8_lossy(&bytes(Path::new(CIB), LARGEST).ok()?)).ok();
    let own = |configuration: Configuration| -> Vec<_> {
        let all = configuration.resources.into_iter();
        all.filter(|one| one.promotable.is_some() && one.agent.starts_with("ocf:greenarrow:")).collect()
    };
    let configured = live.or_else(kept).map(own).unwrap_or_default();
    if !configured.is_empty() {
        return configured;
    }
    let usual = |kind: &str| Resource {
        id: kind.to_owned(),
        agent: format!("ocf:greenarrow:{kind}"),
        promotable: Some(kind.to_owned()),
        ..Resource::default()
    };
    ["postgresql", "primary-ips", "services"].into_iter().filter(|kind| agents::is_installed(kind)).map(usual).collect()
}

/// Asks the agents, all at once: a boot waits for this.
fn known(state: Option<&Monitored>, resources: &[Resource], here: &str) -> Vec<Known> {
    let of_cluster =
        |id: &str| state.is_some_and(|state| state.changing(id) || state.nodes_in_role(id, "Promoted").contains(&here));
    let ask = |resource: &Resource| {
        let word = agents::ask(resource, here)?;
        let kind = resource.agent.rsplit(':').next().unwrap_or_default().to_owned();
        Some(Known { kind, by_cluster: of_cluster(&resource.id), word })
    };
    thread::scope(|scope| {
        let asked: Vec<_> = resources.iter().map(|resource| scope.spawn(move || ask(resource))).collect();
        asked.into_iter().filter_map(|one| one.join().ok().flatten()).collect()
    })
}

/// A standby that is up without the cluster harms nobody: Pacemaker finds it and takes it over.
fn judge(known: &Known) -> Found {
    let Word { resource, status, text } = &known.word;
    match status {
        _ if known.by_cluster => Found::Sound,
        Some(7) => Found::Sound,
        Some(0 | 190) => Found::Note(format!("{resource} is up, unpromoted: {text}")),
        Some(8 | 9 | 191) => {
            Found::ByItself(format!("{resource} is active, and not by the cluster: {text}"), remedy(&known.kind))
        }
        // Not installed, not configured: a node where it cannot run has not started it.
        Some(2 | 5 | 6) => Found::Note(format!("{resource} cannot run here: {text}")),
        Some(status) => Found::Unknown(format!("{resource}: its agent ended with {status}: {text}")),
        None => Found::Unknown(format!("{resource}: {text}")),
    }
}

fn remedy(kind: &str) -> &'static str {
    match kind {
        "primary-ips" => "take the addresses out of the network's own configuration: only the cluster brings them up",
        "postgresql" => "disable whatever starts this server at boot: only the cluster starts and promotes it",
        "services" => "disable whatever starts them at boot (systemctl disable greenarrow): only the cluster does",
        "drbd" => {
            "take become-primary-on out of drbd.conf, and disable what mounts it at boot: only the cluster does that"
        }
        _ => "disable whatever starts it at boot: only the cluster does",
    }
}

/// systemctl's word for a unit; empty where there is no systemd or no such unit.
fn enabled(unit: &str) -> String {
    // sd_booted(3).
    if !Path::new("/run/systemd/system").is_dir() {
        return String::new();
    }
    let output = Program::new("systemctl").args(["is-enabled", unit]).run(Deadline::after(PATIENCE));
    output.map_or_else(|error| format!("{error:#}"), |output| output.stdout.trim().to_owned())
}

fn vendors_start(word: &str) -> Found {
    match word {
        "enabled" | "enabled-runtime" => Found::ByItself(
            format!("{VENDORS_UNIT} is enabled: at each boot it starts everything on this node, Primary or not"),
            "systemctl disable greenarrow",
        ),
        _ => Found::Sound,
    }
}

fn tell(here: &str, cluster: bool, found: &[Found]) -> u8 {
    let mut status = DONE;
    for one in found {
        match one {
            Found::Sound => {}
            Found::Note(what) => line(6, what),
            Found::ByItself(what, remedy) => {
                line(4, &format!("{what}; {remedy}"));
                status = status.max(REFUSED);
            }
            Found::Unknown(what) => {
                line(4, &format!("not known: {what}"));
                status = UNKNOWN;
            }
        }
    }
    let who = if cluster { "beside the cluster" } else { "without the cluster, which does not run yet" };
    if status == DONE {
        line(
            6,
            &format!("{here}: nothing of the pair is active here {who}; what this node becomes is Pacemaker's to say"),
        );
    }
    status
}

/// A line, for the journal with its priority in front (sd-daemon(3)).
fn line(priority: u8, text: &str) {
    let prefix = std::env::var_os("JOURNAL_STREAM").map_or_else(String::new, |_| format!("<{priority}>"));
    say(&format!("{prefix}{}", text.replace('\n', " ")), DONE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: Option<i32>, by_cluster: bool) -> Found {
        let word = Word { resource: "ips".to_owned(), status, text: "so it is".to_owned() };
        judge(&Known { kind: "primary-ips".to_owned(), word, by_cluster })
    }

    #[test]
    fn only_what_is_active_without_the_cluster_has_started_by_itself() {
        for status in [8, 9, 191] {
            assert!(matches!(found(Some(status), false), Found::ByItself(..)), "{status}");
        }
        for status in [0, 190, 2, 5, 6] {
            assert!(matches!(found(Some(status), false), Found::Note(_)), "{status}");
        }
        assert_eq!(found(Some(7), false), Found::Sound);
        for status in [None, Some(1), Some(127)] {
            assert!(matches!(found(status, false), Found::Unknown(_)), "{status:?}");
        }
        for status in [None, Some(0), Some(1), Some(8), Some(191)] {
            assert_eq!(found(status, true), Found::Sound, "{status:?}");
        }
    }

    #[test]
    fn the_vendors_start_must_be_disabled() {
        assert!(matches!(vendors_start("enabled"), Found::ByItself(..)));
        for word in ["disabled", "masked", "static", "", "not-found"] {
            assert_eq!(vendors_start(word), Found::Sound, "{word}");
        }
    }

    #[test]
    fn the_gravest_is_the_exit_status() {
        let active = || Found::ByItself("x".to_owned(), "y");
        let note = || Found::Note("x".to_owned());
        assert_eq!(tell("n1", false, &[Found::Sound, note()]), DONE);
        assert_eq!(tell("n1", false, &[active(), note()]), REFUSED);
        assert_eq!(tell("n1", true, &[Found::Unknown("x".to_owned()), active()]), UNKNOWN);
    }
}
