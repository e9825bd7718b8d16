//! A server that runs under daemontools' supervise, and what it is told (supervise(8); its files as version 0.76 has them).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use ocf::Deadline;

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Has the server run once: the cluster decides whether it runs again when it has ended, and supervise does not.
pub(crate) fn run_once(service: &Path) -> Result<()> {
    if !service.join("down").exists() {
        bail!(
            "{0} has no file down: at boot supervise would start the server before the cluster knows; touch {0}/down",
            service.display()
        );
    }
    tell(service, b"o")
}

/// Has the server end, by SIGTERM and SIGCONT, and not run again.
pub(crate) fn down(service: &Path) -> Result<()> {
    tell(service, b"d")
}

/// A FIFO without a reader cannot be opened for writing (fifo(7), ENXIO): no supervise runs there.
fn tell(service: &Path, what: &[u8]) -> Result<()> {
    let control = service.join("supervise/control");
    let opened = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&control);
    let told = opened.and_then(|mut fifo| fifo.write_all(what));
    told.with_context(|| {
        format!("cannot tell supervise through {}: does svscan run, and is service right?", control.display())
    })
}

/// Waits until supervise has no process for the service.
pub(crate) fn await_end(service: &Path, deadline: Deadline) -> Result<()> {
    loop {
        let Some(pid) = process(service) else { return Ok(()) };
        if !deadline.sleep(LOOK_AGAIN) {
            bail!("supervise still has process {pid} for {}", service.display());
        }
    }
}

/// The process of the service. None: there is none, or no supervise; the status of one that is gone goes stale.
fn process(service: &Path) -> Option<u32> {
    let ok = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(service.join("supervise/ok"));
    ok.ok()?;
    process_in(&fs::read(service.join("supervise/status")).ok()?)
}

/// 18 bytes: the time of the last change in twelve, the process id in four, the lowest first, and two flags.
fn process_in(status: &[u8]) -> Option<u32> {
    let pid = u32::from_le_bytes(status.get(12..16)?.try_into().ok()?);
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_a_process_or_none() {
        let up = b"\x40\0\0\0\x6b\x03\x2a\x34\x21\x26\xe2\x94\x61\x51\0\0\0u";
        assert_eq!(process_in(up), Some(20_833));
        let mut down = *up;
        down[12..16].fill(0);
        assert_eq!((process_in(&down), process_in(&up[..14])), (None, None));
    }

    #[test]
    fn a_service_that_nobody_supervises_is_named() {
        let service = std::env::temp_dir().join(format!("ocf-postgresql-service-{}", std::process::id()));
        fs::create_dir_all(service.join("supervise")).unwrap();
        assert!(format!("{:#}", run_once(&service).unwrap_err()).contains("touch"));
        fs::write(service.join("down"), "").unwrap();
        let _ = fs::remove_file(service.join("supervise/control"));
        nix::unistd::mkfifo(&service.join("supervise/control"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(format!("{:#}", run_once(&service).unwrap_err()).contains("does svscan run"));
        assert!(await_end(&service, Deadline::after(Duration::ZERO)).is_ok());
    }
}
