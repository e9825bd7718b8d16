//! What the kernel module says of the resource, and what it is told to change. `drbdsetup` speaks with the module alone: it
//! needs no drbd.conf.

use std::time::Duration;

use anyhow::Result;
use ocf::{Deadline, Done, Failure, Kind, Program, Run};

use crate::events;
use crate::model::{Disk, Resource, Volume, shown};
use crate::proc_drbd::{ProcDrbd, Version};

/// The first version that this agent understands: it has volumes, and the drbdsetup of today speaks with it.
const OLDEST: Version = (8, 4, 0);
/// An answer takes some milliseconds. drbdsetup waits for a lock of the module that a role change may hold for long.
const PATIENCE: Duration = Duration::from_secs(15);
/// Before it is asked again.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// The exit status of drbdsetup for a resource or minor that is not there (drbdsetup.c, `ERR_RES_NOT_KNOWN`).
const NOT_KNOWN: i32 = 10;

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) proc: ProcDrbd,
    pub(crate) resource: Option<Resource>,
}

impl Seen {
    pub(crate) fn version(&self) -> Version {
        self.proc.version.unwrap_or(OLDEST)
    }

    pub(crate) fn primary(&self) -> bool {
        self.resource.as_ref().is_some_and(Resource::primary)
    }
}

/// Looks. None: the module is not loaded, so that nothing can be up. In doubt an error.
pub(crate) fn look(run: &Run, name: &str) -> Result<Option<Seen>, Failure> {
    look_until(run, name, run.deadline)
}

fn look_until(run: &Run, name: &str, deadline: Deadline) -> Result<Option<Seen>, Failure> {
    // Asked while the module is not loaded, drbdsetup would load it.
    let Some(proc) = ProcDrbd::look()? else { return Ok(None) };
    understood(&proc)?;
    // With 8.4 that shows every minor there is; DRBD 9 shows none.
    if proc.version.is_some_and(|version| version < (9, 0, 0)) && proc.devices.is_empty() {
        return Ok(Some(Seen { proc, resource: None }));
    }
    let arguments = ["events2", "--now", "--statistics", name];
    let deadline = deadline.at_most(PATIENCE.min(deadline.remaining() / 2));
    let output = Program::new("drbdsetup").args(arguments).run(deadline)?;
    let resource = match output.status.code() {
        Some(0) => events::read(&output.stdout, name)?,
        Some(NOT_KNOWN) if not_known(&output.stderr) => None,
        _ => return Err(output.success("drbdsetup events2").map(drop).unwrap_err().into()),
    };
    run.log.step(&resource.as_ref().map_or("down".to_owned(), Resource::summary));
    Ok(Some(Seen { proc, resource }))
}

/// The same for who has time until the deadline: drbdsetup waits for whoever changes a role, as for a handler of DRBD. A program
/// that is not installed, and a module that is too old, nobody waits for.
pub(crate) fn look_patiently(run: &Run, name: &str, deadline: Deadline) -> Result<Option<Seen>, Failure> {
    loop {
        let failure = match look_until(run, name, deadline) {
            Ok(seen) => return Ok(seen),
            Err(failure) => failure,
        };
        let lasts = failure.kind() != Kind::Generic || failure.reason().contains("is not installed");
        if lasts || !deadline.sleep(LOOK_AGAIN) {
            return Err(failure);
        }
        run.log.warning(&format!("{}; it is asked again", failure.reason()));
    }
}

fn not_known(words: &str) -> bool {
    ["No such resource", "Unknown resource", "Minor not known"].iter().any(|known| words.contains(known))
}

/// Whether it is a module that this agent speaks with.
pub(crate) fn understood(proc: &ProcDrbd) -> Done {
    let Some((major, minor, patch)) = proc.version.filter(|version| *version < OLDEST) else { return Ok(()) };
    Err(Failure::not_installed(format!(
        "the DRBD module is {major}.{minor}.{patch}; this agent needs 8.4 or later, which has volumes and reads the same meta \
         data: update the module and drbd-utils, or keep ocf:linbit:drbd until then"
    )))
}

/// A change of state that DRBD refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// DRBD's number for the reason (drbd.h, `enum drbd_state_rv`).
    pub(crate) code: Option<i32>,
    /// DRBD's words.
    pub(crate) words: String,
    /// What DRBD 9 adds: which peer it was that declined.
    pub(crate) more: Option<String>,
}

impl Refusal {
    /// `0: State change failed: (-2) Need access to UpToDate data`, among other lines.
    pub(crate) fn parse(said: &str) -> Self {
        let line = said.lines().find(|line| line.contains("State change failed:"));
        let reason = line.and_then(|line| line.split_once("State change failed: (")).map(|(_, reason)| reason);
        let coded = reason.and_then(|reason| reason.split_once(") "));
        let more = said.lines().skip_while(|line| *line != "additional info from kernel:").nth(1).map(shown);
        if let Some((code, words)) = coded.and_then(|(code, words)| Some((code.parse().ok()?, words))) {
            return Self { code: Some(code), words: shown(words), more };
        }
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code: None, words: words.replace(char::is_control, ""), more }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "DRBD refuses: {} ({code})", self.words),
            None => write!(f, "drbdsetup: {}", self.words),
        }
    }
}

/// Makes the resource Primary or Secondary. 8.4 changes one minor at a time, and one that becomes Primary without its peer begins
/// a new data generation (`drbd_set_role`), which is half a split brain: a volume that may be refused is asked for first.
pub(crate) fn change_role(seen: &Seen, name: &str, role: &str, deadline: Deadline) -> Result<(), Refusal> {
    if seen.version() >= (9, 0, 0) {
        return setup(&[role, name], deadline);
    }
    let mut volumes: Vec<&Volume> = seen.resource.iter().flat_map(|resource| resource.volumes.values()).collect();
    volumes.sort_by_key(|volume| volume.disk == Disk::UpToDate);
    let minors = volumes.into_iter().filter_map(|volume| volume.minor);
    minors.into_iter().try_for_each(|minor| setup(&[role, &minor.to_string()], deadline))
}

/// Takes the resource down: connections, disks, minors, and itself.
pub(crate) fn down(name: &str, deadline: Deadline) -> Result<(), Refusal> {
    setup(&["down", name], deadline)
}

fn setup(arguments: &[&str], deadline: Deadline) -> Result<(), Refusal> {
    let output = Program::new("drbdsetup").args(arguments.iter().copied()).run(deadline);
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Refusal::parse(&output.stderr)),
        Err(error) => Err(Refusal { code: None, words: format!("{error:#}"), more: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_before_8_4_is_refused_with_a_sentence() {
        let of = |version| understood(&ProcDrbd { version, ..ProcDrbd::default() });
        let refused = of(Some((8, 3, 16))).unwrap_err();
        assert!(
            refused.reason().starts_with("the DRBD module is 8.3.16; this agent needs 8.4 or later"),
            "{refused:?}"
        );
        for version in [None, Some((8, 4, 0)), Some((9, 2, 12))] {
            assert!(of(version).is_ok(), "{version:?}");
        }
    }

    #[test]
    fn a_refusal_is_read_from_what_drbdsetup_says() {
        let said =
            "0: State change failed: (-2) Need access to UpToDate data\nCommand 'drbdsetup-84 primary 0' terminated";
        let refusal = Refusal::parse(said);
        assert_eq!(refusal, Refusal { code: Some(-2), words: "Need access to UpToDate data".into(), more: None });
        assert_eq!(refusal.to_string(), "DRBD refuses: Need access to UpToDate data (-2)");
        let nine = Refusal::parse("mail: State change failed: (-12) Device is held open by someone\n");
        assert_eq!((nine.code, nine.more), (Some(-12), None));
        // Of DRBD 9.2.18, while somebody reads from the device on the other node.
        let nine = Refusal::parse(
            "r0: State change failed: (-10) State change was refused by peer node\nadditional info from kernel:\n\
             Declined by peer n2 (id: 1), see the kernel log there\n",
        );
        assert_eq!(nine.code, Some(-10));
        assert_eq!(nine.more.as_deref(), Some("Declined by peer n2 (id: 1), see the kernel log there"));
        for other in ["", "something else\nentirely", "State change failed: (x) y", "State change failed: (-2"] {
            assert_eq!(Refusal::parse(other).code, None, "{other:?}");
        }
    }
}
