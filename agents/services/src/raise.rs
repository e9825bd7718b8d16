//! Services brought up in their order, and watched until each has settled.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use ocf::{Deadline, Failure, Run, uptime};

use crate::greenarrow;
use crate::guard;
use crate::multilog;
use crate::parameters::Settings;
use crate::processes::{Process, Processes};
use crate::record::{Life, Record, life_of};
use crate::scan::{DownFile, Fault, Look, Scan, Unit};
use crate::supervise::tell;
use crate::svscan::{self, NEXT_SCAN};
use crate::target::Target;

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// supervise starts a service at once; one on a loaded machine needs a moment.
const APPEARS: Duration = Duration::from_secs(5);
/// How long an orphan is waited for after SIGTERM.
const ORPHAN_GOES: Duration = Duration::from_secs(10);
/// A service that has been started anew so often does not settle, however long it is watched.
const RESTARTS: u32 = 3;
/// As many of those that did not settle are named.
const SHOWN: usize = 3;

/// Whether a unit is not to be brought up. A log is, even that of a service that is down.
pub(crate) fn normally_down(settings: &Settings, look: &Look) -> bool {
    let unit = &look.unit;
    look.down_file == DownFile::Theirs || !unit.log && settings.expected_down.matches(&unit.name)
}

/// Whether the failure of this unit fails the resource.
pub(crate) fn is_critical(settings: &Settings, unit: &Unit) -> bool {
    !unit.log && settings.critical.matches(&unit.name)
}

/// Brings the services up, and gives back how many there are. Those that are up already are not touched.
///
/// # Errors
/// None came up, or a critical one did not: which, and what it logged last.
pub(crate) fn raise(run: &Run, settings: &Settings, before: Option<&Record>) -> Result<usize, Failure> {
    let scan = expected(settings)?;
    if settings.boot_guard {
        guard::establish(&scan.looks)?;
    }
    let svscan = svscan::ensure(run, settings)?;
    let wanted: Vec<&Look> = scan.looks.iter().filter(|look| !normally_down(settings, look)).collect();
    let usable = usable(run, settings, &wanted)?;
    let mut record = Record::active(&scan.looks);
    record.svscan = Some((svscan.pid, svscan.started));
    // What an earlier record says of directories that are elsewhere now must not be forgotten before a stop.
    for (name, seen) in before.iter().flat_map(|before| &before.units) {
        record.units.entry(name.clone()).or_insert_with(|| seen.clone());
    }
    record.write(&run.store)?;
    supervised(run, &usable)?;
    end_orphans(run, &wanted, before)?;
    start_in_order(run, settings, &usable)?;
    let unsettled = settle(run, settings, &usable);
    let services = usable.iter().filter(|unit| !unit.log).count();
    judge(run, settings, services, &unsettled)?;
    let mut record = Record::active(&Scan::take(settings).looks);
    record.svscan = Some((svscan.pid, svscan.started));
    // The first monitor then knows of the restarts that were seen here.
    for (unit, _) in &unsettled {
        record.units.entry(unit.name.clone()).or_default().restarts.push(uptime());
    }
    record.write(&run.store)?;
    Ok(services - unsettled.iter().filter(|(unit, _)| !unit.log).count())
}

/// The scan directory, with at least one service in it.
pub(crate) fn expected(settings: &Settings) -> Result<Scan> {
    let scan = Scan::take(settings);
    if let Some(fault) = &scan.fault {
        bail!("{}", fault.words());
    }
    let reachable = scan.services().any(|look| look.fault.is_none() && !normally_down(settings, look));
    if !reachable {
        let faults: Vec<&str> = scan.services().filter_map(|look| look.fault.as_ref()).map(Fault::words).collect();
        let found = faults.first().map_or("nothing there matches pattern".to_owned(), |fault| (*fault).to_owned());
        bail!("there is no service to bring up in {}: {found}", settings.service_dir.display());
    }
    Ok(scan)
}

fn usable(run: &Run, settings: &Settings, wanted: &[&Look]) -> Result<Vec<Unit>> {
    let mut usable = Vec::new();
    for look in wanted {
        match &look.fault {
            Some(fault) if is_critical(settings, &look.unit) => {
                bail!("{}; {} is critical", fault.words(), look.unit.name)
            }
            Some(fault) => run.log.warning(&format!("{}; the other services are brought up", fault.words())),
            None => usable.push(look.unit.clone()),
        }
    }
    Ok(usable)
}

/// Waits until svscan has started a supervise for each. It finds directories that have just been mounted at its next scan.
fn supervised(run: &Run, units: &[Unit]) -> Result<()> {
    let deadline = run.deadline.at_most(NEXT_SCAN);
    loop {
        let looks = Scan::again(units);
        let without: Vec<&str> =
            looks.iter().filter(|look| !look.supervised).map(|look| look.unit.name.as_str()).collect();
        if without.is_empty() {
            return Ok(());
        }
        if !deadline.sleep(LOOK_AGAIN) {
            bail!(
                "svscan has started no supervise for {} within {:.0} s; its messages say why (readproctitle in ps, or the \
                 journal)",
                without.join(", "),
                deadline.budget().as_secs_f32()
            );
        }
    }
}

/// A process that a dead supervise has left behind would have the ports and the files of the one to be started.
fn end_orphans(run: &Run, looks: &[&Look], record: Option<&Record>) -> Result<()> {
    let mut targets: Vec<Target> = looks
        .iter()
        .map(|look| Target::new(look, record.and_then(|record| record.units.get(&look.unit.name))))
        .collect();
    for target in &mut targets {
        end_orphans_of(run, target)?;
    }
    Ok(())
}

/// Ends what no supervise looks after, and gives back what that was.
pub(crate) fn end_orphans_of(run: &Run, target: &mut Target) -> Result<Vec<Process>> {
    let found = target.look(&Processes::read()?).orphans;
    if found.is_empty() {
        return Ok(found);
    }
    let shown = found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    run.log.warning(&format!("{}: {shown} is left of a supervise that died, and is ended", target.unit.name));
    for (signal, patience) in [(Signal::SIGTERM, ORPHAN_GOES), (Signal::SIGKILL, APPEARS)] {
        let deadline = run.deadline.at_most(patience);
        for process in &found {
            process.signal(signal)?;
            process.signal(Signal::SIGCONT)?;
        }
        while found.iter().any(Process::lives) && deadline.sleep(LOOK_AGAIN) {}
    }
    match found.iter().find(|process| process.lives()) {
        Some(process) => bail!("{}: {process} does not end, and no second one may run beside it", target.unit.name),
        None => Ok(found),
    }
}

/// Logs first, so that nothing is lost; the MTA by GreenArrow's own program, which may prepare what its services need; all
/// others; and at last those that are stopped first.
fn start_in_order(run: &Run, settings: &Settings, units: &[Unit]) -> Result<()> {
    let (logs, services): (Vec<Unit>, Vec<Unit>) = units.iter().cloned().partition(|unit| unit.log);
    let (last, others): (Vec<Unit>, Vec<Unit>) =
        services.into_iter().partition(|unit| settings.stop_first.matches(&unit.name));
    up(run, &logs)?;
    if let Err(error) =
        greenarrow::control_mta(run, &settings.mta_control, "start", run.deadline.at_most(run.deadline.remaining() / 2))
    {
        run.log.warning(&format!("{error:#}; its services are started through their supervises"));
    }
    up(run, &others)?;
    up(run, &last)
}

/// Tells the supervises to start their services, and waits for a process of each.
pub(crate) fn up(run: &Run, units: &[Unit]) -> Result<()> {
    for unit in units {
        run.log.step(&format!("{}: up", unit.name));
        // `c` for one that somebody paused: `u` alone leaves it stopped.
        let told = tell(&unit.directory, "uc").map_err(anyhow::Error::msg)?;
        anyhow::ensure!(told, "the supervise of {} has died this moment", unit.name);
    }
    let deadline = run.deadline.at_most(APPEARS);
    // One that dies at once may never be seen alive; whether it settles is seen later.
    while Scan::again(units).iter().any(|look| look.pid().is_none()) && deadline.sleep(LOOK_AGAIN) {}
    Ok(())
}

/// A unit that is watched until it has been up for long enough.
struct Watched {
    unit: Unit,
    life: Option<Life>,
    since: Instant,
    restarts: u32,
    settled: bool,
}

/// Waits until each unit has been up for settle_time, and gives back those that were not, with what was seen of them.
fn settle(run: &Run, settings: &Settings, units: &[Unit]) -> Vec<(Unit, String)> {
    let began = Instant::now();
    let watch = |unit: &Unit| Watched { unit: unit.clone(), life: None, since: began, restarts: 0, settled: false };
    let mut watched: Vec<Watched> = units.iter().map(watch).collect();
    let deadline: Deadline = run.deadline.at_most(settings.settle_time * 3 + APPEARS);
    loop {
        for (one, look) in watched.iter_mut().zip(Scan::again(units)) {
            one.see(&look, settings.settle_time);
        }
        let hopeful = watched.iter().any(|one| !one.settled && one.restarts < RESTARTS);
        if !hopeful || !deadline.sleep(LOOK_AGAIN) {
            let took = began.elapsed();
            return watched.iter().filter(|one| !one.settled).map(|one| (one.unit.clone(), one.words(took))).collect();
        }
    }
}

impl Watched {
    fn see(&mut self, look: &Look, settle_time: Duration) {
        let life = life_of(look);
        // supervise sleeps for a second after each start and sees only then that its service has ended (supervise.c:
        // `deepsleep(1)`).
        let runs = life.is_some_and(|life| Process::find(life.pid).is_some());
        if life != self.life {
            self.restarts += u32::from(self.life.is_some());
            // One that was up before this began has settled already, if the clock on the wall is to be believed.
            self.settled = self.restarts == 0 && runs && life.is_some_and(|life| life.since.elapsed() >= settle_time);
            (self.life, self.since) = (life, Instant::now());
        }
        self.settled |= runs && self.since.elapsed() >= settle_time;
    }

    fn words(&self, took: Duration) -> String {
        let (name, seconds) = (&self.unit.name, took.as_secs());
        let what = match (self.restarts, self.life) {
            (0, None) => format!("{name} is not up {seconds} s after it was told to start"),
            (0, Some(_)) => format!("{name} has been up for less than settle_time after {seconds} s"),
            (count, _) => format!("{name} flaps: it ended {count} times in {seconds} s"),
        };
        match multilog::last_words(&self.unit.directory, name) {
            Some(words) => format!("{what}; it logged last: {words}"),
            None => what,
        }
    }
}

/// A service that does not settle is no reason to take the others away, unless it is critical or there are no others.
fn judge(run: &Run, settings: &Settings, services: usize, unsettled: &[(Unit, String)]) -> Result<()> {
    let failed: Vec<&(Unit, String)> = unsettled.iter().filter(|(unit, _)| !unit.log).collect();
    let shown = |list: &[&(Unit, String)]| {
        let words: Vec<&str> = list.iter().take(SHOWN).map(|(_, words)| words.as_str()).collect();
        words.join("; ")
    };
    let critical: Vec<&(Unit, String)> =
        failed.iter().copied().filter(|(unit, _)| is_critical(settings, unit)).collect();
    if !critical.is_empty() {
        bail!(
            "{} of {services} services did not settle, a critical one among them: {}",
            failed.len(),
            shown(&critical)
        );
    }
    if failed.len() == services {
        return Err(anyhow::anyhow!("{}", shown(&failed))).context("none of the services came up");
    }
    for (_, words) in unsettled {
        run.log.warning(&format!("{words}; the others are up"));
    }
    Ok(())
}
