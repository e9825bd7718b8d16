//! Network namespaces for tests: a network of a test's own, with the real kernel as its witness.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use nix::sched::{CloneFlags, setns, unshare};

/// An empty network; it goes when this is dropped. Needs root.
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new network in which only the loopback interface exists, up.
    pub(crate) fn new() -> Self {
        let file = std::thread::scope(|scope| scope.spawn(Self::create).join().unwrap());
        let namespace = Self(file);
        namespace.ip("link set lo up");
        namespace
    }

    fn create() -> File {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root: run the tests as root");
        File::open("/proc/thread-self/ns/net").unwrap()
    }

    /// Runs `work` in a thread of this network. A namespace belongs to a thread, not to the process.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` with the words of `arguments`, which must succeed; returns what it printed.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let output = self.run(|| spawn("ip", arguments));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {text}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Gives the interface an address that can be used at once: without duplicate address detection.
    pub(crate) fn add_address(&self, interface: &str, address: &str) {
        let no_detection = if address.contains(':') { "nodad" } else { "" };
        self.ip(&format!("address add {address} dev {interface} {no_detection}"));
    }

    /// Lays a cable: an interface `here` of this network and one `there` of another, both up. Duplicate address
    /// detection is off at both ends unless a test switches it on (accept_dad), so that no test waits for it.
    pub(crate) fn cable(&self, here: &str, other: &Self, there: &str) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.ip(&format!("link add {here} type veth peer name {there} netns {path}"));
        for (network, name) in [(self, here), (other, there)] {
            network.set(&format!("ipv6/conf/{name}/accept_dad"), "0");
            network.ip(&format!("link set {name} up"));
        }
    }

    /// Writes a setting below /proc/sys/net.
    pub(crate) fn set(&self, setting: &str, value: &str) {
        let path = format!("/proc/sys/net/{setting}");
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// Reads a setting below /proc/sys/net.
    pub(crate) fn get(&self, setting: &str) -> String {
        let path = format!("/proc/sys/net/{setting}");
        let text = self.run(|| std::fs::read_to_string(&path));
        text.unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's set-up has no deadline, group or log to keep")]
fn spawn(program: &str, arguments: &str) -> Output {
    Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("these tests need {program} (Debian package iproute2): {error}"))
}
