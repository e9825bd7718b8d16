//! Services brought down in their order, and the proof that nothing of them is left.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use ocf::{Deadline, Run};

use crate::escalation::Escalation;
use crate::greenarrow;
use crate::parameters::Settings;
use crate::processes::Processes;
use crate::record::Record;
use crate::scan::{DownFile, Scan};
use crate::svscan::NEXT_SCAN;
use crate::target::{Situation, Target};

/// What stops first is given so long before the others follow; it gets no signal but SIGTERM by then.
const HEAD_START: Duration = Duration::from_secs(30);
/// A supervise that is told to go goes at once when its service is down.
const SUPERVISE_GOES: Duration = Duration::from_secs(3);
/// How often a person who reads the log hears what is waited for.
const PROGRESS: Duration = Duration::from_secs(10);
/// Two looks at all processes are apart by so much at least, and by four times what a look takes.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// As many of what is left are named.
const SHOWN: usize = 5;

/// Brings everything down that matches the parameters or was brought up by the record, and gives back how many services
/// were up.
///
/// # Errors
/// Something is left: what, and what was tried.
pub(crate) fn lower(run: &Run, settings: &Settings, record: Option<&Record>) -> Result<usize> {
    let mut descent = Descent::begin(run, settings, record)?;
    let up = descent.now(&Part::Services)?.len();
    if up > 0 {
        descent.services()?;
    }
    descent.escalate(&Part::Logs, run.deadline.remaining())?;
    descent.late_supervises()?;
    descent.dismiss_supervises()?;
    descent.prove()?;
    Ok(up)
}

/// Which of the units.
enum Part {
    First,
    Services,
    Logs,
    All,
}

struct Descent<'a> {
    run: &'a Run,
    settings: &'a Settings,
    targets: Vec<Target>,
    /// What was sent to processes that no supervise looks after.
    signalled: BTreeSet<(i32, i32)>,
}

impl<'a> Descent<'a> {
    fn begin(run: &'a Run, settings: &'a Settings, record: Option<&Record>) -> Result<Self> {
        // The default of a wrong parameter may mean the services of another resource.
        let scan = if settings.services_are_wrong { Scan::default() } else { Scan::take(settings) };
        for fault in scan.fault.iter().chain(scan.looks.iter().filter_map(|look| look.fault.as_ref())) {
            run.log.debug(fault.words());
        }
        let mut targets = Target::all(&scan, record);
        // Before anything is asked to end: what a service has started is its own still when it is gone.
        let processes = Processes::read()?;
        for target in &mut targets {
            target.look(&processes);
        }
        Ok(Self { run, settings, targets, signalled: BTreeSet::new() })
    }

    fn belongs(&self, target: &Target, part: &Part) -> bool {
        match part {
            Part::First => !target.unit.log && self.settings.stop_first.matches(&target.unit.name),
            Part::Services => !target.unit.log,
            Part::Logs => target.unit.log,
            Part::All => true,
        }
    }

    /// Those of a part that are up, by their place in the list.
    fn now(&mut self, part: &Part) -> Result<Vec<(usize, Situation)>> {
        let processes = Processes::read()?;
        let chosen: Vec<usize> =
            (0..self.targets.len()).filter(|place| self.belongs(&self.targets[*place], part)).collect();
        let situations = chosen.into_iter().map(|place| (place, self.targets[place].look(&processes)));
        Ok(situations.filter(|(_, situation)| situation.is_up()).collect())
    }

    /// First those that are to stop first, then the MTA by GreenArrow's own program, then the rest.
    fn services(&mut self) -> Result<()> {
        let budget = self.run.deadline.remaining();
        let first = self.now(&Part::First)?;
        if !first.is_empty() {
            self.ask(&first, Signal::SIGTERM, "d")?;
            let patience = self.run.deadline.at_most(HEAD_START.min(budget / 4));
            self.wait(&Part::First, Signal::SIGTERM, patience)?;
        }
        let patience = self.run.deadline.at_most(self.run.deadline.remaining() / 2);
        if let Err(error) = greenarrow::control_mta(self.run, &self.settings.mta_control, "stop", patience) {
            self.run.log.warning(&format!("{error:#}; its services are stopped through their supervises"));
        }
        // A tenth is kept for the logs and the proof.
        self.escalate(&Part::Services, self.run.deadline.remaining().mul_f64(0.9))
    }

    fn escalate(&mut self, part: &Part, budget: Duration) -> Result<()> {
        let escalation: Escalation = self.settings.stop_escalation.within(budget);
        for ((signal, letter), time) in escalation.steps() {
            let up = self.now(part)?;
            if up.is_empty() {
                return Ok(());
            }
            if signal != Signal::SIGTERM {
                self.run.log.warning(&format!("{}: {signal} is sent", self.described(&up)));
            }
            self.ask(&up, signal, letter)?;
            if self.wait(part, signal, self.run.deadline.at_most(time))? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A supervise hands the signal on to what it started, and will not start it again. What nobody looks after gets it
    /// directly; and SIGKILL, which no process can hand on, goes to everything.
    fn ask(&mut self, up: &[(usize, Situation)], signal: Signal, letter: &str) -> Result<()> {
        for (place, situation) in up {
            let name = &self.targets[*place].unit.name;
            self.run.log.step(&format!("{name}: {signal}"));
            // A supervise that somebody has stopped hears nothing before it goes on.
            for supervise in situation.supervises.iter().filter(|supervise| supervise.state == 'T') {
                supervise.signal(Signal::SIGCONT)?;
            }
            if let Err(error) = Target::tell(situation, letter) {
                self.run.log.warning(&format!("{name}: {error}"));
            }
            let directly = if signal == Signal::SIGKILL { &situation.members } else { &situation.orphans };
            for process in directly {
                if self.signalled.insert((process.pid, signal as i32)) {
                    process.signal(signal)?;
                    // A stopped one would only hear of it when it goes on.
                    process.signal(Signal::SIGCONT)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until nothing of the part is up. Children that have lost their parent meanwhile are asked as it was.
    fn wait(&mut self, part: &Part, signal: Signal, deadline: Deadline) -> Result<bool> {
        let (began, mut told) = (Instant::now(), Instant::now());
        loop {
            let looked = Instant::now();
            let up = self.now(part)?;
            if up.is_empty() {
                return Ok(true);
            }
            let left_alone: Vec<_> = up.iter().filter(|(_, situation)| situation.main.is_none()).cloned().collect();
            self.ask(&left_alone, signal, "d")?;
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let waited = began.elapsed().as_secs();
                self.run.log.info(&format!("waiting for {waited} s for {}", self.described(&up)));
            }
            if !deadline.sleep(LOOK_AGAIN.max(looked.elapsed() * 4)) {
                return Ok(self.now(part)?.is_empty());
            }
        }
    }

    /// A supervise that was killed comes back within one scan of svscan, and without a `down` file it would start its
    /// service then, after this action has said that nothing runs.
    fn late_supervises(&mut self) -> Result<()> {
        let processes = Processes::read()?;
        if processes.svscan(&self.settings.service_dir).is_none() {
            return Ok(());
        }
        let late = |target: &mut Target| {
            target.down_file == DownFile::None
                && target.unit.directory.join("run").exists()
                && target.look(&processes).control.is_none()
        };
        let mut awaited: Vec<usize> = (0..self.targets.len()).filter(|place| late(&mut self.targets[*place])).collect();
        if awaited.is_empty() {
            return Ok(());
        }
        let deadline = self.run.deadline.at_most(NEXT_SCAN);
        while !awaited.is_empty() && deadline.sleep(LOOK_AGAIN) {
            awaited
                .retain(|place| !matches!(crate::supervise::tell(&self.targets[*place].unit.directory, "d"), Ok(true)));
        }
        if self.now(&Part::All)?.is_empty() {
            return Ok(());
        }
        self.escalate(&Part::All, self.run.deadline.remaining())
    }

    /// Supervises stand in their directories. On another file system than the scan directory's they would keep it from being
    /// unmounted; and after a svscan that is gone they would keep the next one from starting its own, with the pipes to
    /// their logs.
    fn dismiss_supervises(&mut self) -> Result<()> {
        let processes = Processes::read()?;
        let scanned = processes.svscan(&self.settings.service_dir).is_some();
        let device = fs::metadata(&self.settings.service_dir).map(|facts| facts.dev()).ok();
        let mut dismissed = Vec::new();
        for target in &mut self.targets {
            let at_home = device.is_some_and(|device| target.lies_on(device));
            let situation = target.look(&processes);
            if (scanned && at_home) || situation.is_up() {
                continue;
            }
            for supervise in situation.supervises {
                if let Err(error) = crate::supervise::tell(&supervise.directory(), "x") {
                    self.run.log.warning(&format!("{}: {error}", target.unit.name));
                }
                dismissed.push(supervise);
            }
        }
        let deadline = self.run.deadline.at_most(SUPERVISE_GOES);
        while dismissed.iter().any(crate::processes::Process::lives) && deadline.sleep(LOOK_AGAIN) {}
        // Its service is down: there is nothing that a supervise could lose.
        dismissed.iter().try_for_each(|supervise| supervise.signal(Signal::SIGKILL))
    }

    fn prove(&mut self) -> Result<()> {
        let left = self.now(&Part::All)?;
        if left.is_empty() {
            return Ok(());
        }
        let sent = self.settings.stop_escalation.words();
        let waited = self.run.deadline.budget().saturating_sub(self.run.deadline.remaining()).as_secs();
        let verb = if left.len() == 1 { "runs" } else { "run" };
        bail!("{} still {verb} after {waited} s: {sent}. End what keeps it, then stop again", self.described(&left))
    }

    /// `2 services (hvmail-a: process 12 (name), hvmail-b: …)`.
    fn described(&self, up: &[(usize, Situation)]) -> String {
        let one = |(place, situation): &(usize, Situation)| {
            let members = situation.members.iter().take(2).map(ToString::to_string).collect::<Vec<_>>();
            let words = if members.is_empty() { "being started".to_owned() } else { members.join(", ") };
            format!("{}: {words}", self.targets[*place].unit.name)
        };
        let mut words: Vec<String> = up.iter().take(SHOWN).map(one).collect();
        if up.len() > SHOWN {
            words.push(format!("{} more", up.len() - SHOWN));
        }
        let noun = if up.len() == 1 { "service" } else { "services" };
        format!("{} {noun} ({})", up.len(), words.join("; "))
    }
}
