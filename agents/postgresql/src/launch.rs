//! The server started as a standby, until it answers.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use ocf::{Failure, Run};

use crate::configuration::{self, Own, check_foreign_files, check_included, check_port};
use crate::contact::Closed;
use crate::installation::Installation;
use crate::judgement::Seen;
use crate::parameters::Settings;
use crate::peers;
use crate::postmaster::{self, Processes};
use crate::server::{Said, Standby};
use crate::supervise;
use crate::survey::{self, Survey};
use crate::upkeep;

/// A log file that is larger is put aside at a start.
const LARGEST_LOG: u64 = 16 << 20;
/// So much of the log's end is looked at for the reason of a failed start.
const LAST_WORDS: u64 = 4096;
const LINES: usize = 6;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A long replay says so this often.
const PROGRESS: Duration = Duration::from_secs(10);
/// Between its fork and its pid file a server is not to be seen.
const APPEARS: Duration = Duration::from_secs(5);
/// One that has spoken and is not to be seen for so long has ended.
const ENDED: Duration = Duration::from_millis(500);

/// Starts the server as a standby and gives back what it says once it answers.
pub(crate) fn as_standby(run: &Run, settings: &Settings, installed: &Installation) -> Result<Standby, Failure> {
    configure(run, settings, installed)?;
    postmaster::clear_leftovers(run, &installed.data, &settings.socket_directory, settings.port)?;
    let before = begin(settings, installed)?;
    let standby = await_answer(run, settings, before, Instant::now());
    if let (Err(_), Some(service)) = (&standby, &settings.service) {
        // What is not told otherwise supervise would go on with.
        let _ = supervise::down(service);
    }
    let standby = standby?;
    survey::note_server(run, &installed.data)?;
    Ok(standby)
}

/// Starts the server, and says how long its log was before.
fn begin(settings: &Settings, installed: &Installation) -> Result<u64> {
    if let Some(service) = &settings.service {
        supervise::run_once(service)?;
        return Ok(fs::metadata(&settings.logfile).map_or(0, |facts| facts.len()));
    }
    let (log, before) = open_log(settings, installed)?;
    installed.server(settings, &[]).daemon(Stdio::null(), log.into())?;
    Ok(before)
}

/// Lays down what makes the next start that of a standby, and proves that the server would take it up.
fn configure(run: &Run, settings: &Settings, installed: &Installation) -> Result<(), Failure> {
    check_foreign_files(installed)?;
    let node = peers::own_name(run);
    // A standby that is promoted must not wait for nodes that do not stream from it yet, unless that is demanded.
    let own = Own::of(settings, installed.version, &node, &upkeep::wanted_names(settings, &node, &[]));
    own.write(installed)?;
    check_included(settings, installed, &own, run.deadline, &run.log)?;
    check_port(settings, installed, run.deadline)?;
    Ok(own.write_signal(installed)?)
}

fn await_answer(run: &Run, settings: &Settings, before: u64, begun: Instant) -> Result<Standby, Failure> {
    let (mut told, mut missing_since) = (Instant::now(), Instant::now());
    loop {
        let seen = Survey::take(run, settings)?.seen;
        let missing = matches!(seen, Seen::Absent | Seen::Orphans(_));
        if !missing {
            missing_since = Instant::now();
        }
        match seen {
            Seen::Answering(Said::Standby(standby)) => {
                run.log.info(&format!("the server answers as a standby after {:.1} s", begun.elapsed().as_secs_f32()));
                return Ok(standby);
            }
            Seen::Answering(Said::Primary(_)) => {
                return Err(Failure::generic(
                    "the server came up as a primary although it was to be a standby; a stop ends it. Is the data directory another one than datadir says?",
                ));
            }
            _ if missing && missing_since.elapsed() > if has_spoken(settings, before) { ENDED } else { APPEARS } => {
                return Err(Failure::generic(format!(
                    "the server ended at its start; {}",
                    last_words(settings, before)
                )));
            }
            Seen::Closed(Closed::Refused, why) => return Err(Failure::generic(why)),
            Seen::Closed(Closed::Starting, _) if told.elapsed() >= PROGRESS => {
                told = Instant::now();
                run.log.info(&format!("the server replays its log since {} s", begun.elapsed().as_secs()));
            }
            _ => {}
        }
        if !run.deadline.sleep(LOOK_AGAIN) {
            let reason = format!(
                "the server runs and does not answer as a standby after {} s; if it replays much log, give start a longer timeout. {}",
                begun.elapsed().as_secs(),
                last_words(settings, before)
            );
            return Err(Failure::generic(reason));
        }
    }
}

/// Whether the server has written anything since the start.
fn has_spoken(settings: &Settings, before: u64) -> bool {
    fs::metadata(&settings.logfile).is_ok_and(|facts| facts.len() > before)
}

/// What the server wrote since the start, the last of it, in whatever language.
fn last_words(settings: &Settings, before: u64) -> String {
    let path = settings.logfile.display();
    let bytes = fs::read(&settings.logfile).unwrap_or_default();
    let from = usize::try_from(before.max((bytes.len() as u64).saturating_sub(LAST_WORDS))).unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines[lines.len().saturating_sub(LINES)..] {
        [] => format!("{path} says nothing; look into the server's own log"),
        ref last => format!("{path}: {}", last.join(" | ")),
    }
}

/// The log opened for the server's standard error, and how long it is.
fn open_log(settings: &Settings, installed: &Installation) -> Result<(fs::File, u64)> {
    let path = &settings.logfile;
    if fs::metadata(path).is_ok_and(|facts| facts.len() > LARGEST_LOG) {
        let old = PathBuf::from(format!("{}.old", path.display()));
        fs::rename(path, &old).with_context(|| format!("cannot put {} aside", path.display()))?;
    }
    let open = |path: &Path| -> Result<(fs::File, u64)> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        fchown(&file, Some(installed.user.uid.as_raw()), Some(installed.user.gid.as_raw()))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    };
    open(path).with_context(|| format!("cannot open {}; logfile names it", path.display()))
}

/// Whether nothing of a server is left that could be in the way of a start.
pub(crate) fn check_none_runs(run: &Run, installed: &Installation) -> Result<(), Failure> {
    match Processes::of(&installed.data)? {
        Processes::None => {}
        Processes::Postmaster(file) => {
            let reason = format!(
                "a server runs already as process {}; it answers neither as a standby nor as a primary",
                file.pid
            );
            return Err(Failure::generic(reason));
        }
        Processes::Stray(pids) => {
            let reason = format!("processes of a server without a postmaster are left: {pids:?}; a stop ends them");
            return Err(Failure::generic(reason));
        }
    }
    let segment = postmaster::segment(&installed.data);
    let attached = segment.map_or(Ok(0), |segment| postmaster::still_attached(segment, run.deadline))?;
    if attached > 0 {
        let reason =
            format!("{attached} processes are attached to the shared memory of a server that is gone; end them");
        return Err(Failure::generic(reason));
    }
    Ok(())
}

/// Whether the directory is one that the server has just been given by a base backup, and never ran on.
pub(crate) fn is_new_backup(data: &Path) -> bool {
    data.join("backup_label").exists()
}

/// Whether the server was a primary when it went down: no standby has more than it.
pub(crate) fn was_primary(installed: &Installation) -> bool {
    let state = crate::control::ClusterState::read(&installed.data).ok();
    let primary = state.is_some_and(|state| state.of_primary() != Some(false));
    primary && !is_new_backup(&installed.data) && !configuration::has_signal(&installed.data, installed.version)
}
