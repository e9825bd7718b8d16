//! hvmail-secondary.service at a boot with the real systemd, beside GreenArrow's own start and before Pacemaker.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cts_tests::agent::in_private_network;
use cts_tests::command::command;
use cts_tests::isolation::STATE;
use cts_tests::systemd::Systemd;
use cts_tests::{installed, wait};
use nix::mount::{MsFlags, mount};

const UNIT: &str = "hvmail-secondary.service";
const ADDRESS: &str = "192.0.2.10";

/// Keeps what systemctl status shows. It binds its sockets itself where systemd does not.
const JOURNAL: &str = "[Unit]\nDescription=journal\nDefaultDependencies=no\nBefore=basic.target\n\
    [Service]\nType=notify\nExecStart=/lib/systemd/systemd-journald\n[Install]\nWantedBy=basic.target\n";

/// What starts everything at boot on a stock install, and what the cluster's own unit is by name.
fn at_boot(about: &str) -> String {
    format!(
        "[Unit]\nDescription={about}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

/// What is written there is seen in this namespace only.
fn private(directory: &str) -> Result<()> {
    let own = Path::new(STATE).join(directory.replace('/', "-"));
    let [upper, work] = ["upper", "work"].map(|part| own.join(part));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    let options = format!("lowerdir={directory},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), directory, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("cannot mount an overlay on {directory}"))
}

/// A node with the unit's program, one agent and an address that the network's own configuration has brought up.
fn node() -> Result<()> {
    for directory in ["/etc", "/usr/sbin", "/usr/lib/ocf/resource.d"] {
        private(directory)?;
    }
    fs::copy(installed::agent("hvmail-ha")?.with_file_name("hvmail_ha"), "/usr/sbin/hvmail_make_secondary")?;
    fs::create_dir_all(installed::PROVIDER_DIRECTORY)?;
    fs::copy(installed::agent("primary-ips")?, format!("{}/primary-ips", installed::PROVIDER_DIRECTORY))?;
    fs::write("/etc/hvmail_primary_ips", format!("{ADDRESS}/32 lo\n"))?;
    command(["ip", "address", "add", &format!("{ADDRESS}/32"), "dev", "lo"]).text().map(drop)
}

/// A time of a unit, in microseconds since the start of the kernel.
fn moment(systemd: &Systemd, unit: &str, property: &str) -> Result<u64> {
    let shown = systemd.run(&["systemctl", "show", "--value", "--property", property, unit])?;
    shown.stdout.trim().parse().with_context(|| format!("{property} of {unit}: {shown:?}"))
}

/// Waits until systemctl status shows all of these.
fn shows(systemd: &Systemd, words: &[&str]) -> Result<()> {
    let mut text = String::new();
    let shown = || {
        text = systemd.run(&["systemctl", "status", "--no-pager", "--full", UNIT])?.all();
        Ok(words.iter().all(|word| text.contains(word)))
    };
    let waited = wait::until("systemctl status", std::time::Duration::from_secs(5), wait::QUICK, shown);
    waited.with_context(|| format!("{words:?} expected in {text}"))?;
    println!("{text}");
    Ok(())
}

#[test]
fn what_has_started_by_itself_is_told_before_pacemaker_starts() -> Result<()> {
    in_private_network(&["primary-ips", "hvmail-ha"], || {
        node()?;
        let own = installed::workspace().join("rpm").join(UNIT);
        let others = [("systemd-journald", JOURNAL.to_owned())].into_iter();
        let others = others.chain(["pacemaker", "greenarrow"].map(|name| (name, at_boot(name))));
        let mut units = vec![own.display().to_string()];
        for (name, text) in others {
            let path = format!("/run/{name}.service");
            fs::write(&path, text)?;
            units.push(path);
        }
        let systemd = Systemd::boot(&units.iter().map(String::as_str).collect::<Vec<_>>())?;

        // It has failed, and says what it has found and what to do; Pacemaker has waited for it, and started.
        shows(
            &systemd,
            &[
                "Active: failed (Result: exit-code)",
                "status=1/FAILURE",
                "is active, and not by the cluster",
                "take the addresses out of the network's own configuration",
                "greenarrow.service is enabled: at each boot it starts everything",
                "systemctl disable greenarrow",
            ],
        )?;
        let ended = moment(&systemd, UNIT, "ExecMainExitTimestampMonotonic")?;
        let started = moment(&systemd, "pacemaker.service", "ExecMainStartTimestampMonotonic")?;
        ensure!(ended > 0 && started >= ended, "Pacemaker started at {started} µs, {UNIT} ended at {ended} µs");
        // It has changed nothing.
        let addresses = command(["ip", "-o", "address", "show", "dev", "lo"]).text()?;
        ensure!(addresses.contains(ADDRESS), "{ADDRESS} is gone: {addresses}");

        // Both seen to, as it said, before the next boot, which finds /run empty: what the agent has found it has noted there.
        command(["ip", "address", "del", &format!("{ADDRESS}/32"), "dev", "lo"]).text()?;
        fs::remove_dir_all("/run/resource-agents")?;
        fs::create_dir("/run/resource-agents")?;
        let disabled = systemd.run(&["systemctl", "disable", "greenarrow"])?;
        ensure!(disabled.code() == Some(0), "{disabled:?}");
        let again = systemd.run(&["systemctl", "restart", UNIT])?;
        ensure!(again.code() == Some(0), "{again:?}");
        shows(&systemd, &["Active: inactive (dead)", "nothing of the pair is active here without the cluster"])
    })
}
