//! To stopped, from anything, and the proof of it: no process and no shared memory of the server is left.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use ocf::{Deadline, Done, Failure, Run};

use crate::parameters::Settings;
use crate::peers;
use crate::postmaster::{self, Processes};
use crate::record;
use crate::supervise;
use crate::survey::{forget_server, place, started};

const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A long shutdown says so this often.
const PROGRESS: Duration = Duration::from_secs(10);

pub(crate) fn stop(run: &Run, settings: &Settings) -> Done {
    if settings.place_is_wrong && started(run).is_none() {
        let wrong = settings.wrong.clone().unwrap_or_default();
        run.log.warning(&format!("{wrong}; no server that was started here runs, so there is none to stop"));
    } else {
        shut_down(run, settings, &place(run, settings))?;
    }
    record::forget(&run.store)?;
    run.cluster().promotion_score(None);
    peers::withdraw_history(run);
    run.cluster().forget();
    Ok(())
}

/// Ends the server of the data directory: by a fast shutdown, by an immediate one, by force, each in its share of the time.
pub(crate) fn shut_down(run: &Run, settings: &Settings, data: &Path) -> Done {
    let segment = postmaster::segment(data);
    if let Some(service) = &settings.service
        && let Err(error) = supervise::down(service)
    {
        // Without supervise there is nobody who would start it again.
        run.log.warning(&format!("{error:#}"));
    }
    let (fast, immediate) = settings.stop_times(run.deadline.remaining());
    // Signals as the server takes them: documentation, "Shutting Down the Server".
    for (signal, time, word) in [(Signal::SIGINT, fast, "a fast"), (Signal::SIGQUIT, immediate, "an immediate")] {
        let Processes::Postmaster(file) = look(run, data)? else { break };
        if postmaster::signal(file.pid, signal)? {
            run.log.step(&format!("process {} is told {word} shutdown", file.pid));
        }
        if await_end(run, data, run.deadline.at_most(time), word)? {
            break;
        }
        run.log.warning(&format!("{word} shutdown did not end the server within {:.0} s", time.as_secs_f32()));
    }
    end_by_force(run, data)?;
    prove(run, data, segment)?;
    settings.service.as_ref().map_or(Ok(()), |service| supervise::await_end(service, run.deadline))?;
    forget_server(run)?;
    // Nothing is left of it but files, and those hinder nobody.
    if let Err(error) = postmaster::clear_leftovers(run, data, &settings.socket_directory, settings.port) {
        run.log.warning(&format!("{error:#}"));
    }
    Ok(())
}

/// What runs. Where the disk does not give the pid file there is no telling who the postmaster is, and all are ended alike.
fn look(run: &Run, data: &Path) -> Result<Processes> {
    Processes::of(data).or_else(|error| {
        run.log.warning(&format!("{error:#}"));
        let left = postmaster::all_in(data)?;
        Ok(if left.is_empty() { Processes::None } else { Processes::Stray(left) })
    })
}

/// Whether the postmaster ended in time.
fn await_end(run: &Run, data: &Path, deadline: Deadline, word: &str) -> Result<bool> {
    let mut told = Deadline::after(PROGRESS);
    loop {
        if !matches!(look(run, data)?, Processes::Postmaster(_)) {
            return Ok(true);
        }
        if told.passed() {
            run.log.info(&format!(
                "{word} shutdown is under way; {:.0} s are left for it",
                deadline.remaining().as_secs_f32()
            ));
            told = Deadline::after(PROGRESS);
        }
        if !deadline.sleep(LOOK_AGAIN) {
            return Ok(false);
        }
    }
}

/// What is left is killed, again and again: a postmaster may start a process while its list is read. Children of a
/// postmaster that is gone end by themselves as a rule (PostmasterIsAlive), and are given a moment for it.
fn end_by_force(run: &Run, data: &Path) -> Result<()> {
    let grace = run.deadline.at_most(Duration::from_secs(1));
    while matches!(look(run, data)?, Processes::Stray(_)) && grace.sleep(LOOK_AGAIN) {}
    loop {
        let left = postmaster::all_in(data)?;
        if left.is_empty() {
            return Ok(());
        }
        for pid in &left {
            postmaster::signal(*pid, Signal::SIGKILL)?;
        }
        run.log.step(&format!("processes {left:?} are killed"));
        if !run.deadline.sleep(LOOK_AGAIN) {
            return Ok(());
        }
    }
}

fn prove(run: &Run, data: &Path, segment: Option<u64>) -> Done {
    let left = postmaster::all_in(data)?;
    if !left.is_empty() {
        let each = left.iter().map(|pid| match postmaster::state_of(*pid) {
            Some('D') => format!("{pid} ({}; waits for a disk or a remote file system)", title(*pid)),
            state => format!("{pid} ({}; state {})", title(*pid), state.unwrap_or('?')),
        });
        let each = each.collect::<Vec<_>>().join(", ");
        return Err(Failure::generic(format!(
            "the server is not gone: even SIGKILL did not end {each}; the node has to be fenced"
        )));
    }
    match segment.map_or(Ok(0), |segment| postmaster::still_attached(segment, run.deadline))? {
        0 => Ok(()),
        count => Err(Failure::generic(format!(
            "{count} processes are still attached to the server's shared memory, and none of them stands in {}; find them with \
             lsof and end them",
            data.display()
        ))),
    }
}

/// What a server's process calls itself.
fn title(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let title = String::from_utf8_lossy(&bytes).replace('\0', " ");
    title.trim().to_owned()
}
