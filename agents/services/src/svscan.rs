//! svscan(8), which starts a supervise for each service: whether it runs, and who starts it when it does not.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ocf::{Program, Run};

use crate::parameters::Settings;
use crate::processes::{Process, Processes};

/// Where GreenArrow, daemontools' own installation and distributions have the programs of daemontools.
const PLACES: [&str; 4] = ["/var/hvmail/djb/bin", "/command", "/usr/local/bin", "/usr/bin"];
/// svscan looks for new services, and for supervises that have died, every five seconds (svscan.c: `deepsleep(5)`), and
/// supervise needs a moment.
pub(crate) const NEXT_SCAN: Duration = Duration::from_secs(7);
/// How long svscan may take to appear after it was started.
const APPEARS: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What to do when no svscan runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartSvscan {
    /// It is the system's to start it.
    No,
    /// This agent starts it.
    Directly,
    /// This unit of systemd starts it.
    Unit(String),
}

impl StartSvscan {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "none" | "" => Self::No,
            "start" => Self::Directly,
            unit => Self::Unit(unit.to_owned()),
        }
    }
}

/// The characters of unit names (systemd.unit(5)), and no option.
pub(crate) fn is_svscan(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    if text.bytes().all(fits) && !text.starts_with('-') {
        return Ok(());
    }
    Err("none, start or the name of a systemd unit is expected".to_owned())
}

/// The svscan of the scan directory.
pub(crate) fn find(settings: &Settings) -> Result<Option<Process>> {
    Ok(Processes::read()?.svscan(&settings.service_dir).cloned())
}

/// Sees to it that svscan runs.
///
/// # Errors
/// It does not, and nobody is to start it, or it could not be started.
pub(crate) fn ensure(run: &Run, settings: &Settings) -> Result<Process> {
    if let Some(svscan) = find(settings)? {
        return Ok(svscan);
    }
    let directory = settings.service_dir.display();
    match &settings.svscan {
        StartSvscan::No => bail!(
            "no svscan runs in {directory}, so nothing can be started there; start it (greenarrow's own unit does as a rule), \
             or set svscan=start or svscan=UNIT"
        ),
        StartSvscan::Directly => start(&settings.service_dir)?,
        StartSvscan::Unit(unit) => start_unit(run, unit)?,
    }
    let deadline = run.deadline.at_most(APPEARS);
    loop {
        if let Some(svscan) = find(settings)? {
            run.log.info(&format!("svscan was started in {directory}: {svscan}"));
            return Ok(svscan);
        }
        if !deadline.sleep(LOOK_AGAIN) {
            bail!("svscan was started, but {:.0} s later none runs in {directory}", deadline.budget().as_secs_f32());
        }
    }
}

fn start_unit(run: &Run, unit: &str) -> Result<()> {
    let started = Program::new("systemctl").args(["start", "--", unit]).run(run.deadline)?;
    started.success(&format!("systemctl start {unit}")).map(drop)
}

/// As svscanboot(8) does: its messages, and those of the supervises, go to readproctitle, which shows the last of them in
/// its process title.
fn start(directory: &Path) -> Result<()> {
    let Some(svscan) = installed("svscan") else {
        bail!(
            "svscan is not installed: it is in none of {}; install daemontools, or set svscan=none",
            PLACES.join(", ")
        );
    };
    // svscan runs supervise, and services run multilog, by name.
    let path = format!("{}:{}", PLACES.join(":"), Program::search_path());
    let errors = match installed("readproctitle") {
        Some(readproctitle) => {
            let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
            let title = ["service".to_owned(), "errors: ".to_owned() + &".".repeat(400)];
            program(&readproctitle).args(title).daemon(reader.into(), Stdio::null())?;
            writer.into()
        }
        None => Stdio::null(),
    };
    program(&svscan).args([directory]).variable("PATH", &path).daemon(Stdio::null(), errors)
}

fn program(path: &Path) -> Program {
    Program::new(&path.to_string_lossy())
}

fn installed(name: &str) -> Option<PathBuf> {
    PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_a_word_of_its_own() {
        for right in ["none", "start", "greenarrow.service", "svscan@service.service"] {
            assert_eq!(is_svscan(right), Ok(()), "{right}");
        }
        for wrong in ["--now", "a b", "x;y", "/bin/true"] {
            assert!(is_svscan(wrong).is_err(), "{wrong}");
        }
        assert_eq!(StartSvscan::parse("svscan.service"), StartSvscan::Unit("svscan.service".into()));
        assert_eq!(StartSvscan::parse("none"), StartSvscan::No);
    }
}
