//! An old primary that has written what the new one does not have: refused with the command that mends it, rewound, or
//! replaced by a base backup.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use ocf::{Deadline, Failure, Kind, Run};

use crate::aside::{Aside, open_plain};
use crate::base_backup;
use crate::configuration::{self, source};
use crate::installation::Installation;
use crate::judgement::diverged;
use crate::launch;
use crate::parameters::{Rejoin, Settings};
use crate::peers;
use crate::permission::{self, Loss};
use crate::position::{Lsn, Position, Standing};
use crate::server::Standby;
use crate::start::parted;
use crate::survey::disk;
use crate::wal;

/// Files of the data directory that are this node's own, and that pg_rewind replaces by the primary's.
const NODES_OWN: [&str; 4] = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];
/// A primary that was promoted a moment ago writes its new timeline into its control file with the next checkpoint, and
/// pg_rewind before 16 does not believe it earlier.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// A program that takes long is heard of so often.
const PROGRESS: Duration = Duration::from_secs(10);

/// There while a rewind is under way: a directory that it left half-way must never be started.
fn marker(data: &Path) -> PathBuf {
    beside(data, "rewinding")
}

pub(crate) fn beside(data: &Path, what: &str) -> PathBuf {
    PathBuf::from(format!("{}.{what}", data.display()))
}

/// Whether a rewind has left the directory half-way.
pub(crate) fn is_half_rewound(installed: &Installation) -> bool {
    marker(&installed.data).exists()
}

/// What a start does with a directory that must never be started.
pub(crate) fn replace_half_rewound(run: &Run, settings: &Settings, installed: &Installation) -> Result<(), Failure> {
    let source = source(settings, installed.version, &peers::own_name(run));
    permission::note_parted(run, Loss::HalfRewound);
    let way = permission::take(run, Loss::HalfRewound).unwrap_or(settings.rejoin);
    if let (Rejoin::BaseBackup, Some(source)) = (way, source) {
        return replaced(run, settings, installed, &source).map(drop);
    }
    let marker = marker(&installed.data);
    run.log.error(&format!(
        "a pg_rewind of {} was interrupted, which leaves a directory that must not be started. Take a new base backup with \
         pg_basebackup and remove {}, or set rejoin=basebackup, then: crm_resource --cleanup --resource {}; or: hvmail_ha rejoin",
        installed.data.display(),
        marker.display(),
        run.environment.resource()
    ));
    let reason = format!("an interrupted pg_rewind ({}): set rejoin=basebackup, or see the log", marker.display());
    Err(Failure::new(Kind::Arguments, reason))
}

/// What a start does with a server that has parted from the primary, which is stopped.
pub(crate) fn rejoin(
    run: &Run,
    settings: &Settings,
    installed: &Installation,
    standing: Standing,
    own: &Position,
) -> Result<(), Failure> {
    let parted_at = diverged(Some(standing), own.lsn).unwrap_or_default();
    let Some(source) = source(settings, installed.version, &peers::own_name(run)) else {
        let reason = format!("{parted_at}; set primary_hosts, so that a start can mend it");
        return Err(Failure::new(Kind::Arguments, reason));
    };
    let way = way(run, settings, standing, own);
    if !way.mends(standing) {
        return Err(refused(run, installed, &source, standing, &parted_at));
    }
    run.log.warning(&parted_at);
    let standby = if way == Rejoin::BaseBackup {
        keep_aside(run, installed, own, standing)?;
        replaced(run, settings, installed, &source)?
    } else {
        check_rewindable(run, installed)?;
        keep_aside(run, installed, own, standing)?;
        rewound(run, settings, installed, &source)?
    };
    match parted(run, installed, &standby)? {
        None => Ok(()),
        Some((standing, own)) => {
            let reason = format!("even now {}", diverged(Some(standing), own.lsn).unwrap_or_default());
            Err(Failure::new(Kind::Arguments, format!("{reason}; take a new base backup")))
        }
    }
}

/// By the operator's word for just this, else as the parameter says.
fn way(run: &Run, settings: &Settings, standing: Standing, own: &Position) -> Rejoin {
    let Some(loss) = Loss::of(standing, own) else { return settings.rejoin };
    permission::note_parted(run, loss);
    permission::take(run, loss).unwrap_or(settings.rejoin)
}

fn check_rewindable(run: &Run, installed: &Installation) -> Result<(), Failure> {
    // It would stop half-way, and leave a directory that is good for nothing.
    if disk(&installed.data, None).full {
        let data = installed.data.display();
        let reason = format!(
            "{data} parted from the primary, and its disk is too full to rewind it: free some, then: crm_resource --cleanup"
        );
        return Err(Failure::new(Kind::Arguments, reason));
    }
    if installed.control_data(run.deadline)?.can_be_rewound {
        return Ok(());
    }
    let reason =
        "pg_rewind needs wal_log_hints=on or data checksums, which this server has not: take a new base backup";
    Err(Failure::new(Kind::Arguments, reason))
}

fn replaced(run: &Run, settings: &Settings, installed: &Installation, source: &str) -> Result<Standby, Failure> {
    base_backup::replace(run, installed, source)?;
    forget_marker(&installed.data)?;
    launch::as_standby(run, settings, installed)
}

/// The refusal, short, for Pacemaker shows no more than 127 bytes of an exit reason (EXIT_REASON_MAX_LEN); the command to
/// type goes to the log.
fn refused(run: &Run, installed: &Installation, source: &str, standing: Standing, parted_at: &str) -> Failure {
    let (bindir, data, user) = (installed.bindir().display(), installed.data.display(), &installed.user.name);
    let way = if matches!(standing, Standing::Diverged(_)) {
        run.log.error(&format!(
            "to throw away what only this node has, as user {user}: {bindir}/pg_rewind --target-pgdata={data} \
             --source-server=\"{source}\"; then: crm_resource --cleanup --resource {}; or, as root: hvmail_ha rejoin",
            run.environment.resource()
        ));
        "set rejoin=rewind, or see the log"
    } else {
        run.log.error(&format!(
            "this node needs a new base backup: move {data} away, and as user {user}: {bindir}/pg_basebackup -D {data} \
             -d \"{source}\"; then: crm_resource --cleanup --resource {}; or, as root: hvmail_ha rejoin",
            run.environment.resource()
        ));
        "take a new base backup, see the log"
    };
    Failure::new(Kind::Arguments, format!("{parted_at}; {way}"))
}

/// Runs pg_rewind, and starts the server. The marker stands from before the first change until after the last.
fn rewound(run: &Run, settings: &Settings, installed: &Installation, source: &str) -> Result<Standby, Failure> {
    let marker = marker(&installed.data);
    let own_files = own_files(&installed.data);
    dry_run(run, installed, source)?;
    let set = || -> Result<()> {
        File::create_new(&marker)?.sync_all()?;
        Ok(File::open(marker.parent().context("a marker in no directory")?)?.sync_all()?)
    };
    set().with_context(|| format!("cannot write {}", marker.display()))?;
    // Whoever asks after an interruption is to be told of what there is then.
    permission::note_parted(run, Loss::HalfRewound);
    let output = rewind(installed, source, &["--progress"]).run_telling(run.deadline, &mut progress(run, "pg_rewind"));
    let output = output.and_then(|output| output.success("pg_rewind"));
    for (path, content) in own_files {
        configuration::place(installed, &path, &content)?;
    }
    output.map_err(|error| {
        Failure::new(
            Kind::Arguments,
            format!("{error:#}; {} is not to be started: take a new base backup", installed.data.display()),
        )
    })?;
    forget_marker(&installed.data)?;
    run.log.info("pg_rewind has taken back what only this node had");
    launch::as_standby(run, settings, installed)
}

/// Has the log show how far a program is, and not each of its lines.
pub(crate) fn progress(run: &Run, program: &str) -> impl FnMut(&str) {
    let mut silent = Deadline::after(Duration::ZERO);
    move |line| {
        run.log.step(line);
        if silent.passed() && !line.trim().is_empty() {
            run.log.info(&format!("{program}: {}", line.trim()));
            silent = Deadline::after(PROGRESS);
        }
    }
}

pub(crate) fn forget_marker(data: &Path) -> Result<()> {
    let marker = marker(data);
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", marker.display()))
        }
        _ => Ok(()),
    }
}

/// The same without changing anything: most of what can hinder it shows here, with the directory whole. A source that
/// does not say its new timeline yet is asked again.
fn dry_run(run: &Run, installed: &Installation, source: &str) -> Result<(), Failure> {
    let deadline: Deadline = run.deadline.at_most(run.deadline.remaining() / 2);
    loop {
        let output = rewind(installed, source, &["--dry-run"]).run(deadline)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        // The words are those of the C locale, in which the library runs programs.
        let not_yet = said.contains("no rewind required") || said.contains("same timeline");
        if output.status.success() && !not_yet {
            return Ok(());
        }
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        if !deadline.sleep(ASK_AGAIN) {
            return Err(Failure::generic(format!("pg_rewind would not do it; nothing was changed: {words}")));
        }
        run.log.info(&format!("pg_rewind would not do it yet: {words}"));
    }
}

fn rewind(installed: &Installation, source: &str, more: &[&str]) -> ocf::Program {
    let target = format!("--target-pgdata={}", installed.data.display());
    let words = [target, format!("--source-server={source}")];
    installed.program("pg_rewind").args(words).args(more.iter().copied())
}

pub(crate) fn own_files(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: &Path| -> Result<Vec<u8>> {
        let mut content = Vec::new();
        open_plain(path)?.read_to_end(&mut content)?;
        Ok(content)
    };
    let paths = NODES_OWN.iter().map(|name| data.join(name));
    paths.filter_map(|path| read(&path).ok().map(|content| (path, content))).collect()
}

/// Copies the log from the place where the ways part: what was acknowledged here and nowhere else is in it, for whoever
/// wants to look with pg_waldump.
fn keep_aside(run: &Run, installed: &Installation, own: &Position, standing: Standing) -> Result<()> {
    let left = match standing {
        Standing::Diverged(left) => left,
        // Nobody can tell where they parted: all that there is.
        Standing::Unrelated => Lsn(0),
        _ => return Ok(()),
    };
    let aside = Aside::open(installed, own.timeline, left)?;
    let mut kept = 0;
    for (segment, path) in wal::segments(&installed.data)? {
        if segment.timeline == own.timeline && segment.range.end > left.0 {
            aside.keep(&path)?;
            kept += 1;
        }
    }
    run.log.warning(&format!("{kept} files of log that only this node has are kept in {}", aside.path().display()));
    Ok(())
}
