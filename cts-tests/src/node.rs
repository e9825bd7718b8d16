//! One emulated server: its namespaces, its disk, its cables, and the ways a server dies.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::command::{Command, Output, Running, command};
use crate::disk::{self, Item};
use crate::network::{self, BRIDGE, IPV4_PREFIX, IPV6_PREFIX};
use crate::pacemaker::Member;
use crate::{installed, isolation, process, wait};

/// Where the driver's directory for a node appears inside it.
pub const SHARE_IN_NODE: &str = "/run/rig";

/// Where `rig-stopwatch` writes in a node.
pub const STOPWATCH_RECORD: &str = "/run/rig/monitors";

/// A node; shared between the test and the power switch, hence its own locking.
#[derive(Debug)]
pub struct Node {
    /// Host name and cluster node name: n1, n2, n3.
    pub name: String,
    /// 1, 2 or 3: also Corosync's node id and the last part of its addresses.
    pub number: u8,
    interfaces: u8,
    disk: PathBuf,
    share: PathBuf,
    connected: AtomicBool,
    boots: AtomicU32,
    daemons: Mutex<Vec<String>>,
    machine: Mutex<Option<Machine>>,
}

/// A node that has power.
#[derive(Debug)]
struct Machine {
    unshare: Running,
    init: u32,
    cables: Vec<String>,
}

/// Owner of a file in a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// root:root
    Root,
    /// hacluster:haclient, as whom Pacemaker's daemons read and write the CIB
    Cluster,
}

impl Node {
    /// A node without power, with an empty disk and `interfaces` network interfaces (eth0, eth1, …).
    pub fn new(number: u8, interfaces: u8) -> Result<Self> {
        let name = format!("n{number}");
        let [disk, share] = ["disk", "share"].map(|kind| Path::new(isolation::STATE).join(kind).join(&name));
        fs::create_dir_all(&disk)?;
        fs::create_dir_all(&share)?;
        Ok(Self {
            name,
            number,
            interfaces,
            disk,
            share,
            connected: AtomicBool::new(true),
            boots: AtomicU32::new(0),
            daemons: Mutex::default(),
            machine: Mutex::new(None),
        })
    }

    /// The directory that appears as [`SHARE_IN_NODE`] inside.
    pub fn share(&self) -> &Path {
        &self.share
    }

    /// The address Corosync is bound to.
    pub fn address(&self) -> IpAddr {
        network::node_ipv4(self.number).into()
    }

    /// Switches the node on: file system and network; no cluster yet.
    pub fn power_on(&self) -> Result<()> {
        let mut machine = self.lock();
        ensure!(machine.is_none(), "{} is on already", self.name);
        let boot = self.boots.fetch_add(1, Ordering::Relaxed) + 1;
        let console = File::options().create(true).append(true).open(self.disk.join("console.log"))?;
        let words = "unshare --mount --uts --ipc --net --pid --fork --kill-child --propagation private --";
        let mut unshare = command(words.split_whitespace())
            .arg(installed::rig_program("rig-node")?)
            .arg(&self.name)
            .args([&self.disk, &self.share])
            .bare_environment()
            .start(console)?;
        let pid = unshare.pid();
        let (init, _) = wait::until_some("a node's PID 1", Duration::from_secs(10), wait::QUICK, || {
            Ok(process::children(pid).first().copied())
        })?;
        let cables = self.plug_in(init, boot)?;
        let mut ready = String::new();
        BufReader::new(unshare.stdout()?).read_line(&mut ready)?;
        ensure!(ready == "ready\n", "{} did not start: {}", self.name, self.console());
        *machine = Some(Machine { unshare, init, cables });
        Ok(())
    }

    /// One veth pair an interface. MAC addresses are fixed: with new ones at each boot the peers would go on sending
    /// to the old one until their neighbour entry has aged.
    fn plug_in(&self, init: u32, boot: u32) -> Result<Vec<String>> {
        let number = self.number;
        let (ipv4, ipv6) = (network::node_ipv4(number), network::node_ipv6(number));
        let state = if self.connected.load(Ordering::Relaxed) { "up" } else { "down" };
        let (mut cables, mut outside, mut inside) = (Vec::new(), String::new(), String::from("link set lo up\n"));
        for index in 0..self.interfaces {
            let cable = format!("{}b{boot}e{index}", self.name);
            outside += &format!(
                "link add {cable} type veth peer name eth{index} address 02:78:00:00:{index:02x}:{number:02x} netns {init}\n\
                 link set {cable} master {BRIDGE} {state}\n"
            );
            inside += &format!("link set eth{index} up\n");
            cables.push(cable);
        }
        inside +=
            &format!("addr add {ipv4}/{IPV4_PREFIX} brd + dev eth0\naddr add {ipv6}/{IPV6_PREFIX} dev eth0 nodad\n");
        network::ip(&outside)?;
        let target = init.to_string();
        command(["nsenter", "-t", &target, "-n", "ip", "-batch", "-"]).stdin(inside).text()?;
        Ok(cables)
    }

    /// From the next start of the cluster on, this daemon is started right before it. Its words hold no white space.
    pub fn at_boot(&self, argv: &[&str]) {
        self.daemons.lock().unwrap_or_else(PoisonError::into_inner).push(argv.join(" "));
    }

    /// Starts what is started at boot, Corosync and Pacemaker last, as the distribution's units would.
    pub fn start_cluster(&self) -> Result<()> {
        let daemons = self.daemons.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = lines(&daemons, |daemon| format!("daemon {daemon}")) + "cluster\n";
        let mut machine = self.lock();
        let machine = machine.as_mut().with_context(|| format!("{} is off", self.name))?;
        Ok(machine.unshare.stdin()?.write_all(orders.as_bytes())?)
    }

    /// Whether the node has power.
    pub fn is_on(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether its cables are in.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Power cut: everything of the node is gone when this returns. The cables come first, because a dying kernel
    /// would still send FIN and RST for its sockets, which no server without power does. A node that is off stays off.
    pub fn power_cut(&self) -> Result<()> {
        let Some(mut machine) = self.lock().take() else { return Ok(()) };
        network::ip(&lines(&machine.cables, |cable| format!("link set {cable} down")))?;
        process::signal(machine.init, Signal::SIGKILL)?;
        let off = || Ok(!machine.unshare.is_running());
        wait::until(&format!("the processes of {} to end", self.name), Duration::from_secs(20), wait::QUICK, off)?;
        // The kernel removes a veth pair with the namespace of either end, at a time of its choosing.
        for cable in &machine.cables {
            command(["ip", "link", "del", cable]).run()?;
        }
        Ok(())
    }

    /// Pulls every cable of the node: it loses its carrier and goes on running.
    pub fn cable_cut(&self) -> Result<()> {
        self.connected.store(false, Ordering::Relaxed);
        self.cables("down")
    }

    /// Puts the cables back.
    pub fn cable_mend(&self) -> Result<()> {
        self.connected.store(true, Ordering::Relaxed);
        self.cables("up")
    }

    /// Until it is next switched off, it and any other such node do not reach each other (bridge(8), `isolated`); all else reaches
    /// both.
    pub fn part(&self) -> Result<()> {
        self.cables("type bridge_slave isolated on")
    }

    fn cables(&self, state: &str) -> Result<()> {
        let machine = self.lock();
        let Some(machine) = machine.as_ref() else { return Ok(()) };
        network::ip(&lines(&machine.cables, |cable| format!("link set {cable} {state}")))
    }

    /// Stops every process of the node where it stands, as a hanging hypervisor does; its kernel goes on answering
    /// ping. (No cgroup freezer reaches a whole PID namespace, so the processes are stopped one by one until no
    /// running one is left.)
    pub fn freeze(&self) -> Result<()> {
        let init = self.init()?;
        let mut stopped = Vec::new();
        loop {
            let all = process::of_namespace(init)?;
            let new: Vec<_> = all.into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                process::signal(pid, Signal::SIGSTOP)?;
                stopped.push(pid);
            }
        }
        // A process stops when it is next scheduled, not when the signal is sent.
        let still = |pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .map_or(true, |stat| stat.contains(") T ") || stat.contains(") Z "))
        };
        let what = format!("every process of {} to stand still", self.name);
        wait::until(&what, Duration::from_secs(10), wait::QUICK, || Ok(stopped.iter().all(still))).map(drop)
    }

    /// Lets every process of the node go on.
    pub fn thaw(&self) -> Result<()> {
        for pid in process::of_namespace(self.init()?)? {
            process::signal(pid, Signal::SIGCONT)?;
        }
        Ok(())
    }

    /// Power cut and power on, with the cluster started as at boot.
    pub fn reboot(&self) -> Result<()> {
        self.power_cut()?;
        self.boot()
    }

    /// The id of the node's PID 1 in the driver's PID namespace.
    pub fn init(&self) -> Result<u32> {
        self.lock().as_ref().map(|machine| machine.init).with_context(|| format!("{} is off", self.name))
    }

    /// A command line inside the node, with a bare environment, not yet started.
    pub fn command(&self, argv: &[&str]) -> Result<Command> {
        let target = self.init()?.to_string();
        Ok(command(["/usr/bin/nsenter", "-t", &target, "-m", "-u", "-i", "-n", "-p", "--"])
            .args(argv)
            .bare_environment())
    }

    /// Runs a command inside the node.
    pub fn run(&self, argv: &[&str]) -> Result<Output> {
        self.command(argv)?.run().with_context(|| format!("on {}", self.name))
    }

    /// Runs a command inside the node that has to succeed, and returns its standard output.
    pub fn text(&self, argv: &[&str]) -> Result<String> {
        self.command(argv)?.text().with_context(|| format!("on {}", self.name))
    }

    /// Processes of the node whose argument list satisfies `wanted`.
    pub fn processes(&self, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<u32>> {
        let all = process::of_namespace(self.init()?)?;
        Ok(all.into_iter().filter(|pid| wanted(&process::arguments(*pid))).collect())
    }

    /// A path of the node as the driver sees it. (Absolute symbolic links in it would lead to the host's files:
    /// name the real path.)
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(format!("/proc/{}/root{path}", self.init()?)))
    }

    /// Reads a file of the node.
    pub fn read_file(&self, path: &str) -> Result<String> {
        let bytes = fs::read(self.path(path)?).with_context(|| format!("cannot read {path} of {}", self.name))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes a file of the node with the given permission bits.
    pub fn write_file(&self, path: &str, content: impl AsRef<[u8]>, mode: u32, owner: Owner) -> Result<()> {
        let file = self.path(path)?;
        let write = || -> Result<()> {
            if let Some(directory) = file.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::write(&file, content)?;
            if owner == Owner::Cluster {
                let user = User::from_name("hacluster")?.context("no user hacluster: is pacemaker installed?")?;
                chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            }
            Ok(fs::set_permissions(&file, fs::Permissions::from_mode(mode))?)
        };
        write().with_context(|| format!("cannot write {path} of {}", self.name))
    }

    /// Lays files, programs and links down in the node.
    pub fn lay_down(&self, items: &[Item]) -> Result<()> {
        disk::lay_down(&self.path("/")?, items).with_context(|| format!("on {}", self.name))
    }

    /// Copies a file of the host into the node.
    pub fn install(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write_file(to, content, mode, Owner::Root)
    }

    /// Every address of every interface but lo, as the kernel has it: the witness of what an agent really did.
    pub fn addresses(&self) -> Result<Vec<Held>> {
        let target = self.init()?.to_string();
        let text = command(["nsenter", "-t", &target, "-n", "ip", "-o", "addr", "show"]).text()?;
        text.lines().map(Held::parse).filter(|held| held.as_ref().map_or(true, |held| held.interface != "lo")).collect()
    }

    /// What PID 1 and the tools it started have printed since the first boot.
    pub fn console(&self) -> String {
        fs::read_to_string(self.disk.join("console.log")).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Machine>> {
        // A panic while the lock was held has failed the test already; the cleanup still wants the machine.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member for Node {
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
        self.command(argv)?.within(limit).run()
    }

    fn write_file(&self, path: &str, content: &str, mode: u32, owner: Owner) -> Result<()> {
        self.write_file(path, content, mode, owner)
    }

    fn power_cut(&self) -> Result<()> {
        self.power_cut()
    }

    fn boot(&self) -> Result<()> {
        self.power_on()?;
        self.start_cluster()
    }
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix: u8,
}

impl Held {
    /// Reads a line of `ip -o addr`: `2: eth0    inet 10.78.0.11/16 brd …`.
    pub fn parse(line: &str) -> Result<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, interface, "inet" | "inet6", text, ..] = words.as_slice() else {
            bail!("expected a line of `ip -o addr`, found: {line}")
        };
        let (address, prefix) = text.split_once('/').unwrap_or((text, if text.contains(':') { "128" } else { "32" }));
        let parsed = || Some((address.parse().ok()?, prefix.parse().ok()?));
        let (address, prefix) = parsed().with_context(|| format!("expected ADDRESS/PREFIX, found {text}: {line}"))?;
        Ok(Self { interface: interface.trim_end_matches(':').to_owned(), address, prefix })
    }
}

fn lines(names: &[String], line: impl Fn(&str) -> String) -> String {
    names.iter().map(|name| line(name) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::Held;

    #[test]
    fn lines_of_ip() {
        let held = Held::parse("2: eth0    inet 10.78.0.11/16 brd 10.78.255.255 scope global eth0\\ valid_lft forever");
        let held = held.unwrap();
        assert_eq!((held.interface.as_str(), held.prefix), ("eth0", 16));
        assert_eq!(held.address.to_string(), "10.78.0.11");
        let held = Held::parse("7: eth1    inet6 fe80::1/64 scope link ").unwrap();
        assert_eq!(held.address.to_string(), "fe80::1");
        assert!(Held::parse("2: eth0: <BROADCAST> mtu 1500").is_err());
    }
}
