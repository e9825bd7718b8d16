//! Guests side by side, with their cables and their power switch: what a test of the second rig starts with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::Guest;
use super::image::{self, Image};
use super::initramfs;
use super::outside;
use super::power::PowerSwitch;
use super::switch::{Link, Switch, Weather};
use crate::node::Owner;
use crate::{installed, isolation, network};

/// What of a guest's logs is kept of a failure, and how long each may take.
const LOGS: [&str; 3] =
    ["/var/log/pacemaker/pacemaker.log", "/var/log/corosync/corosync.log", "/var/log/ocf-postgresql.log"];
const PATIENCE: Duration = Duration::from_secs(20);

/// Volumes of each guest: one for a resource, one for a second, two for one with two volumes.
pub const VOLUMES: u8 = 4;

/// Guests that have power. They end with the namespaces of the driver.
#[derive(Debug)]
pub struct Rack {
    /// The guests, n1 first.
    pub guests: Vec<Arc<Guest>>,
    /// The cables.
    pub switch: Arc<Switch>,
    /// The power switch and its log.
    pub power: Arc<PowerSwitch>,
    /// Where the switch has a port for clients ([`outside::Outside`]).
    pub outside: PathBuf,
    /// Where the consoles are kept, and after a failure the logs, until the same test runs again.
    pub logs: PathBuf,
}

impl Rack {
    /// Starts `count` guests, and waits until they are up: with names for each other, with the fence agent, with nothing
    /// configured.
    pub fn start(count: u8) -> Result<Self> {
        Self::start_with(count, 1, &[])
    }

    /// The same with so many processors in each, and with directories of the host that every guest mounts, to read from, in
    /// these places: servers of PostgreSQL, for one.
    pub fn start_with(count: u8, processors: u8, trees: &[(&Path, &str)]) -> Result<Self> {
        let directory = Path::new(isolation::STATE).join("guests");
        if directory.exists() {
            // Of guests that are gone.
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        let logs = logs()?;
        let image = Image::current()?;
        initramfs::make(&image, &directory)?;
        let mut images = Vec::new();
        for (index, (tree, place)) in trees.iter().enumerate() {
            let image = directory.join(format!("tree{index}"));
            image::file_system(tree, &image)?;
            images.push((image, (*place).to_owned()));
        }
        let (sender, orders) = channel();
        let guests = (1..=count)
            .map(|number| {
                Guest::new(number, processors, VOLUMES, &images, &directory, &logs, sender.clone()).map(Arc::new)
            })
            .collect::<Result<Vec<_>>>()?;
        let mut ports: Vec<_> = guests.iter().map(|guest| (guest.number, guest.sockets().to_owned())).collect();
        let outside = directory.join("outside");
        fs::create_dir(&outside)?;
        ports.push((outside::NUMBER, outside.clone()));
        let switch = Switch::start(&ports)?;
        let power = PowerSwitch::start(&guests, orders)?;
        let rack = Self { guests, switch, power, outside, logs };
        rack.each(Guest::power_on)?;
        rack.each(Guest::wait_up)?;
        rack.each(|guest| rack.lay_down(guest))?;
        Ok(rack)
    }

    /// What every guest has on its disk.
    fn lay_down(&self, guest: &Guest) -> Result<()> {
        let name = |guest: &Arc<Guest>| format!("{} {}\n", network::node_ipv4(guest.number), guest.name);
        let hosts: String = self.guests.iter().map(name).collect();
        guest.write_file("/etc/hosts", format!("127.0.0.1 localhost\n{hosts}"), 0o644, Owner::Root)?;
        guest.install(&installed::rig_program("fence_rig")?, "/usr/sbin/fence_rig", 0o755)
    }

    /// Does something to every guest, at the same time.
    pub fn each(&self, deed: impl Fn(&Guest) -> Result<()> + Sync) -> Result<()> {
        let deed = &deed;
        thread::scope(|scope| {
            let threads: Vec<_> = self.guests.iter().map(|guest| scope.spawn(move || deed(guest))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// The guest of that name.
    pub fn guest(&self, name: &str) -> Result<&Arc<Guest>> {
        self.guests.iter().find(|guest| guest.name == name).with_context(|| format!("no guest is called {name}"))
    }

    /// A guest other than `guest`: with two, its peer.
    pub fn peer(&self, guest: &Guest) -> Result<&Arc<Guest>> {
        self.guests.iter().find(|one| one.number != guest.number).context("a single guest has no peer")
    }

    /// Cuts one link between all guests: none loses its carrier, and nothing arrives.
    pub fn cut(&self, link: Link) {
        for one in &self.guests {
            for other in self.guests.iter().filter(|other| other.number > one.number) {
                self.switch.between(link, one.number, other.number, Weather::CUT);
            }
        }
    }

    /// Fine weather on both links.
    pub fn mend(&self) {
        self.switch.mend();
    }

    /// What helps to understand a failure: the ends of the consoles, and where the whole is, with the logs of the guests that
    /// are on.
    pub fn dump(&self) -> String {
        let kept = self.logs.display();
        let mut text = format!("\n== trouble: {:#?}\n== consoles and logs are kept in {kept}\n", self.power.trouble());
        for guest in &self.guests {
            text.extend(LOGS.iter().filter_map(|log| self.keep(guest, log).err()).map(|error| format!("{error:#}\n")));
            let console = guest.console();
            let last: Vec<_> = console.lines().collect();
            let last = last[last.len().saturating_sub(30)..].join("\n");
            text += &format!("== console of {}\n{last}\n", guest.name);
        }
        text
    }

    fn keep(&self, guest: &Guest, log: &str) -> Result<()> {
        if !guest.is_on() || !guest.command(&["test", "-e", log]).within(PATIENCE).run()?.status.success() {
            return Ok(());
        }
        let name = Path::new(log).file_name().unwrap_or_default().to_string_lossy();
        let end = guest.command(&["tail", "-c", "4000000", log]).within(PATIENCE).run()?;
        Ok(fs::write(self.logs.join(format!("{}.{name}", guest.name)), end.stdout)?)
    }
}

impl Drop for Rack {
    /// The power switch has its guests for as long as they can ask it for something, and they would meet those of the next rack.
    fn drop(&mut self) {
        self.power.restart_after(None);
        for guest in &self.guests {
            let _nobody_to_tell = guest.power_cut();
        }
    }
}

/// An empty directory for the logs of this test or program.
fn logs() -> Result<PathBuf> {
    let program = std::env::current_exe()?.file_stem().map(|name| name.to_string_lossy().into_owned());
    let thread = thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    let name = thread.or(program).unwrap_or_default().replace("::", "-");
    let logs = installed::target_directory()?.join("guest-logs").join(name);
    let _none = fs::remove_dir_all(&logs);
    fs::create_dir_all(&logs)?;
    Ok(logs)
}
