//! One agent run as Pacemaker runs it, in the test's own network.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::command::{Command, Output, Running, command};
use crate::isolation::{Isolation, STATE, enter};
use crate::{installed, packages};

/// What HA_LOGFILE names.
pub const LOG_FILE: &str = "/run/agent.log";

/// The limit that Pacemaker would enforce, unless a test says otherwise.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);

/// What Pacemaker tells an instance of a promotable clone about its clone.
const CLONE: &[(&str, &str)] =
    &[("clone_max", "2"), ("clone_node_max", "1"), ("promoted_max", "1"), ("promoted_node_max", "1")];

/// Each agent is built once in a process, not once a test; a failed build fails every test that needs it.
static BUILT: Mutex<BTreeMap<&str, Result<(), String>>> = Mutex::new(BTreeMap::new());

/// Runs `body` in a private network ([`enter`]) with the packages of the nodes, and with release builds of these agents
/// that are up to date.
pub fn in_private_network(agents: &[&'static str], body: impl FnOnce() -> Result<()>) -> Result<()> {
    // Inside, this process is PID 1, and what the outer one has prepared is there.
    if std::process::id() != 1 {
        prepare(agents)?;
    }
    enter(Isolation::Network, body)
}

/// The lock is held meanwhile: a test that needs the same waits for this one.
fn prepare(agents: &[&'static str]) -> Result<()> {
    let mut known = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    packages::require(packages::CLUSTER)?;
    agents.iter().try_for_each(|agent| {
        let build = || installed::build(&[agent]).map_err(|error| format!("{error:#}"));
        known.entry(agent).or_insert_with(build).clone().map_err(|reason| anyhow!("{reason}"))
    })
}

/// Says what is really there: the kernel's addresses, the running services.
pub type Witness = fn() -> Result<String>;

/// How the agent is called: as a part of what, with which parameters.
#[derive(Clone, Debug)]
pub struct Agent {
    program: PathBuf,
    variables: Vec<(String, String)>,
    timeout: Duration,
    witness: Option<Witness>,
}

/// What came of one action.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which action.
    pub action: String,
    /// The exit status.
    pub status: i32,
    /// The exit reason, empty without one.
    pub reason: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error without the exit reason.
    pub stderr: String,
    /// What the action added to [`LOG_FILE`].
    pub log: String,
}

impl Agent {
    /// Agent `name` as Pacemaker 2.1 calls it for resource `instance` in a promotable clone, from a place that every user
    /// can read.
    pub fn promotable_of(name: &str, instance: &str) -> Result<Self> {
        let agent = Self::plain_of(name, instance)?;
        Ok(CLONE.iter().fold(agent, |agent, (name, value)| agent.env(&format!("OCF_RESKEY_CRM_meta_{name}"), value)))
    }

    /// The same on `node`, where more than one instance runs at once.
    pub fn of(name: &str, instance: &str, node: &str) -> Result<Self> {
        Ok(Self::promotable_of(name, instance)?.env("OCF_RESKEY_CRM_meta_on_node", node))
    }

    /// The same as a plain resource: Pacemaker then sends a feature set and nothing of a clone.
    pub fn plain_of(name: &str, instance: &str) -> Result<Self> {
        Ok(Self::by_hand_of(name, instance)?
            .env("OCF_RESKEY_crm_feature_set", "3.16.1")
            .env("OCF_RESKEY_CRM_meta_on_node", "n1")
            .env("OCF_RESOURCE_TYPE", name)
            .env("OCF_RESOURCE_PROVIDER", "greenarrow")
            .env("OCF_ROOT", "/usr/lib/ocf")
            .env("HA_LOGFACILITY", "none")
            .env("HA_LOGFILE", LOG_FILE))
    }

    /// The same as a person calls it: the instance's name, and nothing of a cluster.
    pub fn by_hand_of(name: &str, instance: &str) -> Result<Self> {
        let program = Path::new(STATE).join(name);
        if !program.exists() {
            let built = installed::agent(name)?;
            fs::copy(&built, &program).with_context(|| format!("cannot copy {}", built.display()))?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        let agent = Self { program, variables: Vec::new(), timeout: USUAL_TIMEOUT, witness: None };
        Ok(agent.env("OCF_RESOURCE_INSTANCE", instance))
    }

    /// Whom to ask what is really there when an action ends otherwise than it had to; the answer goes into the message.
    #[must_use]
    pub fn witness(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Sets a parameter.
    #[must_use]
    pub fn set(self, parameter: &str, value: &str) -> Self {
        self.env(&format!("OCF_RESKEY_{parameter}"), value)
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The time that Pacemaker would give each action.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The agent's command line behind the words of `before`, for instance a tracer's. The action `probe` is a monitor
    /// without an interval.
    pub fn command(&self, before: &[&str], action: &str) -> Command {
        let (action, interval) = match action {
            "monitor" => (action, "10000"),
            "probe" => ("monitor", "0"),
            _ => (action, "0"),
        };
        let timeout = self.timeout.as_millis().to_string();
        let command = command(before).arg(&self.program).arg(action).bare_environment().within(self.timeout * 2);
        let command = self.variables.iter().fold(command, |command, (name, value)| command.env(name, value));
        command.env("OCF_RESKEY_CRM_meta_timeout", timeout).env("OCF_RESKEY_CRM_meta_interval", interval)
    }

    /// Runs an action to its end.
    pub fn run(&self, action: &str) -> Result<Answer> {
        let logged = log().len();
        let output = self.command(&[], action).run()?;
        Answer::new(action, &output, &log()[logged..])
    }

    /// Runs an action that has to end with this exit status.
    pub fn exits(&self, status: i32, action: &str) -> Result<Answer> {
        let answer = self.run(action)?;
        if answer.status != status {
            let seen = self.witness.map_or_else(|| Ok(String::new()), |witness| witness())?;
            bail!("{action} had to end with {status}: {answer:#?}\n{seen}");
        }
        Ok(answer)
    }

    /// Runs several actions that have to end with 0.
    pub fn succeeds(&self, actions: &[&str]) -> Result<()> {
        actions.iter().try_for_each(|action| self.exits(0, action).map(drop))
    }

    /// Begins an action and does not wait for its end; dropped, it is killed.
    pub fn begin(&self, action: &str) -> Result<Running> {
        self.command(&[], action).start(Stdio::null())
    }

    /// Processes of the agent that run this action.
    pub fn processes(&self, action: &str) -> Result<Vec<u32>> {
        let program = self.program.to_string_lossy();
        let all = crate::process::of_namespace(std::process::id())?;
        let wanted = |pid: &u32| {
            let words = crate::process::arguments(*pid);
            words.first().is_some_and(|word| *word == program) && words.get(1).is_some_and(|word| word == action)
        };
        Ok(all.into_iter().filter(wanted).collect())
    }
}

impl Answer {
    fn new(action: &str, output: &Output, log: &str) -> Result<Self> {
        let status = output.code().with_context(|| format!("{action} was ended by {}", output.status))?;
        let (reasons, others): (Vec<_>, Vec<_>) =
            output.stderr.lines().partition(|line| line.starts_with("ocf-exit-reason:"));
        ensure!(reasons.len() <= 1, "{action} gave more than one exit reason: {}", output.stderr);
        let reason = reasons.first().and_then(|line| line.strip_prefix("ocf-exit-reason:")).unwrap_or_default();
        Ok(Self {
            action: action.to_owned(),
            status,
            reason: reason.to_owned(),
            stdout: output.stdout.clone(),
            stderr: others.join("\n"),
            log: log.to_owned(),
        })
    }

    /// The exit reason has to contain each of these.
    pub fn says(self, words: &[&str]) -> Result<Self> {
        let lacking: Vec<_> = words.iter().filter(|word| !self.reason.contains(**word)).collect();
        ensure!(lacking.is_empty(), "the exit reason does not say {lacking:?}: {self:#?}");
        Ok(self)
    }

    /// The log of the action has to contain each of these.
    pub fn logs(self, words: &[&str]) -> Result<Self> {
        let lacking: Vec<_> = words.iter().filter(|word| !self.log.contains(**word)).collect();
        ensure!(lacking.is_empty(), "the log does not say {lacking:?}: {self:#?}");
        Ok(self)
    }

    /// There must not be an exit reason.
    pub fn without_reason(self) -> Result<Self> {
        ensure!(self.reason.is_empty(), "nothing is wrong, and still there is an exit reason: {self:#?}");
        Ok(self)
    }
}

/// Everything the agent has logged so far.
pub fn log() -> String {
    fs::read_to_string(LOG_FILE).unwrap_or_default()
}
