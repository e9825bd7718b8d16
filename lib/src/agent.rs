//! An agent, and one run of it: from the arguments to the exit status.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::action::Action;
use crate::cluster::Cluster;
use crate::command_line::{self, Request};
use crate::deadline::Deadline;
use crate::environment::Environment;
use crate::log::Log;
use crate::metadata::About;
use crate::notify::Notification;
use crate::outcome::{self, Done, Failure, Finding, Found, Kind, State};
use crate::parameter::Values;
use crate::process;
use crate::state::{Lock, Store};

/// A resource agent. One value lives for one action.
pub trait Agent: Sized {
    /// What the agent says of itself.
    const ABOUT: About;

    /// The agent with its parameters, which have been checked against the table: see [`Values::wrong`].
    fn configure(values: &Values) -> Self;

    /// Makes the resource active; in a promotable clone: unpromoted.
    fn start(&self, run: &Run) -> Done;
    /// Makes it inactive and proves it, with whatever parameters, files and programs are missing.
    fn stop(&self, run: &Run) -> Done;
    /// Says what it is.
    fn monitor(&self, run: &Run) -> Found;
    /// From unpromoted to promoted; not called for a plain resource, which has no roles.
    fn promote(&self, run: &Run) -> Done;
    /// From promoted to unpromoted; not called for a plain resource either.
    fn demote(&self, run: &Run) -> Done;
    /// Hears what happens to the other instances; Pacemaker ignores what comes of it.
    fn notify(&self, run: &Run, notification: &Notification) {
        run.log.debug(&format!("{:?} {:?}: nothing to do", notification.when, notification.operation));
    }
    /// Takes up what changed: files (reload) and reloadable parameters (reload-agent).
    fn reload(&self, run: &Run) -> Done;
    /// Checks what the table cannot: at level 0 the parameters, at 10 the node.
    fn validate(&self, run: &Run, level: u32) -> Done;
    /// Goes on with what [`Run::continue_in_background`] began, for an agent that begins something.
    fn background(&self, run: &Run) -> Done {
        run.log.debug("nothing was begun that goes on in the background");
        Ok(())
    }
}

/// Which file the mutating actions of an instance lock.
const LOCK: &str = "lock";
/// The reason that the last monitor gave, if it gave one.
const REASON: &str = "reason";
/// How long stop waits for another action before it ends it. Only an action run by hand can be in the way: Pacemaker
/// runs one at a time.
const STOPS_PATIENCE: Duration = Duration::from_secs(3);
/// The limit of an action for which neither Pacemaker nor the table has one (OCF's recommended minimum for most).
const USUAL_TIMEOUT: Duration = Duration::from_secs(20);

/// One run of an action, as its agent sees it.
#[derive(Debug)]
pub struct Run {
    /// Which action.
    pub action: Action,
    /// What Pacemaker said.
    pub environment: Environment,
    /// When the action must have ended.
    pub deadline: Deadline,
    /// Where its sentences go.
    pub log: Log,
    /// The instance's state.
    pub store: Store,
    check_level: u32,
    cluster_silent: Cell<bool>,
}

impl Run {
    /// The check level that was asked for: without one, 0 for monitor and 10 for validate-all (OCF 1.1, "OCF_CHECK_LEVEL").
    pub fn check_level(&self) -> u32 {
        self.check_level
    }

    /// The cluster, as far as this instance talks with it.
    pub fn cluster(&self) -> Cluster<'_> {
        Cluster {
            environment: &self.environment,
            store: &self.store,
            log: &self.log,
            deadline: self.deadline,
            silent: &self.cluster_silent,
        }
    }

    /// For a monitor that wants to mend something: the lock of the mutating actions, if none of them runs.
    pub fn lock_if_free(&self) -> Result<Option<Lock>, Failure> {
        Ok(self.store.try_lock(LOCK, self.action.name())?)
    }

    /// Begins [`Agent::background`] in a process that outlives this action.
    pub fn continue_in_background(&self) -> Done {
        let parameters = self.environment.parameters();
        let pairs =
            parameters.iter().flat_map(|(name, value)| [OsString::from("-o"), format!("{name}={value}").into()]);
        let action = OsString::from(Action::Background.name());
        Ok(process::detach(&std::iter::once(action).chain(pairs).collect::<Vec<_>>())?)
    }
}

/// The `main` of an agent.
pub fn main<A: Agent>() -> ExitCode {
    // The usual hook prints the panic's place to stderr, where Pacemaker looks for the exit reason.
    std::panic::set_hook(Box::new(|_| {}));
    let environment = Environment::of_this_process();
    ExitCode::from(answer::<A>(environment, std::env::args_os().skip(1)))
}

fn answer<A: Agent>(mut environment: Environment, arguments: impl Iterator<Item = OsString>) -> u8 {
    let request = command_line::read(&A::ABOUT, arguments);
    let (name, parameters) = match request {
        Ok(Request::Text(text)) => return print(&text, 0),
        Ok(Request::Action { name, parameters }) => (name, parameters),
        Err(failure) => return report(&environment, None, &Err(failure)),
    };
    for (name, value) in &parameters {
        environment.set_parameter(name, value);
    }
    let Some(action) = Action::named(&name) else {
        let reason = format!("{name:?} is not an action of {}; see {0} --help", A::ABOUT.name);
        return report(&environment, None, &Err(Failure::new(Kind::Unimplemented, reason)));
    };
    if action == Action::MetaData {
        return print(&A::ABOUT.metadata(), 0);
    }
    let run = Run::new::<A>(action, environment);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.carry_out::<A>())).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Failure::generic(format!("{} is broken and gave up in {}: {words}; please report it", A::ABOUT.name, name)))
    });
    report(&run.environment, Some(&run), &outcome)
}

impl Run {
    fn new<A: Agent>(action: Action, environment: Environment) -> Self {
        let level = environment.check_level(if action == Action::ValidateAll { 10 } else { 0 });
        let advertised = A::ABOUT.actions.iter().filter(|line| line.action == action);
        let advertised = advertised.map(crate::action::Advertised::timeout).max().unwrap_or(USUAL_TIMEOUT);
        Self {
            action,
            deadline: Deadline::for_action(environment.timeout().unwrap_or(advertised)),
            log: Log::from_environment(&environment, A::ABOUT.name, action.name()),
            store: Store::new(environment.state_directory(), A::ABOUT.name, environment.instance()),
            environment,
            check_level: level,
            cluster_silent: Cell::new(false),
        }
    }

    fn carry_out<A: Agent>(&self) -> Found {
        let looks_only = self.action == Action::ValidateAll && self.check_level < 10;
        if !looks_only && !geteuid().is_root() {
            let reason = format!("{} needs root: it is run by user {}", self.action.name(), geteuid());
            return Err(Failure::new(Kind::Permission, reason));
        }
        let agent = A::configure(&self.values::<A>()?);
        let _lock = self.lock()?;
        let done = match self.action {
            Action::Monitor => return agent.monitor(self),
            Action::Start => agent.start(self),
            Action::Stop => agent.stop(self),
            Action::Promote | Action::Demote if !self.environment.promotable() => {
                self.log.debug("a plain resource has no roles: start makes it active, and stop inactive");
                Ok(())
            }
            Action::Promote => agent.promote(self),
            Action::Demote => agent.demote(self),
            Action::Reload | Action::ReloadAgent => agent.reload(self),
            Action::ValidateAll => agent.validate(self, self.check_level),
            Action::Background => agent.background(self),
            Action::Notify => {
                if let Some(notification) = Notification::read(&self.environment) {
                    agent.notify(self, &notification);
                }
                Ok(())
            }
            Action::MetaData => unreachable!("meta-data is answered before a run begins"),
        };
        done.map(|()| Finding::plain(State::Running, format!("{}: done", self.action.name())))
    }

    fn values<A: Agent>(&self) -> Result<Values, Failure> {
        let given = self.environment.parameters();
        if !self.action.forgives_parameters() {
            return Values::check(A::ABOUT.parameters, &given);
        }
        let values = Values::forgive(A::ABOUT.parameters, &given);
        if let Some(wrong) = values.wrong() {
            self.log.warning(&format!("{wrong}; {} goes on", self.action.name()));
        }
        Ok(values)
    }

    /// Pacemaker hears of a recurring monitor only when its exit status changes (`cmd_finalize`, `last_notify_rc` in its
    /// execd_commands.c). Of an instance that stays degraded for another reason only the log can tell.
    fn log_new_reason(&self, finding: &Finding) {
        if finding.reason.is_none() {
            // There is none as a rule; what cannot be removed is only logged once more some day.
            let _ = self.store.remove(REASON);
            return;
        }
        // The exit reason may lack what there was no room for.
        let reason = &finding.summary;
        if self.store.read(REASON).ok().flatten().as_ref() != Some(reason) {
            self.log.warning(reason);
            let _ = self.store.write(REASON, reason);
        }
    }

    fn lock(&self) -> Result<Option<Lock>, Failure> {
        if !self.action.changes_the_resource() {
            return Ok(None);
        }
        let name = self.action.name();
        let lock = if self.action == Action::Stop {
            let remaining = self.deadline.remaining();
            let patience = STOPS_PATIENCE.min(remaining / 3);
            // Half of the time is for the work, should the lock not be had from whoever holds it.
            let seized = self.store.seize(LOCK, name, patience, self.deadline.at_most(remaining / 2));
            // A stop without a lock is worth more than none: it can only take away.
            return Ok(seized.map_err(|error| self.log.warning(&format!("{error:#}; stopping without it"))).ok());
        } else {
            self.store.lock(LOCK, name, self.deadline)?
        };
        Ok(Some(lock))
    }
}

/// Says how an action ended to everybody who wants to know, and gives back its exit status.
fn report(environment: &Environment, run: Option<&Run>, outcome: &Found) -> u8 {
    let reason = match outcome {
        Ok(finding) => finding.reason.as_deref(),
        Err(failure) => Some(failure.reason()),
    };
    if let Some(reason) = reason {
        // Pacemaker takes the last such line, up to its end: a reason has one line, and one only is printed.
        let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(std::io::stderr(), "{}{line}", environment.exit_reason_prefix());
    }
    let status = outcome::exit_status(outcome);
    if let Some(run) = run {
        run.log.step(&format!("{} ends with {status}", run.action.name()));
        // What a probe found Pacemaker logs by itself.
        if let Err(failure) = outcome
            && run.environment.by_pacemaker()
            && !(run.action == Action::Monitor && run.environment.probe())
        {
            run.log.error(failure.reason());
        }
        if let Ok(finding) = outcome
            && run.environment.by_pacemaker()
            && run.action == Action::Monitor
            && !run.environment.probe()
        {
            run.log_new_reason(finding);
        }
        if let Ok(finding) = outcome
            && speaks_to_a_person(environment)
        {
            return print(&format!("{}\n", finding.summary), status);
        }
    }
    status
}

/// OCF 1.1, "OCF_OUTPUT_FORMAT": `text` is asked for, and a terminal asks for it by itself.
fn speaks_to_a_person(environment: &Environment) -> bool {
    match environment.variable("OCF_OUTPUT_FORMAT") {
        Some(format) => format == "text",
        None => std::io::stdout().is_terminal(),
    }
}

/// Prints without minding whether anybody reads: a closed pipe must not turn a good answer into a failure.
fn print(text: &str, status: u8) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    status
}

#[cfg(test)]
#[path = "agent_tests.rs"]
mod tests;
