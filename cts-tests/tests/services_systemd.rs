//! `ocf:greenarrow:services` where svscan is a unit of systemd's, with the real one as PID 1 of a namespace.

use anyhow::{Result, ensure};
use cts_tests::agent::{Agent, in_private_network};
use cts_tests::command::Output;
use cts_tests::daemontools::{Places, Service};
use cts_tests::greenarrow::Tree;
use cts_tests::supervision::Supervision;
use cts_tests::systemd::Systemd;

/// Runs an action of the agent beside systemd.
fn exits(systemd: &Systemd, status: i32, agent: &Agent, action: &str) -> Result<Output> {
    let inside = systemd.inside();
    let output = agent.command(&inside.iter().map(String::as_str).collect::<Vec<_>>(), action).run()?;
    ensure!(output.code() == Some(status), "{action} had to end with {status}: {output:#?}");
    Ok(output)
}

#[test]
fn a_unit_of_systemd_is_started_for_svscan() -> Result<()> {
    in_private_network(&["services"], || {
        let services = Supervision::here(Places::private());
        let tree = Tree::new(Places::private()).with(Service::new("hvmail-a").steady().with_log());
        services.lay_down(&tree.items())?;
        let scan = services.places().scan.clone();
        let agent = Agent::promotable_of("services", "mail")?;
        let agent = agent.set("service_dir", &scan).set("settle_time", "500ms").set("svscan", "svscan.service");
        let systemd = Systemd::boot(&[&format!("svscan=/usr/bin/svscan {scan}"), "broken=/bin/false"])?;

        let refused = exits(&systemd, 1, &agent.clone().set("svscan", "absent.service"), "start")?;
        ensure!(refused.stderr.contains("systemctl start absent.service failed"), "{refused:#?}");
        ensure!(refused.stderr.contains("not found"), "systemctl's own words are missing: {refused:#?}");
        let dies = exits(&systemd, 1, &agent.clone().set("svscan", "broken"), "start")?;
        ensure!(dies.stderr.contains("5 s later none runs in"), "{dies:#?}");

        exits(&systemd, 0, &agent, "start")?;
        let active = systemd.run(&["systemctl", "is-active", "svscan.service"])?;
        assert_eq!(active.stdout.trim(), "active");
        exits(&systemd, 0, &agent, "promote")?;
        exits(&systemd, 8, &agent, "monitor")?;
        exits(&systemd, 0, &agent, "stop")?;
        // Services of others may run under it.
        let active = systemd.run(&["systemctl", "is-active", "svscan.service"])?;
        assert_eq!(active.stdout.trim(), "active");
        exits(&systemd, 7, &agent, "monitor").map(drop)
    })
}
