//! The only place of this crate that starts processes: argv, never a shell, captured, and ended at a deadline.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::process;

/// Where the programs of a node and of the host are looked for.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a command may take unless it says otherwise.
const USUAL_LIMIT: Duration = Duration::from_secs(60);

/// How long an orphan may stay a zombie.
const REAP: Duration = Duration::from_millis(10);

/// Children that a [`Child`] waits for: whoever else took their exit status would make it wait in vain.
static WAITED_FOR: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A command line that has not been started yet.
#[derive(Clone, Debug)]
pub struct Command {
    argv: Vec<OsString>,
    stdin: Vec<u8>,
    environment: Vec<(OsString, OsString)>,
    bare: bool,
    directory: Option<PathBuf>,
    limit: Duration,
}

/// What a finished command left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Its standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
}

impl Output {
    /// The exit status, or `None` after a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output followed by standard error, for messages.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Begins a command line: the program, then its arguments.
pub fn command<I>(argv: I) -> Command
where
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    Command {
        argv: argv.into_iter().map(|word| word.as_ref().to_owned()).collect(),
        stdin: Vec::new(),
        environment: Vec::new(),
        bare: false,
        directory: None,
        limit: USUAL_LIMIT,
    }
}

impl Command {
    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.argv.push(word.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I>(mut self, words: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<OsStr>,
    {
        self.argv.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// What the command reads from its standard input (otherwise: nothing).
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets one variable of the command's environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an environment of PATH, HOME and the C locale only: whatever a daemon inherits, agents inherit.
    #[must_use]
    pub fn bare_environment(mut self) -> Self {
        self.bare = true;
        self
    }

    /// The working directory of the command.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The longest time the command may take (otherwise: a minute).
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs to the end and captures. An exit status other than 0 is an answer, not an error; not starting, and not
    /// ending within the limit, are errors.
    pub fn run(&self) -> Result<Output> {
        let mut stdout = scratch()?;
        let mut stderr = scratch()?;
        let mut prepared = self.prepared()?;
        prepared.process_group(0).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        let mut child = self.spawn(&mut prepared)?;
        let status = self.reap(&mut child)?;
        let output = Output { status, stdout: contents(&mut stdout)?, stderr: contents(&mut stderr)? };
        match output.status.code() {
            // What env(1), nsenter(1) and the shell agree on for a program that is not there.
            Some(127) => bail!("{self}: {}", output.all().trim()),
            _ => Ok(output),
        }
    }

    /// Runs to the end, demands exit status 0, and returns standard output.
    pub fn text(&self) -> Result<String> {
        let output = self.run()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        bail!("{self}: {}: {}", output.status, output.all().trim())
    }

    /// Runs to the end with this process's own input, output and group, as a program the user talks to and can interrupt.
    pub fn watched(&self) -> Result<ExitStatus> {
        waited_for(&mut self.spawn(self.prepared()?.stdin(Stdio::inherit()))?)
    }

    /// Starts it with its standard output on a pipe and standard error where `stderr` says; killed with its group when
    /// the result is dropped.
    pub fn start(&self, stderr: impl Into<Stdio>) -> Result<Running> {
        let mut prepared = self.prepared()?;
        prepared.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        Ok(Running { child: self.spawn(&mut prepared)?, ended: false })
    }

    /// Starts it with both outputs going to `output`, in this process's own group.
    pub fn start_into(&self, output: std::io::PipeWriter) -> Result<Child> {
        let mut prepared = self.prepared()?;
        prepared.stdout(output.try_clone()?).stderr(output);
        self.spawn(&mut prepared)
    }

    /// Starts a daemon that is waited for by whoever reaps this process's children ([`reap_orphans`]).
    pub fn daemon(&self, log: File) -> Result<Child> {
        let mut prepared = self.prepared()?;
        prepared.process_group(0).stdout(log.try_clone()?).stderr(log);
        prepared.spawn().with_context(|| format!("cannot start {self}"))
    }

    /// The lock keeps [`reap_orphans`] away until the new child is known.
    fn spawn(&self, prepared: &mut std::process::Command) -> Result<Child> {
        let mut known = WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner);
        let child = prepared.spawn().with_context(|| format!("cannot start {self}"))?;
        known.insert(child.id());
        Ok(child)
    }

    fn prepared(&self) -> Result<std::process::Command> {
        let (program, arguments) = self.argv.split_first().context("a command line needs a program")?;
        #[allow(clippy::disallowed_methods, reason = "this is the one module that spawns")]
        let mut prepared = std::process::Command::new(program);
        prepared.args(arguments).stdin(self.input()?);
        if self.bare {
            prepared.env_clear().envs([("PATH", PATH), ("HOME", "/root"), ("LC_ALL", "C.UTF-8")]);
        }
        prepared.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            prepared.current_dir(directory);
        }
        Ok(prepared)
    }

    fn input(&self) -> Result<Stdio> {
        if self.stdin.is_empty() {
            return Ok(Stdio::null());
        }
        let mut file = scratch()?;
        file.write_all(&self.stdin)?;
        file.rewind()?;
        Ok(file.into())
    }

    fn reap(&self, child: &mut Child) -> Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = looked_after(child)? {
                return Ok(status);
            }
            if began.elapsed() > self.limit {
                kill_group(child)?;
                bail!("{self}: not finished after {:.1} s, killed", self.limit.as_secs_f64());
            }
            thread::sleep(Duration::from_millis(if began.elapsed().as_millis() < 50 { 1 } else { 5 }));
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = self.argv.iter().map(|word| word.to_string_lossy()).collect();
        write!(out, "`{}`", words.join(" "))
    }
}

/// A process that goes on until it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Then its process id may be another's.
    ended: bool,
}

impl Running {
    /// The process's id in this process's PID namespace.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes the reading end of its standard output; there is one.
    pub fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().ok_or_else(|| anyhow!("standard output was taken before"))
    }

    /// The writing end of its standard input.
    pub fn stdin(&mut self) -> Result<&mut ChildStdin> {
        self.child.stdin.as_mut().ok_or_else(|| anyhow!("standard input was taken before"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.ended = self.ended || !matches!(looked_after(&mut self.child), Ok(None));
        !self.ended
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        if self.ended {
            return Ok(self.child.wait()?);
        }
        self.ended = true;
        waited_for(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody can be told here; a process that is gone already is the only failure there is.
        let _gone = if self.ended { Ok(()) } else { kill_group(&mut self.child) };
    }
}

/// From now on this process, as PID 1 of its namespace, takes the exit status of every child that nobody else waits for:
/// daemons, and orphans (pid_namespaces(7)). Without it they remain zombies.
pub fn reap_orphans() -> Result<()> {
    let own = std::process::id();
    let reap = move || {
        loop {
            let known = WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner);
            for pid in process::children(own).into_iter().filter(|pid| !known.contains(pid)) {
                // One that still runs is the common case, and there is no other that matters.
                let _still = i32::try_from(pid).map(|pid| waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)));
            }
            drop(known);
            thread::sleep(REAP);
        }
    };
    thread::Builder::new().name("reaper".into()).spawn(reap).context("cannot start the reaper").map(drop)
}

/// A file in memory: unlike a pipe it needs no reader, and a grandchild that keeps it open delays nobody.
fn scratch() -> Result<File> {
    Ok(File::from(memfd_create("output", MFdFlags::MFD_CLOEXEC)?))
}

fn contents(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The exit status of a child that has ended, asked for once: its process id may be another's from then on.
fn looked_after(child: &mut Child) -> Result<Option<ExitStatus>> {
    let ended = child.try_wait()?;
    if ended.is_some() {
        WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner).remove(&child.id());
    }
    Ok(ended)
}

fn waited_for(child: &mut Child) -> Result<ExitStatus> {
    let status = child.wait()?;
    WAITED_FOR.lock().unwrap_or_else(PoisonError::into_inner).remove(&child.id());
    Ok(status)
}

fn kill_group(child: &mut Child) -> Result<()> {
    if looked_after(child)?.is_none() {
        killpg(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL)?;
        waited_for(child)?;
    }
    Ok(())
}
