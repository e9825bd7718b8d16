//! From stopped to Secondary: module, minors, disks, connections.

use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use ocf::{Done, Failure, Notification, Run};

use crate::apart;
use crate::configuration::{adm, drbdadms_words, own_name};
use crate::demote::make_secondary;
use crate::dump_xml::Configuration;
use crate::kernel::{self, Seen};
use crate::model::{Connection, Disk, Peer, Resource};
use crate::module;
use crate::monitor;
use crate::parameters::Settings;
use crate::proc_drbd::ProcDrbd;

/// The instance was started, or taken over as it was: the resource's name and its minors.
pub(crate) const STARTED: &str = "started";
/// udev makes the nodes, which takes some milliseconds on an idle machine.
const LOOK_FOR_DEVICES: Duration = Duration::from_millis(50);
/// Between two looks at the connections.
const LOOK_FOR_PEERS: Duration = Duration::from_millis(200);
/// Before the second try to attach, as when a disk is still held by whoever used it last.
const TRY_AGAIN: Duration = Duration::from_secs(1);

pub(crate) fn start(run: &Run, settings: &Settings) -> Done {
    if !run.environment.promotable() {
        return Err(Failure::not_configured(
            "drbd must be a promotable clone: as a plain resource nobody would promote it",
        ));
    }
    module::load(run, settings)?;
    let seen = seen(run, settings)?;
    if let Some(unwanted) = module::unwanted(settings, seen.version()) {
        return Err(Failure::not_installed(unwanted));
    }
    let configuration = Configuration::read(run, settings)?;
    if run.environment.promoted_max().is_some_and(|most| most > 1) && !configuration.allows_two_primaries() {
        let reason = format!("promoted-max is above 1, but {} does not allow-two-primaries", settings.name);
        return Err(Failure::not_configured(reason));
    }
    let start = Start { run, settings, configuration: &configuration };
    start.create(&seen)?;
    start.attach()?;
    if start.seen()?.primary() {
        run.log.warning(&format!("{} was Primary before the start; it is demoted", settings.name));
        make_secondary(run, settings)?;
    }
    if !settings.connect_only_after_promote {
        adjust(run, settings, &configuration);
        start.wait_for_peers()?;
    }
    start.conclude()
}

fn seen(run: &Run, settings: &Settings) -> Result<Seen, Failure> {
    kernel::look_patiently(run, &settings.name, run.deadline)?
        .ok_or_else(|| Failure::generic("the drbd module went away while it was started"))
}

/// `drbdadm adjust`, with the one peer that 8.4 connects to where drbd.conf names several.
pub(crate) fn adjust(run: &Run, settings: &Settings, configuration: &Configuration) {
    let mut words = Vec::new();
    let version = ProcDrbd::look().ok().flatten().and_then(|proc| proc.version);
    let one_peer = version.is_some_and(|version| version < (9, 0, 0));
    if one_peer && configuration.hosts.len() > 2 {
        let own = own_name();
        let others = Notification::nodes_after(&run.environment).into_iter().filter(|node| *node != own);
        if let Some(peer) = others.into_iter().find(|node| configuration.hosts.contains(node)) {
            words.extend(["--peer".to_owned(), peer]);
        }
    }
    words.extend(["adjust".to_owned(), settings.name.clone()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match adm(settings, &words, run.deadline) {
        Ok(output) if output.status.success() => {}
        // The monitor says what is not connected because of that.
        Ok(output) => run.log.warning(&format!("drbdadm adjust: {}", drbdadms_words(&output))),
        Err(error) => run.log.warning(&format!("{error:#}")),
    }
}

struct Start<'a> {
    run: &'a Run,
    settings: &'a Settings,
    configuration: &'a Configuration,
}

impl Start<'_> {
    fn adm(&self, words: &[&str]) -> Done {
        let output = adm(self.settings, words, self.run.deadline)?;
        if output.status.success() {
            return Ok(());
        }
        Err(Failure::generic(format!("drbdadm {}: {}", words.join(" "), drbdadms_words(&output))))
    }

    fn seen(&self) -> Result<Seen, Failure> {
        seen(self.run, self.settings)
    }

    /// The resource and its minors, and their device nodes.
    fn create(&self, seen: &Seen) -> Done {
        let name = self.settings.name.as_str();
        if seen.resource.is_none() {
            // The disk may have grown while the resource was down; internal meta data is at its end.
            if let Err(failure) = self.adm(&["check-resize", name]) {
                self.run.log.info(failure.reason());
            }
            self.adm(&["new-resource", name])?;
        }
        // One may have been added to drbd.conf while the others were up.
        let up = |number: &u32| seen.resource.as_ref().is_some_and(|resource| resource.volumes.contains_key(number));
        for number in self.configuration.devices.keys().filter(|number| !up(number)) {
            self.adm(&["new-minor", &format!("{name}/{number}")])?;
        }
        for device in self.configuration.devices.values() {
            while !std::fs::metadata(device).is_ok_and(|facts| facts.file_type().is_block_device()) {
                if !self.run.deadline.sleep(LOOK_FOR_DEVICES) {
                    let reason = format!("the device {} did not appear in time: does udev run?", device.display());
                    return Err(Failure::generic(reason));
                }
            }
        }
        Ok(())
    }

    fn attach(&self) -> Done {
        let Err(first) = self.try_attach() else { return Ok(()) };
        self.run.log.warning(&format!("{}; once more", first.reason()));
        self.run.deadline.sleep(TRY_AGAIN);
        self.try_attach()
    }

    fn try_attach(&self) -> Done {
        let (name, seen) = (&self.settings.name, self.seen()?);
        if seen.version() >= (9, 0, 0) {
            // For a node that has no disks on purpose that does nothing.
            return self.adm(&["adjust", "--skip-net", name]);
        }
        let volumes = seen.resource.map(|resource| resource.volumes).unwrap_or_default();
        let bare = volumes.into_iter().filter(|(_, volume)| volume.disk == Disk::Diskless);
        bare.into_iter().try_for_each(|(number, _)| self.adm(&["attach", &format!("{name}/{number}")]))
    }

    /// Waits for the connections, and until it is known whose data is good.
    fn wait_for_peers(&self) -> Done {
        let Some(patience) = self.settings.wait_for_peers else { return Ok(()) };
        let deadline = self.run.deadline.at_most(patience.min(self.run.deadline.remaining() / 2));
        while !self.seen()?.resource.as_ref().is_some_and(settled) {
            if !deadline.sleep(LOOK_FOR_PEERS) {
                self.run.log.info("not every peer is connected yet");
                break;
            }
        }
        Ok(())
    }

    fn conclude(&self) -> Done {
        let seen = self.seen()?;
        let Some(resource) = &seen.resource else {
            return Err(Failure::generic(format!("{} is down again after it was brought up", self.settings.name)));
        };
        record(self.run, self.settings, resource)?;
        // Without a score Pacemaker promotes nobody, and with this one nobody waits for the first monitor: what the others have is
        // asked for before.
        let parted = apart::exchange(self.run, self.settings, &seen).parted;
        monitor::tell(self.run, self.settings, resource, parted);
        Ok(())
    }
}

/// Writes down what is up, unless that is known: without drbdsetup there is nobody else to say it.
pub(crate) fn record(run: &Run, settings: &Settings, resource: &Resource) -> Done {
    let minors: Vec<String> = resource.minors().iter().map(u32::to_string).collect();
    let text = format!("{}\n{}", settings.name, minors.join(" "));
    if run.store.read(STARTED)?.as_ref() != Some(&text) {
        run.store.write(STARTED, &text)?;
    }
    Ok(())
}

/// Whether waiting any longer would show nothing new.
fn settled(resource: &Resource) -> bool {
    let known = |peer: &Peer| matches!(peer.connection, Connection::Connected | Connection::StandAlone);
    let disks = resource.volumes.values().all(|volume| !volume.disk.in_transition());
    disks && !resource.peers.is_empty() && resource.peers.values().all(known)
}
