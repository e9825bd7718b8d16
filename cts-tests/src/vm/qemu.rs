//! How QEMU is started for a guest, and what its monitor is told.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{PORT, switch};
use crate::command::{Command, command};

/// What a guest is made of.
#[derive(Clone, Debug)]
pub struct Hardware {
    /// The guest's number: part of its MAC addresses.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// How many.
    pub processors: u8,
    /// In MiB.
    pub memory: u32,
    /// How many volumes the third disk is divided into.
    pub volumes: u64,
    /// The kernel.
    pub kernel: PathBuf,
    /// What the kernel starts.
    pub initramfs: PathBuf,
    /// The disks, vda first; vda is read only.
    pub disks: [PathBuf; 3],
    /// Further disks to read from, and where the guest mounts them.
    pub trees: Vec<(PathBuf, String)>,
    /// Where the sockets of this guest are.
    pub sockets: PathBuf,
    /// Where the guest's console goes.
    pub console: PathBuf,
}

/// Whether guests run on the processor itself. The device alone says little: inside some virtual machines it is there, and
/// a guest of it stands still.
pub fn has_kvm() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let hardware = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    hardware && std::fs::File::options().read(true).write(true).open("/dev/kvm").is_ok()
}

impl Hardware {
    /// The command line.
    pub fn command(&self) -> Command {
        // For an emulated processor, the least that distributions ask for; what is missing need not be emulated.
        let (accelerator, processor) = if has_kvm() {
            ("kvm", "host")
        } else {
            ("tcg,thread=multi,tb-size=256", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand")
        };
        let mut qemu =
            command(["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
                .args(["-accel", accelerator, "-cpu", processor, "-machine", "q35,hpet=off"])
                .args(["-smp", &self.processors.to_string(), "-m", &self.memory.to_string()])
                .arg("-serial")
                .arg(format!("file:{}", self.console.display()))
                .arg("-monitor")
                .arg(format!("unix:{},server=on,wait=off", self.monitor().display()))
                .arg("-kernel")
                .arg(&self.kernel)
                .arg("-initrd")
                .arg(&self.initramfs)
                .args(["-append", &self.kernel_command_line()])
                .args(["-device", "virtio-rng-pci"]);
        let disks = self.disks.iter().chain(self.trees.iter().map(|(image, _)| image));
        for (index, disk) in disks.enumerate() {
            // What the guest has given to the disk survives the end of QEMU, with the host's page cache as disk.
            let access =
                if index == 0 || index >= self.disks.len() { "readonly=on,file.locking=off" } else { "cache=unsafe" };
            let drive = format!("file={},format=raw,if=none,id=disk{index},{access}", disk.display());
            qemu = qemu.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive=disk{index}")]);
        }
        let channel = format!("socket,id=channel,path={},server=on,wait=off", self.channel().display());
        qemu = qemu.args(["-device", "virtio-serial-pci", "-chardev", &channel]);
        qemu = qemu.args(["-device", &format!("virtserialport,chardev=channel,name={PORT}")]);
        for link in switch::Link::ALL {
            let [local, remote] = switch::sockets(&self.sockets, link).map(|path| path.display().to_string());
            let id = link.word();
            let socket =
                format!("dgram,id={id},local.type=unix,local.path={local},remote.type=unix,remote.path={remote}");
            let mac = switch::mac(link, self.number).map(|byte| format!("{byte:02x}")).join(":");
            qemu = qemu.args([
                "-netdev",
                &socket,
                "-device",
                &format!("virtio-net-pci,netdev={id},id={id}-card,mac={mac},romfile="),
            ]);
        }
        qemu
    }

    fn kernel_command_line(&self) -> String {
        let Self { name, number, volumes, .. } = self;
        let trees = self.trees.iter().map(|(_, place)| place.as_str()).collect::<Vec<_>>().join(",");
        // The first row is what makes an emulated processor fast; trust_cpu spares the wait for entropy.
        format!(
            "console=ttyS0 loglevel=5 panic=-1 mitigations=off nokaslr norandmaps no5lvl tsc=reliable audit=0 apparmor=0 \
             random.trust_cpu=on net.ifnames=0 rdinit=/init rig.name={name} rig.number={number} rig.volumes={volumes} \
             rig.trees={trees}"
        )
    }

    /// The socket whose other end is the guest's virtio-serial port.
    pub fn channel(&self) -> PathBuf {
        self.sockets.join("channel")
    }

    /// The socket of QEMU's monitor.
    pub fn monitor(&self) -> PathBuf {
        self.sockets.join("monitor")
    }
}

/// Tells QEMU's monitor something, such as `set_link ring off`. It answers nothing to what it has done.
pub fn tell(monitor: &Path, order: &str) -> Result<()> {
    let connect = || UnixStream::connect(monitor).with_context(|| format!("no monitor at {}", monitor.display()));
    let mut stream = connect()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    // The prompt comes back, echoed orders with it, when an order was carried out.
    writeln!(stream, "{order}")?;
    writeln!(stream, "info status")?;
    let (mut line, mut said) = (String::new(), String::new());
    while !line.starts_with("VM status") {
        said += &line;
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            bail!("QEMU's monitor hung up at `{order}`: {said}");
        }
    }
    if said.contains("Error") || said.contains("unknown command") {
        bail!("QEMU's monitor refuses `{order}`: {said}");
    }
    Ok(())
}
