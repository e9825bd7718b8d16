//! One agent run as Pacemaker runs it, in the test's own network, with the kernel as the witness of what it did.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::address_watch::AddressWatch;
use crate::command::{Command, Output, Running, command};
use crate::isolation::{Isolation, STATE, enter};
use crate::node::Held;
use crate::{installed, network, wait};

/// The resource's name; the agent's state files carry it.
pub const INSTANCE: &str = "ips";

/// Where the agent's state is in the private /run.
pub const STATE_FILE: &str = "/run/resource-agents/primary-ips-ips.state";

/// The list of addresses: not the parameter's default, which would be a file of the host.
pub const IP_FILE: &str = "/run/primary_ips";

/// What HA_LOGFILE names.
pub const LOG_FILE: &str = "/run/agent.log";

/// The limit that Pacemaker would enforce, unless a test says otherwise.
const USUAL_TIMEOUT: Duration = Duration::from_secs(30);

/// Built once in a process, not once a test.
static BUILT: OnceLock<Result<(), String>> = OnceLock::new();

/// Runs `body` in a private network ([`enter`]) with a release build of primary-ips that is up to date.
pub fn in_private_network(body: impl FnOnce() -> Result<()>) -> Result<()> {
    // Inside, this process is PID 1, and what the outer one has built is there.
    if std::process::id() != 1 {
        let built = BUILT.get_or_init(|| installed::build(&["primary-ips"]).map_err(|error| format!("{error:#}")));
        built.as_ref().map_err(|reason| anyhow!("{reason}"))?;
    }
    enter(Isolation::Network, body)
}

/// How the agent is called: as a part of what, with which parameters.
#[derive(Clone, Debug)]
pub struct Agent {
    program: PathBuf,
    variables: Vec<(String, String)>,
    timeout: Duration,
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
    /// primary-ips as Pacemaker 2.1 calls it in a promotable clone, from a place that every user can read.
    pub fn promotable() -> Result<Self> {
        Ok(Self::of("primary-ips", INSTANCE, "n1")?.set("ip_file", IP_FILE))
    }

    /// Any agent of the workspace as Pacemaker 2.1 calls it for an instance of a promotable clone on `node`.
    pub fn of(name: &str, instance: &str, node: &str) -> Result<Self> {
        let program = Path::new(STATE).join(name);
        if !program.exists() {
            let built = installed::agent(name)?;
            fs::copy(&built, &program).with_context(|| format!("cannot copy {}", built.display()))?;
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        }
        let agent = Self { program, variables: Vec::new(), timeout: USUAL_TIMEOUT };
        let clone = [("clone_max", "2"), ("clone_node_max", "1"), ("promoted_max", "1"), ("promoted_node_max", "1")];
        let agent =
            clone.iter().fold(agent, |agent, (name, value)| agent.env(&format!("OCF_RESKEY_CRM_meta_{name}"), value));
        Ok(agent
            .env("OCF_RESKEY_crm_feature_set", "3.16.1")
            .env("OCF_RESKEY_CRM_meta_on_node", node)
            .env("OCF_RESOURCE_INSTANCE", instance)
            .env("OCF_RESOURCE_TYPE", name)
            .env("OCF_RESOURCE_PROVIDER", "greenarrow")
            .env("OCF_ROOT", "/usr/lib/ocf")
            .env("HA_LOGFACILITY", "none")
            .env("HA_LOGFILE", LOG_FILE))
    }

    /// The same as a plain resource: Pacemaker then sends a feature set and nothing of a clone.
    pub fn plain() -> Result<Self> {
        let mut agent = Self::promotable()?;
        agent.variables.retain(|(name, _)| !name.contains("_CRM_meta_clone") && !name.contains("_CRM_meta_promoted"));
        Ok(agent)
    }

    /// The same as a person calls it: the instance's name, the file, and nothing of a cluster.
    pub fn by_hand() -> Result<Self> {
        let mut agent = Self::promotable()?;
        agent.variables.retain(|(name, _)| ["OCF_RESOURCE_INSTANCE", "OCF_RESKEY_ip_file"].contains(&name.as_str()));
        Ok(agent)
    }

    /// The same without what takes time and matters only to tests of its own: the duplicate check, the announcer.
    #[must_use]
    pub fn quick(self) -> Self {
        self.set("duplicate_check", "off").set("announce_count", "1")
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
        ensure!(
            answer.status == status,
            "{action} had to end with {status}: {answer:#?}\nin the kernel: {:#?}",
            held()?
        );
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

/// Writes the list of addresses, one line each.
pub fn list(lines: &[&str]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(IP_FILE, text).with_context(|| format!("cannot write {IP_FILE}"))
}

/// `count` lines of addresses 10.0.0.2/8, 10.0.0.3/8 …
pub fn many(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("{}/8", Ipv4Addr::from_bits(0x0a00_0002 + number))).collect()
}

/// Every address in the kernel but those of lo and the link-local ones that it gives to each link by itself.
pub fn held() -> Result<Vec<Held>> {
    let text = command(["ip", "-o", "addr", "show"]).text()?;
    let all = text.lines().map(Held::parse).collect::<Result<Vec<_>>>()?;
    let own = |held: &Held| held.address.to_string().starts_with("fe80:") && held.prefix == 64;
    Ok(all.into_iter().filter(|held| held.interface != "lo" && !own(held)).collect())
}

/// What the kernel holds besides `fixed` has to be exactly `expected`, both as `ADDRESS/PREFIX INTERFACE`.
pub fn holds(fixed: &[&str], expected: &[&str]) -> Result<()> {
    let mut found: Vec<_> = held()?.iter().map(words).collect();
    let mut wanted: Vec<_> = fixed.iter().chain(expected).map(|text| (*text).to_owned()).collect();
    found.sort();
    wanted.sort();
    ensure!(found == wanted, "in the kernel there had to be {wanted:#?}, and there is {found:#?}");
    Ok(())
}

fn words(held: &Held) -> String {
    format!("{}/{} {}", held.address, held.prefix, held.interface)
}

/// The kernel's whole line about an address, with its flags.
pub fn line_of(address: &str) -> Result<String> {
    let text = command(["ip", "-o", "addr", "show", "to", address]).text()?;
    match text.lines().collect::<Vec<_>>()[..] {
        [line] => Ok(line.to_owned()),
        _ => bail!("{address} had to be there once, and ip shows: {text:?}"),
    }
}

/// The addresses that were deleted here since `since`, as far as the kernel has said so by now. (What it says was added
/// proves no change: it says so again when it has finished with an IPv6 address, `addrconf_dad_completed`.)
pub fn deleted(watch: &AddressWatch, since: Instant) -> Result<Vec<IpAddr>> {
    // Notifications keep their order: once this one has been read, all before it have been.
    const MARK: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
    let marked = Instant::now();
    ip(&format!("addr add {MARK} dev lo\naddr del {MARK} dev lo\n"))?;
    let read = || Ok(!watch.lost(marked, &[MARK]).is_empty());
    wait::until("the kernel's notifications", Duration::from_secs(10), wait::QUICK, read)?;
    let gone = watch.since(since).into_iter().filter(|event| !event.added && event.address != MARK);
    Ok(gone.map(|event| event.address).collect())
}

/// Runs ip(8) commands, one a line, in the test's network.
pub fn ip(batch: &str) -> Result<()> {
    network::ip(batch)
}

/// Writes a setting below /proc/sys/net.
pub fn setting(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}

/// Everything the agent has logged so far.
pub fn log() -> String {
    fs::read_to_string(LOG_FILE).unwrap_or_default()
}
