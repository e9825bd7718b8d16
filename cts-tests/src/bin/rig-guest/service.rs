//! Obeys the host over the virtio-serial port, every question in a thread of its own, and passes on what fence agents ask.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cts_tests::boot;
use cts_tests::command::command;
use cts_tests::fence::SOCKET_IN_NODE;
use cts_tests::vm::PORT;
use cts_tests::vm::message::{self, Message};
use cts_tests::wait;
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::{User, sync, syncfs};

/// The line to the host.
struct Host {
    port: Mutex<File>,
    /// Who waits for the answer to which question.
    asked: Mutex<BTreeMap<u32, Sender<Message>>>,
}

/// Serves until the end.
pub(crate) fn serve() -> Result<Infallible> {
    let (path, _) = wait::until_some("the port to the host", Duration::from_secs(20), wait::QUICK, port)?;
    let mut port = File::options().read(true).write(true).open(&path)?;
    let host = Arc::new(Host { port: Mutex::new(port.try_clone()?), asked: Mutex::default() });
    let listener = UnixListener::bind(SOCKET_IN_NODE)?;
    let fencing = Arc::clone(&host);
    thread::Builder::new().name("fencing".into()).spawn(move || fencing.pass_on(&listener))?;
    host.send(&Message::new(0, message::HELLO, Vec::<&str>::new()))?;
    loop {
        let message = Message::read(&mut port).context("the line to the host broke")?;
        if message.word == message::ANSWER {
            // Whoever asked may have given up.
            let _gone = lock(&host.asked).remove(&message.number).map(|asked| asked.send(message));
            continue;
        }
        let host = Arc::clone(&host);
        thread::Builder::new().name(message.word.clone()).spawn(move || host.answer(&message))?;
    }
}

/// The port of that name; the kernel numbers them as it finds them.
fn port() -> Result<Option<PathBuf>> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT) {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

impl Host {
    fn send(&self, message: &Message) -> Result<()> {
        message.write(&mut *lock(&self.port))
    }

    fn answer(&self, question: &Message) {
        let answer = self.obey(question).map_or_else(
            |error| Message::new(question.number, message::ERROR, [format!("{error:#}")]),
            |fields| Message::new(question.number, message::ANSWER, fields),
        );
        if let Err(error) = self.send(&answer) {
            eprintln!("rig-guest: an answer is lost: {error:#}");
        }
    }

    fn obey(&self, question: &Message) -> Result<Vec<Vec<u8>>> {
        match question.word.as_str() {
            message::RUN => run(question),
            message::WATCH => self.watch(question),
            message::PUT => put(question),
            message::GET => {
                let path = question.text(0)?;
                Ok(vec![fs::read(&path).with_context(|| format!("cannot read {path}"))?])
            }
            message::CLUSTER => boot::start_cluster().map(|()| Vec::new()),
            message::DAEMON => boot::start_daemon(&question.words(0)).map(|()| Vec::new()),
            message::POWER_OFF => {
                sync();
                match reboot(RebootMode::RB_POWER_OFF)? {}
            }
            other => bail!("the host asks for `{other}`, which this guest does not know"),
        }
    }

    fn watch(&self, question: &Message) -> Result<Vec<Vec<u8>>> {
        let mut program = command(question.words(0)).bare_environment().start(Stdio::null())?;
        for line in BufReader::new(program.stdout()?).lines() {
            self.send(&Message::new(question.number, message::LINE, [line?]))?;
        }
        Ok(vec![program.wait()?.into_raw().to_string().into_bytes()])
    }

    fn pass_on(&self, listener: &UnixListener) {
        thread::scope(|scope| {
            for (stream, number) in listener.incoming().map_while(Result::ok).zip(1..) {
                scope.spawn(move || {
                    if let Err(error) = self.fence(stream, number) {
                        eprintln!("rig-guest: the fence agent gets no answer: {error:#}");
                    }
                });
            }
        });
    }

    fn fence(&self, mut stream: UnixStream, number: u32) -> Result<()> {
        let mut order = String::new();
        BufReader::new(stream.try_clone()?).read_line(&mut order)?;
        let (sender, answer) = channel();
        lock(&self.asked).insert(number, sender);
        self.send(&Message::new(number, message::FENCE, [order.trim()]))?;
        let answer = answer.recv().context("the host hung up")?;
        Ok(writeln!(stream, "{}", answer.text(0)?)?)
    }
}

fn run(question: &Message) -> Result<Vec<Vec<u8>>> {
    let limit = Duration::from_millis(question.text(0)?.parse()?);
    let command = command(question.words(2)).stdin(question.bytes(1)?).bare_environment().within(limit);
    let output = command.run()?;
    Ok(vec![output.status.into_raw().to_string().into_bytes(), output.stdout.into_bytes(), output.stderr.into_bytes()])
}

/// On the disk before it is said to be written: a power cut right after a test's preparation loses nothing of it.
fn put(question: &Message) -> Result<Vec<Vec<u8>>> {
    let path = PathBuf::from(question.text(0)?);
    let write = || -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mode = u32::from_str_radix(&question.text(1)?, 8)?;
        let new = PathBuf::from(format!("{}.new", path.display()));
        let mut file = File::create(&new)?;
        file.write_all(question.bytes(3)?)?;
        if question.text(2)? == "cluster" {
            let user = User::from_name("hacluster")?.context("no user hacluster")?;
            chown(&new, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&new, &path)?;
        // The file alone would come back under its old name, or not at all.
        Ok(syncfs(&file)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Vec::new())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
