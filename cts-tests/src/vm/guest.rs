//! One virtual server: its disks, its cards, and the ways a server dies.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::channel::{Channel, Order};
use super::errand::{Errand, USUAL_LIMIT};
use super::image::Image;
use super::message::{self, Message};
use super::qemu::{self, Hardware};
use super::switch::Link;
use crate::command::{Output, Running, command};
use crate::disk::{Item, Kind};
use crate::node::Owner;
use crate::pacemaker::Member;
use crate::{process, wait};

/// How long a guest may take to start.
const BOOT: Duration = Duration::from_secs(60);

/// How much longer than its limit an answer may be on its way.
const GRACE: Duration = Duration::from_secs(10);

/// The size of a guest's own disk, and of each of its volumes. Neither takes more than is written to it.
const OWN_DISK: u64 = 1 << 30;
const VOLUME: u64 = 64 << 20;

/// A guest; shared between the test and the power switch, hence its own locking.
#[derive(Debug)]
pub struct Guest {
    /// Host name and cluster node name: n1, n2, n3.
    pub name: String,
    /// 1, 2 or 3: also Corosync's node id and the last part of its addresses.
    pub number: u8,
    hardware: Hardware,
    logs: PathBuf,
    orders: Sender<Order>,
    connected: AtomicBool,
    machine: Mutex<Option<Machine>>,
}

/// A guest that has power.
#[derive(Debug)]
struct Machine {
    qemu: Running,
    channel: Arc<Channel>,
}

impl Guest {
    /// A guest without power, with an empty disk of its own and empty volumes, and these images to be mounted, below
    /// `directory`; its console goes to `logs`. What its fence agents ask for goes to `orders`.
    pub fn new(
        number: u8,
        processors: u8,
        volumes: u8,
        trees: &[(PathBuf, String)],
        directory: &Path,
        logs: &Path,
        orders: Sender<Order>,
    ) -> Result<Self> {
        let (name, image) = (format!("n{number}"), Image::current()?);
        let directory = directory.join(&name);
        fs::create_dir_all(&directory)?;
        let [own, data] = ["own", "data"].map(|disk| directory.join(disk));
        File::create(&own)?.set_len(OWN_DISK)?;
        File::create(&data)?.set_len(VOLUME * u64::from(volumes))?;
        command(["mkfs.ext4", "-q", "-E", "nodiscard"]).arg(&own).text()?;
        let hardware = Hardware {
            number,
            name: name.clone(),
            processors,
            memory: 640,
            volumes: volumes.into(),
            kernel: image.kernel(),
            initramfs: directory.with_file_name("initramfs.cpio"),
            disks: [image.root(), own, data],
            trees: trees.to_vec(),
            sockets: directory,
            console: logs.join(format!("{name}.console")),
        };
        let (connected, machine) = (AtomicBool::new(true), Mutex::new(None));
        Ok(Self { name, number, hardware, logs: logs.to_owned(), orders, connected, machine })
    }

    /// Where its sockets are.
    pub fn sockets(&self) -> &Path {
        &self.hardware.sockets
    }

    /// Switches the guest on, and returns before it is up; [`Self::wait_up`] waits.
    pub fn power_on(&self) -> Result<()> {
        let mut machine = self.lock();
        ensure!(machine.is_none(), "{} is on already", self.name);
        let sockets = Link::ALL.map(|link| super::switch::sockets(self.sockets(), link)[0].clone());
        for socket in sockets.into_iter().chain([self.hardware.channel(), self.hardware.monitor()]) {
            // QEMU does not take the place of a socket that an earlier one left.
            let _none = fs::remove_file(socket);
        }
        self.keep_console()?;
        let errors = File::options().create(true).append(true).open(self.logs.join(format!("{}.qemu", self.name)))?;
        let mut qemu = self.hardware.command().start(errors)?;
        let listening = || {
            ensure!(qemu.is_running(), "QEMU ended at once; {}", self.where_logs_are());
            Ok(self.hardware.channel().exists() && self.hardware.monitor().exists())
        };
        wait::until("QEMU to listen", Duration::from_secs(20), wait::QUICK, listening)?;
        let channel = Channel::open(&self.name, &self.hardware.channel(), self.orders.clone())?;
        *machine = Some(Machine { qemu, channel });
        drop(machine);
        if !self.is_connected() {
            self.cables("off")?;
        }
        Ok(())
    }

    /// QEMU begins its console file anew; what the guest said before its last start is kept before it.
    fn keep_console(&self) -> Result<()> {
        let console = &self.hardware.console;
        let Ok(said) = fs::read(console) else { return Ok(()) };
        let mut before = File::options().create(true).append(true).open(console.with_extension("console.before"))?;
        Ok(std::io::Write::write_all(&mut before, &said)?)
    }

    /// Waits until the guest obeys.
    pub fn wait_up(&self) -> Result<()> {
        let channel = self.channel()?;
        wait::until(&format!("{} to start", self.name), BOOT, wait::QUICK, || channel.is_up())
            .map(drop)
            .with_context(|| self.where_logs_are())
    }

    /// Starts Corosync and Pacemaker, as at boot.
    pub fn start_cluster(&self) -> Result<()> {
        self.ask(message::CLUSTER, Vec::<&str>::new(), USUAL_LIMIT).map(drop)
    }

    /// Whether the guest has power.
    pub fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether its cables are in.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Power cut: everything that its kernel had not yet given to a disk is gone when this returns. A guest that is off
    /// stays off.
    pub fn power_cut(&self) -> Result<()> {
        let Some(machine) = self.lock().take() else { return Ok(()) };
        process::signal(machine.qemu.pid(), Signal::SIGKILL)?;
        machine.channel.hang_up();
        // Dropping it waits for its end.
        drop(machine.qemu);
        Ok(())
    }

    /// An orderly end, as by an administrator: disks are written first, services are not stopped.
    pub fn power_off(&self) -> Result<()> {
        let channel = self.channel()?;
        drop(channel.ask(message::POWER_OFF, Vec::<&str>::new())?);
        let ended = || Ok(self.lock().as_mut().is_none_or(|machine| !machine.qemu.is_running()));
        wait::until(&format!("{} to switch itself off", self.name), BOOT, wait::QUICK, ended)?;
        self.power_cut()
    }

    /// Pulls every cable of the guest: it loses its carrier and goes on running.
    pub fn cable_cut(&self) -> Result<()> {
        self.connected.store(false, Ordering::Relaxed);
        self.cables("off")
    }

    /// Puts the cables back.
    pub fn cable_mend(&self) -> Result<()> {
        self.connected.store(true, Ordering::Relaxed);
        self.cables("on")
    }

    fn cables(&self, state: &str) -> Result<()> {
        Link::ALL.iter().try_for_each(|link| {
            qemu::tell(&self.hardware.monitor(), &format!("set_link {}-card {state}", link.word()))
        })
    }

    /// Stops the guest where it stands, as a hanging hypervisor does; its kernel stands still too.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets the guest go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let machine = self.lock();
        process::signal(machine.as_ref().with_context(|| format!("{} is off", self.name))?.qemu.pid(), signal)
    }

    /// Makes a volume answer every read and write with an error, what was sent to it before too.
    pub fn volume_fail(&self, volume: u8) -> Result<()> {
        self.volume(volume, |sectors| format!("0 {sectors} error"))
    }

    /// Makes a failed volume work again, with what was on it.
    pub fn volume_mend(&self, volume: u8) -> Result<()> {
        self.volume(volume, |sectors| format!("0 {sectors} linear /dev/vdc {}", u64::from(volume) * sectors))
    }

    fn volume(&self, volume: u8, table: impl FnOnce(u64) -> String) -> Result<()> {
        let (name, table) = (format!("volume{volume}"), table(VOLUME / 512));
        let dmsetup = |words: &[&str]| self.text(&[&["dmsetup", "--noudevsync"], words].concat());
        dmsetup(&["load", &name, "--table", &table])?;
        // Without --noflush a device that cannot finish its writes would never be suspended (dmsetup(8)).
        dmsetup(&["suspend", "--noflush", "--nolockfs", &name])?;
        dmsetup(&["resume", &name]).map(drop)
    }

    /// A command line inside the guest, with a bare environment, not yet started.
    pub fn command(&self, argv: &[&str]) -> Errand<'_> {
        Errand::new(self, argv)
    }

    /// Runs a command inside the guest.
    pub fn run(&self, argv: &[&str]) -> Result<Output> {
        self.command(argv).run()
    }

    /// Runs a command inside the guest that has to succeed, and returns its standard output.
    pub fn text(&self, argv: &[&str]) -> Result<String> {
        self.command(argv).text()
    }

    /// Starts a daemon in the guest.
    pub fn daemon(&self, argv: &[&str]) -> Result<()> {
        self.ask(message::DAEMON, argv, USUAL_LIMIT).map(drop)
    }

    /// Starts a program in the guest, every line of whose standard output comes out of the result as it is printed; the
    /// result closes when the program or the guest has ended.
    pub fn watch(&self, argv: &[&str]) -> Result<Receiver<Message>> {
        self.channel()?.ask(message::WATCH, argv)
    }

    /// Reads a file of the guest.
    pub fn read_file(&self, path: &str) -> Result<String> {
        let bytes = self.ask(message::GET, [path], USUAL_LIMIT)?;
        bytes.text(0)
    }

    /// Writes a file of the guest with the given permission bits; it is on the disk when this returns.
    pub fn write_file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32, owner: Owner) -> Result<()> {
        let (mode, owner) = (format!("{mode:o}"), if owner == Owner::Cluster { "cluster" } else { "root" });
        let fields = [path.as_bytes(), mode.as_bytes(), owner.as_bytes(), content.as_ref()];
        self.ask(message::PUT, fields, USUAL_LIMIT).map(drop)
    }

    /// Copies a file of the host into the guest.
    pub fn install(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write_file(to, content, mode, Owner::Root)
    }

    /// Lays files, programs and links down in the guest.
    pub fn lay_down(&self, items: &[Item]) -> Result<()> {
        items.iter().try_for_each(|item| match &item.kind {
            Kind::File(content, mode) => self.write_file(&item.path, content, *mode, Owner::Root),
            Kind::Directory => self.text(&["mkdir", "-p", &item.path]).map(drop),
            Kind::Link(target) => self.text(&["ln", "-sfn", target, &item.path]).map(drop),
        })
    }

    /// What its kernel and PID 1 have said since the last start.
    pub fn console(&self) -> String {
        fs::read(&self.hardware.console).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
    }

    /// For messages.
    fn where_logs_are(&self) -> String {
        let last: Vec<_> = self.console().lines().rev().take(5).map(str::to_owned).collect();
        let last: String = last.iter().rev().map(|line| format!("  {line}\n")).collect();
        format!("its console and QEMU's words are in {}, and end with:\n{last}", self.logs.display())
    }

    /// Asks the guest something whose answer may take as long as `limit`.
    pub(super) fn ask<I>(&self, word: &str, fields: I, limit: Duration) -> Result<Message>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.channel()?.answer(word, fields, limit + GRACE)
    }

    fn channel(&self) -> Result<Arc<Channel>> {
        let machine = self.lock();
        let machine = machine.as_ref().with_context(|| format!("{} is off", self.name))?;
        Ok(Arc::clone(&machine.channel))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Machine>> {
        // A panic while the lock was held has failed the test already; the cleanup still wants the machine.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member for Guest {
    fn name(&self) -> &str {
        &self.name
    }

    fn number(&self) -> u8 {
        self.number
    }

    fn is_on(&self) -> bool {
        self.is_on()
    }

    fn is_connected(&self) -> bool {
        self.is_connected()
    }

    fn text(&self, argv: &[&str]) -> Result<String> {
        self.text(argv)
    }

    fn run_within(&self, argv: &[&str], limit: Duration) -> Result<Output> {
        self.command(argv).within(limit).run()
    }

    fn write_file(&self, path: &str, content: &str, mode: u32, owner: Owner) -> Result<()> {
        self.write_file(path, content, mode, owner)
    }

    fn power_cut(&self) -> Result<()> {
        self.power_cut()
    }

    fn boot(&self) -> Result<()> {
        self.power_on()?;
        self.wait_up()?;
        self.start_cluster()
    }
}
