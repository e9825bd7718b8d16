//! Changed parameters taken up, and the MTA told that something about this node has changed, such as its addresses.

use std::fs;

use anyhow::Result;
use nix::sys::signal::Signal;
use ocf::{Action, Done, Run};

use crate::greenarrow;
use crate::guard;
use crate::parameters::{ReloadMta, Settings};
use crate::raise::{normally_down, up};
use crate::record::{Record, Role};
use crate::scan::{Look, Scan, Unit};
use crate::supervise::tell;

pub(crate) fn reload(run: &Run, settings: &Settings) -> Done {
    if let Some(wrong) = &settings.wrong {
        run.log.error(&format!("{wrong}; nothing was changed"));
        return Ok(());
    }
    let Some(record) = Record::read(&run.store)? else {
        run.log.info("not started; there is nothing to reload");
        return Ok(());
    };
    guard::settle(run, settings)?;
    if record.role == Role::Unpromoted {
        return Ok(());
    }
    bring_up_what_is_new(run, settings)?;
    if run.action == Action::Reload {
        tell_mta(run, settings)?;
    }
    Ok(())
}

/// Services that are no longer normally down, or were added to the scan directory.
fn bring_up_what_is_new(run: &Run, settings: &Settings) -> Result<()> {
    let new =
        |look: &&Look| !normally_down(settings, look) && look.supervised && look.pid().is_none() && !look.wanted_up();
    let new: Vec<Unit> = Scan::take(settings).looks.iter().filter(new).map(|look| look.unit.clone()).collect();
    if !new.is_empty() {
        let names: Vec<&str> = new.iter().map(|unit| unit.name.as_str()).collect();
        run.log.info(&format!("brought up: {}", names.join(", ")));
    }
    up(run, &new)
}

fn tell_mta(run: &Run, settings: &Settings) -> Result<()> {
    match settings.reload_mta {
        ReloadMta::None => Ok(()),
        ReloadMta::Restart => {
            if !greenarrow::control_mta(run, &settings.mta_control, "restart", run.deadline)? {
                run.log.warning(&format!("{} is not there; the MTA was not told", settings.mta_control.display()));
            }
            Ok(())
        }
        ReloadMta::Hup => {
            let scan = Scan::take(settings);
            scan.services()
                .filter(|look| settings.mta_services.matches(&look.unit.name))
                .try_for_each(|look| hup(run, look))
        }
    }
}

/// SIGHUP ends a process that does nothing about it, and a service's ./run may be a script around its program.
fn hup(run: &Run, look: &Look) -> Result<()> {
    let (Some(pid), name) = (look.pid(), &look.unit.name) else { return Ok(()) };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    if !catches(&status, Signal::SIGHUP) {
        run.log.warning(&format!("{name}: process {pid} does not catch SIGHUP, which would end it; it was not told"));
        return Ok(());
    }
    tell(&look.unit.directory, "h").map_err(anyhow::Error::msg)?;
    run.log.info(&format!("{name}: process {pid} was told by SIGHUP to read its configuration anew"));
    Ok(())
}

/// The mask SigCgt of proc_pid_status(5): bit 0 is signal 1.
fn catches(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (signal as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_caught_signals_is_read() {
        let status = "Name:\tqmail-send\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000014001\n";
        assert!(catches(status, Signal::SIGHUP) && catches(status, Signal::SIGTERM));
        assert!(!catches(status, Signal::SIGINT) && !catches("", Signal::SIGHUP));
    }
}
