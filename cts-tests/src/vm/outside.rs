//! Where clients of the guests are: this program's own network namespace gets an interface on the ring.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::switch::{Link, mac, sockets};
use crate::command::{Running, command};
use crate::{network, wait};

/// Its number at the switch; no guest has it.
pub const NUMBER: u8 = 0;

/// The interface.
const INTERFACE: &str = "outside";

/// How long QEMU may take to make the interface.
const AMPLE: Duration = Duration::from_secs(20);

/// The cable; without it the interface is gone.
#[derive(Debug)]
pub struct Outside {
    _cable: Running,
}

impl Outside {
    /// Lays a cable from the port of the switch in `directory` to an interface with the observer's addresses.
    ///
    /// The cable is a QEMU without a machine: it copies frames between the switch's sockets and a tap, which else takes an ioctl
    /// of one's own.
    pub fn start(directory: &Path) -> Result<Self> {
        let [card, port] = sockets(directory, Link::Ring).map(|path| path.display().to_string());
        let tap = format!("tap,id=tap,ifname={INTERFACE},script=no,downscript=no,vnet_hdr=off");
        let ring = format!("dgram,id=ring,local.type=unix,local.path={card},remote.type=unix,remote.path={port}");
        let hub = |port: &str| format!("hubport,id=hub-{port},hubid=0,netdev={port}");
        let netdevs = [tap, ring, hub("tap"), hub("ring")];
        let qemu =
            command(["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "none"]);
        let qemu = netdevs.iter().fold(qemu, |qemu, netdev| qemu.args(["-netdev", netdev]));
        let said = directory.join("outside.qemu");
        // It warns of a hub without a machine.
        let mut cable = qemu.start(Stdio::from(File::create(&said)?))?;
        let made = || {
            ensure!(cable.is_running(), "QEMU ended at once: {}", fs::read_to_string(&said).unwrap_or_default());
            // /sys shows the interfaces of the namespace that it was mounted in.
            Ok(fs::read_to_string("/proc/net/dev")?.contains(&format!("{INTERFACE}:")))
        };
        wait::until("the interface on the ring", AMPLE, wait::QUICK, made).context("clients have no network")?;
        let mac = mac(Link::Ring, NUMBER).map(|byte| format!("{byte:02x}")).join(":");
        network::ip(&format!("link set lo up\nlink set {INTERFACE} address {mac}\nlink set {INTERFACE} up\n"))?;
        network::observe_from(INTERFACE)?;
        Ok(Self { _cable: cable })
    }
}
