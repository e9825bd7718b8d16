//! The one place that starts other programs.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid, User};

use crate::deadline::Deadline;

/// Where programs are looked for, whatever the caller's PATH says.
const SEARCHED: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// A child that prints more than this has gone wild, and must not fill the memory. Half an answer is none: nobody is to judge by
/// what was kept of it.
const MOST_OUTPUT: usize = 16 << 20;
/// A child that has closed its output ends at once as a rule; so long between two looks otherwise.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long a killed child is waited for.
const ENDS_AFTER_KILL: Duration = Duration::from_millis(500);

/// A program and its arguments; never a shell.
#[derive(Debug)]
pub struct Program {
    name: String,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    input: Vec<u8>,
    user: Option<(u32, u32)>,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Program {
    /// A program by name, looked for in the system's directories, or by absolute path.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), arguments: Vec::new(), variables: Vec::new(), input: Vec::new(), user: None }
    }

    /// With these further arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With a variable in its environment, which holds nothing else than PATH and the C locale.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this on its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// As this user, with this group and the user's supplementary ones: a server may need those, to read its TLS key for
    /// example. Where the user has been removed, its number still does.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Where the program is, if it is installed.
    pub fn path(&self) -> Option<PathBuf> {
        if self.name.starts_with('/') {
            return Some(PathBuf::from(&self.name)).filter(|path| path.exists());
        }
        SEARCHED.iter().map(|directory| Path::new(directory).join(&self.name)).find(|path| path.exists())
    }

    /// Runs it to its end and gives back what it said, however it ended. At the deadline its whole process group is
    /// killed, and the error says how long it was waited for; likewise one that prints more than 16 MiB.
    pub fn run(self, deadline: Deadline) -> Result<Output> {
        self.run_telling(deadline, &mut |_| {})
    }

    /// The same, and hands over each line of its output and of its errors as it comes: for a program that shows progress.
    pub fn run_telling(self, deadline: Deadline, tell: &mut dyn FnMut(&str)) -> Result<Output> {
        let name = self.name.clone();
        let program = self.behind_setpriv()?;
        let mut child = program.spawn()?;
        let group = Pid::from_raw(child.id().try_into().context("a process id is larger than the kernel makes them")?);
        let collected = collect(&mut child, &program.input, deadline, tell);
        if collected.is_err() {
            // The group may be gone already; that is what is wanted.
            let _ = killpg(group, Signal::SIGKILL);
            // A child in an uninterruptible sleep in the kernel ends when that lets it, and the action before.
            let patience = Deadline::after(ENDS_AFTER_KILL);
            while matches!(child.try_wait(), Ok(None)) && patience.sleep(LOOK_AGAIN) {}
        }
        let (status, stdout, stderr) = collected.context(name)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = self.command()?;
        let input = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        if !self.variables.iter().any(|(name, _)| name == "LC_ALL") {
            command.env("LC_ALL", "C");
        }
        command.process_group(0).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().with_context(|| format!("cannot start {}", self.name))
    }

    /// Starts it for longer than this action: in a session of its own (setsid(1) of util-linux), so that Pacemaker, which
    /// kills the action's process group on a timeout, does not reach it, and in the system's locale. Its standard output
    /// goes nowhere.
    pub fn daemon(self, input: Stdio, errors: Stdio) -> Result<()> {
        let mut inner = self.behind_setpriv()?;
        let Some(path) = inner.path() else { bail!("{} is not installed", inner.name) };
        inner.arguments.splice(0..0, [OsString::from("--fork"), path.into()]);
        let mut command = Self { name: "setsid".to_owned(), ..inner }.command()?;
        command.current_dir("/").stdin(input).stdout(Stdio::null()).stderr(errors);
        let status = command.status().context("cannot start setsid")?;
        if !status.success() {
            bail!("setsid ended with {status}");
        }
        Ok(())
    }

    /// Behind setpriv(1) of util-linux where it is to run as somebody else: the standard library gives a child no
    /// supplementary groups (`Command::groups` is not stable), and setpriv, unlike su(1), starts no shell and no PAM session.
    fn behind_setpriv(mut self) -> Result<Self> {
        let Some((uid, gid)) = self.user.take() else { return Ok(self) };
        let Some(path) = self.path() else { bail!("{} is not installed", self.name) };
        // --init-groups wants the user to be known.
        let known = User::from_uid(Uid::from_raw(uid)).is_ok_and(|user| user.is_some());
        let groups = if known { "--init-groups" } else { "--clear-groups" };
        let words = [format!("--reuid={uid}"), format!("--regid={gid}"), groups.to_owned(), "--".to_owned()];
        let words = words.into_iter().map(OsString::from).chain([path.into()]);
        self.arguments.splice(0..0, words.collect::<Vec<_>>());
        Ok(Self { name: "setpriv".to_owned(), ..self })
    }

    /// Where PATH leads an agent's children.
    pub fn search_path() -> String {
        SEARCHED.join(":")
    }

    #[expect(clippy::disallowed_methods, reason = "this module is where programs are started")]
    fn command(&self) -> Result<Command> {
        let Some(path) = self.path() else {
            bail!("{} is not installed: it is in none of {}", self.name, SEARCHED.join(", "));
        };
        let mut command = Command::new(&path);
        command.args(&self.arguments).env_clear().env("PATH", Self::search_path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        Ok(command)
    }
}

impl Output {
    /// The output of a program that must succeed; otherwise an error with its own words.
    pub fn success(self, what: &str) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let words = self.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        bail!("{what} failed ({}){}{words}", self.status, if words.is_empty() { "" } else { ": " });
    }
}

/// Starts this very program again for work that outlives the action. The child makes itself a session of its own
/// (setsid(2) needs no privilege, and a process just forked leads no group), so that Pacemaker, which kills the
/// action's process group on a timeout, does not reach it, and keeps none of the action's files open.
#[expect(clippy::disallowed_methods, reason = "this module is where programs are started")]
pub(crate) fn detach(arguments: &[OsString]) -> Result<()> {
    let this = std::env::current_exe().context("cannot tell the path of this program")?;
    let mut command = Command::new(&this);
    command.args(arguments).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {} in the background", this.display()))?;
    Ok(())
}

type Collected = (ExitStatus, Vec<u8>, Vec<u8>);

fn collect(child: &mut Child, input: &[u8], deadline: Deadline, tell: &mut dyn FnMut(&str)) -> Result<Collected> {
    let mut stdin = child.stdin.take();
    let mut out = child.stdout.take().context("no pipe to its output")?;
    let mut err = child.stderr.take().context("no pipe to its errors")?;
    for pipe in [stdin.as_ref().map(AsFd::as_fd), Some(out.as_fd()), Some(err.as_fd())].into_iter().flatten() {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot make a pipe non-blocking")?;
    }
    let (mut stdout, mut stderr, mut written) = (Vec::new(), Vec::new(), 0);
    let (mut out_open, mut err_open) = (true, true);
    let (mut told, mut told_of_errors) = (0, 0);
    while out_open || err_open {
        // Before the look, not after it: who was stopped in between (SIGSTOP) finds what has ended meanwhile.
        let last_look = deadline.passed();
        let readable = |pipe, open: bool| open.then(|| PollFd::new(pipe, PollFlags::POLLIN));
        let pipes = [readable(out.as_fd(), out_open), readable(err.as_fd(), err_open)];
        let mut waiting: Vec<_> = pipes.into_iter().flatten().collect();
        waiting.extend(stdin.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
        match poll(&mut waiting, deadline.at_most(Duration::from_millis(100)).poll_timeout()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => bail!("cannot wait for its output: {error}"),
        }
        if let Some(pipe) = &mut stdin
            && !feed(pipe, input, &mut written)?
        {
            stdin = None;
        }
        out_open = out_open && drain(&mut out, &mut stdout)?;
        err_open = err_open && drain(&mut err, &mut stderr)?;
        tell_lines(&stdout, &mut told, tell);
        tell_lines(&stderr, &mut told_of_errors, tell);
        // A grandchild may hold the pipes open for ever; what counts is the child.
        if let Some(status) = child.try_wait()? {
            drain(&mut out, &mut stdout)?;
            drain(&mut err, &mut stderr)?;
            tell_lines(&stdout, &mut told, tell);
            tell_lines(&stderr, &mut told_of_errors, tell);
            return Ok((status, stdout, stderr));
        }
        if last_look {
            bail!("did not end within {:.1} s and was killed", deadline.budget().as_secs_f32());
        }
    }
    loop {
        let last_look = deadline.passed();
        if let Some(status) = child.try_wait()? {
            return Ok((status, stdout, stderr));
        }
        if last_look {
            bail!("closed its output but did not end within {:.1} s and was killed", deadline.budget().as_secs_f32());
        }
        deadline.sleep(LOOK_AGAIN);
    }
}

/// Hands over the lines that are whole and were not handed over before.
fn tell_lines(output: &[u8], told: &mut usize, tell: &mut dyn FnMut(&str)) {
    while let Some(length) = output[*told..].iter().position(|byte| *byte == b'\n') {
        tell(&String::from_utf8_lossy(&output[*told..*told + length]));
        *told += length + 1;
    }
}

/// Writes what the pipe takes; false when there is nothing more to write, or the child does not want it.
fn feed(pipe: &mut impl Write, input: &[u8], written: &mut usize) -> Result<bool> {
    match pipe.write(&input[*written..]) {
        Ok(count) => {
            *written += count;
            Ok(*written < input.len())
        }
        Err(error) => match error.kind() {
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => Ok(true),
            std::io::ErrorKind::BrokenPipe => Ok(false),
            _ => bail!("cannot write its input: {error}"),
        },
    }
}

/// Reads what is there; false at the end of the stream.
fn drain(pipe: &mut impl Read, kept: &mut Vec<u8>) -> Result<bool> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) if kept.len() + count > MOST_OUTPUT => {
                bail!("printed more than {} MiB and was killed", MOST_OUTPUT >> 20)
            }
            Ok(count) => kept.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => bail!("cannot read its output: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn a_program_gets_its_arguments_as_they_are() {
        let output = Program::new("printf").args(["%s|", "$HOME; a b", "*"]).run(soon()).unwrap();
        assert_eq!(output.stdout, "$HOME; a b|*|");
        assert!(output.status.success());
    }

    #[test]
    fn its_environment_is_clean_and_its_locale_c() {
        let output = Program::new("env").variable("PCMK_ipc_type", "shared-mem").run(soon()).unwrap();
        let mut lines: Vec<_> = output.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PCMK_ipc_type=shared-mem"]);
    }

    /// In a process of its own, for it is stopped: by what it runs, which ends meanwhile, until long after the deadline.
    #[test]
    #[ignore = "stops its process"]
    fn one_that_was_stopped() {
        let script = "exec >&- 2>&-; sleep 0.2; (sleep 1; kill -CONT $PPID) & kill -STOP $PPID";
        let output = Program::new("sh").args(["-c", script]).run(Deadline::after(Duration::from_millis(700))).unwrap();
        assert!(output.status.success());
    }

    #[test]
    fn who_was_stopped_finds_what_has_ended_meanwhile() {
        let this = std::env::current_exe().unwrap();
        let words = ["--ignored", "--exact", "process::tests::one_that_was_stopped"];
        let output = Program::new(this.to_str().unwrap()).args(words).run(soon()).unwrap();
        assert!(output.status.success() && output.stdout.contains("1 passed"), "{}{}", output.stdout, output.stderr);
    }

    #[test]
    fn input_larger_than_a_pipe_reaches_it() {
        let input = vec![b'x'; 300_000];
        let output = Program::new("cat").input(input.clone()).run(soon()).unwrap();
        assert_eq!(output.stdout.as_bytes(), input);
    }

    #[test]
    fn a_wild_child_is_killed_and_a_long_answer_is_whole() {
        let output = |bytes: &str| Program::new("head").args(["-c", bytes, "/dev/zero"]).run(soon());
        assert_eq!(output("16777216").unwrap().stdout.len(), MOST_OUTPUT);
        assert_eq!(format!("{:#}", output("16777217").unwrap_err()), "head: printed more than 16 MiB and was killed");
        let error = Program::new("cat").args(["/dev/zero"]).run(soon()).unwrap_err();
        assert!(format!("{error:#}").contains("16 MiB"), "{error:#}");
    }

    #[test]
    fn a_child_that_hangs_is_killed_at_the_deadline_with_its_children() {
        let begun = Instant::now();
        // A number that no other run of this test has at the same time.
        let sleep = format!("sleep 4711.{}", std::process::id());
        let script = format!("{sleep} & echo $!; wait");
        let error =
            Program::new("sh").args(["-c", &script]).run(Deadline::after(Duration::from_millis(300))).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(format!("{error:#}"), "sh: did not end within 0.3 s and was killed");
        let left = Program::new("pgrep").args(["-f", &sleep]).run(soon()).unwrap();
        assert_eq!(left.stdout, "", "the child's child lives");
    }

    #[test]
    fn a_grandchild_that_keeps_the_pipes_does_not_hold_the_answer() {
        let begun = Instant::now();
        let output = Program::new("sh").args(["-c", "sleep 30 & echo done; exit 3"]).run(soon()).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!((output.stdout.as_str(), output.status.code()), ("done\n", Some(3)));
    }

    #[test]
    fn lines_are_told_as_they_come() {
        let mut told = Vec::new();
        let begun = Instant::now();
        let script = "echo one; echo two >&2; sleep 1; echo three; printf rest";
        let program = Program::new("sh").args(["-c", script]);
        let output = program.run_telling(soon(), &mut |line| told.push((line.to_owned(), begun.elapsed()))).unwrap();
        let lines: Vec<_> = told.iter().map(|(line, _)| line.as_str()).collect();
        assert_eq!(lines, ["one", "two", "three"]);
        assert!(told[1].1 < Duration::from_millis(900), "{told:?}");
        assert_eq!(output.stdout, "one\nthree\nrest");
    }

    #[test]
    fn a_daemon_has_a_session_of_its_own() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let script = "cut -d' ' -f6 /proc/$$/stat >&2; echo $$ >&2; echo $LC_ALL >&2";
        Program::new("sh").args(["-c", script]).daemon(Stdio::null(), writer.into()).unwrap();
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        let words: Vec<_> = said.split_whitespace().collect();
        assert!(matches!(words[..], [session, pid] if session == pid), "{said:?}");
    }

    #[test]
    fn a_program_runs_run_by_its_user_with_that_users_groups() {
        let nobody = User::from_name("nobody").unwrap().unwrap();
        let (uid, gid) = (nobody.uid.as_raw(), nobody.gid.as_raw());
        let output = Program::new("id").args(["-un"]).as_user(uid, gid).run(soon()).unwrap();
        assert_eq!(output.stdout, "nobody\n", "{output:?}");
        let groups = |uid| Program::new("id").args(["-G"]).as_user(uid, gid).run(soon()).unwrap().stdout;
        assert_eq!(groups(uid).trim(), gid.to_string());
        assert_eq!(groups(4_000_000).trim(), gid.to_string(), "a user that is gone");
        let error = Program::new("no-such-program").as_user(uid, gid).run(soon()).unwrap_err();
        assert!(format!("{error:#}").starts_with("no-such-program is not installed"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Program::new("no-such-program").run(soon()).unwrap_err();
        assert!(format!("{error:#}").starts_with("no-such-program is not installed"));
    }

    #[test]
    fn failure_carries_the_programs_own_words() {
        let output = Program::new("ls").args(["/no/such/file"]).run(soon()).unwrap();
        let error = output.success("listing").unwrap_err();
        assert!(error.to_string().contains("/no/such/file") && error.to_string().starts_with("listing failed"));
    }
}
