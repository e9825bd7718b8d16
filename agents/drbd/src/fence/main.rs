//! `greenarrow-drbd-fence fence|unfence`: the handlers fence-peer and unfence-peer (8.4: after-resync-target) of drbd.conf.
//!
//! Effect, options and exit status are those of crm-fence-peer.9.sh and crm-unfence-peer.9.sh of drbd-utils: while the peer's data
//! may be old, a location constraint keeps every node that has not the data of this one from being promoted. XML is what it
//! reads of the cluster and what it writes, if the constraint is still as it was read: what another node did is not undone.

use std::process::ExitCode;

use ocf::Log;

#[allow(dead_code, reason = "the agent uses all of it")]
#[path = "../events.rs"]
mod events;
#[allow(dead_code, reason = "the agent uses all of it")]
#[path = "../model.rs"]
mod model;
#[allow(dead_code, reason = "the agent uses all of it")]
#[path = "../proc_drbd.rs"]
mod proc_drbd;

mod change;
mod cib;
mod disks;
mod fence;
mod options;
mod situation;
mod unfence;

use options::{Options, Task};

/// What DRBD does upon the exit status (drbd_nl.c, `conn_try_outdate_peer`): it goes on writing after these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The peer was outdated: it cannot be promoted.
    Outdated = 4,
    /// The peer is not reachable and assumed to be dead; DRBD goes on if its own data is good.
    Unreachable = 5,
    /// The peer was shot.
    Stonithed = 7,
    /// Nothing is sure: DRBD keeps I/O suspended, or does not promote.
    Failed = 1,
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let log = Log::of_program("greenarrow-drbd-fence");
    let result = std::panic::catch_unwind(|| run(&Log::of_program("greenarrow-drbd-fence")));
    let status = match result {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            log.error(&format!("{error:#}"));
            1
        }
        Err(_) => {
            log.error("the handler is broken and gave up; please report it");
            1
        }
    };
    ExitCode::from(status)
}

fn run(log: &Log) -> anyhow::Result<u8> {
    let arguments = std::env::args().skip(1);
    let Some(options) = Options::read(arguments, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))?
    else {
        print!("{}", options::HELP);
        return Ok(0);
    };
    for unknown in &options.ignored {
        log.warning(&format!("{unknown:?} is no option of this handler and has no effect"));
    }
    let _lock = options.lock(log)?;
    let done = match options.task {
        Task::Fence => fence::fence(&options, log).map(|verdict| verdict as u8),
        Task::Unfence => unfence::unfence(&options, log).map(|()| 0),
    };
    if let Ok(status) = &done {
        log.info(&format!("{}: {} ends with {status}", options.resource, options.task.word()));
    }
    done
}
