//! primary-ips in the test's own network: how it is called there, and the kernel as the witness of what it did.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::address_watch::AddressWatch;
use crate::agent::{self, Agent};
use crate::command::command;
use crate::node::Held;
use crate::{network, wait};

/// The agent.
const NAME: &str = "primary-ips";

/// The resource's name; the agent's state files carry it.
pub const INSTANCE: &str = "ips";

/// Where the agent's state is in the private /run.
pub const STATE_FILE: &str = "/run/resource-agents/primary-ips-ips.state";

/// The list of addresses: not the parameter's default, which would be a file of the host.
pub const IP_FILE: &str = "/run/primary_ips";

/// Runs `body` in a private network with primary-ips ([`agent::in_private_network`]).
pub fn in_private_network(body: impl FnOnce() -> Result<()>) -> Result<()> {
    agent::in_private_network(&[NAME], body)
}

impl Agent {
    /// primary-ips in a promotable clone.
    pub fn promotable() -> Result<Self> {
        Self::promotable_of(NAME, INSTANCE).map(Self::of_addresses)
    }

    /// primary-ips as a plain resource.
    pub fn plain() -> Result<Self> {
        Self::plain_of(NAME, INSTANCE).map(Self::of_addresses)
    }

    /// primary-ips as a person calls it.
    pub fn by_hand() -> Result<Self> {
        Self::by_hand_of(NAME, INSTANCE).map(Self::of_addresses)
    }

    fn of_addresses(self) -> Self {
        self.set("ip_file", IP_FILE).witness(|| Ok(format!("in the kernel: {:#?}", held()?)))
    }

    /// The same without what takes time and matters only to tests of its own: the duplicate check, the announcer.
    #[must_use]
    pub fn quick(self) -> Self {
        self.set("duplicate_check", "off").set("announce_count", "1")
    }
}

/// Writes the list of addresses, one line each.
pub fn list(lines: &[&str]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(IP_FILE, text).with_context(|| format!("cannot write {IP_FILE}"))
}

/// `count` lines of addresses 10.0.0.2/8, 10.0.0.3/8 …
pub fn many(count: u32) -> Vec<String> {
    (0..count).map(|number| format!("{}/8", Ipv4Addr::from_bits(0x0a00_0002 + number))).collect()
}

/// Every address in the kernel but those of lo and the link-local ones that it gives to each link by itself.
pub fn held() -> Result<Vec<Held>> {
    let text = command(["ip", "-o", "addr", "show"]).text()?;
    let all = text.lines().map(Held::parse).collect::<Result<Vec<_>>>()?;
    let own = |held: &Held| held.address.to_string().starts_with("fe80:") && held.prefix == 64;
    Ok(all.into_iter().filter(|held| held.interface != "lo" && !own(held)).collect())
}

/// What the kernel holds besides `fixed` has to be exactly `expected`, both as `ADDRESS/PREFIX INTERFACE`.
pub fn holds(fixed: &[&str], expected: &[&str]) -> Result<()> {
    let mut found: Vec<_> = held()?.iter().map(words).collect();
    let mut wanted: Vec<_> = fixed.iter().chain(expected).map(|text| (*text).to_owned()).collect();
    found.sort();
    wanted.sort();
    ensure!(found == wanted, "in the kernel there had to be {wanted:#?}, and there is {found:#?}");
    Ok(())
}

fn words(held: &Held) -> String {
    format!("{}/{} {}", held.address, held.prefix, held.interface)
}

/// The kernel's whole line about an address, with its flags.
pub fn line_of(address: &str) -> Result<String> {
    let text = command(["ip", "-o", "addr", "show", "to", address]).text()?;
    match text.lines().collect::<Vec<_>>()[..] {
        [line] => Ok(line.to_owned()),
        _ => bail!("{address} had to be there once, and ip shows: {text:?}"),
    }
}

/// The addresses that were deleted here since `since`, as far as the kernel has said so by now. (What it says was added
/// proves no change: it says so again when it has finished with an IPv6 address, `addrconf_dad_completed`.)
pub fn deleted(watch: &AddressWatch, since: Instant) -> Result<Vec<IpAddr>> {
    // Notifications keep their order: once this one has been read, all before it have been.
    const MARK: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1));
    let marked = Instant::now();
    ip(&format!("addr add {MARK} dev lo\naddr del {MARK} dev lo\n"))?;
    let read = || Ok(!watch.lost(marked, &[MARK]).is_empty());
    wait::until("the kernel's notifications", Duration::from_secs(10), wait::QUICK, read)?;
    let gone = watch.since(since).into_iter().filter(|event| !event.added && event.address != MARK);
    Ok(gone.map(|event| event.address).collect())
}

/// Runs ip(8) commands, one a line, in the test's network.
pub fn ip(batch: &str) -> Result<()> {
    network::ip(batch)
}

/// Writes a setting below /proc/sys/net.
pub fn setting(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}
