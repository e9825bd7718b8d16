//! What ocf:linbit:drbd can be told, and this agent as well: where the other parts leave a parameter at its default.

use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::switch::Link;

use crate::action::{Action, USUAL, expect, logged};
use crate::{both_started, configure, cut, forgive, role, score, shell, wait_for_age, wait_in_sync};

pub(crate) fn every_parameter_does_what_it_says(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    configure(rack, " handlers { unfence-peer \"/root/unfence\"; }\n")?;
    n1.write_file("/root/unfence", UNFENCE, 0o755, Owner::Root)?;
    a_version_is_required_of_the_module(n1)?;
    both_started(rack)?;
    let promote = Action::new(n1, "promote").parameter("require_drbd_module_version_lt", "8.4.0");
    promote.expect(5, &["one below 8.4.0 is required"])?;
    assert_eq!(role(n1)?, "Secondary");
    forgive(n1)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    a_ladder_of_ones_own(n1)?;
    beside_a_primary(n2)?;
    unfenced_once(n1, n2)?;
    a_stopped_secondary_is_outdated(rack, n2)?;
    a_secondary_without_its_primary_is_outdated(rack, n2)
}

fn a_version_is_required_of_the_module(n1: &Guest) -> Result<()> {
    let start = |parameter, version| Action::new(n1, "start").within(60_000).parameter(parameter, version);
    let too_old = ["the DRBD module is 8.4.11, and at least 9.0.0 is required"];
    start("require_drbd_module_version_ge", "9.0.0").expect(5, &too_old)?;
    start("require_drbd_module_version_lt", "8.4.11").expect(5, &["and one below 8.4.11 is required"])?;
    assert_eq!(device(n1, 0)?, None);
    expect(n1, "start", 60_000, 0, &[])?;
    // What runs is not stopped for that.
    let monitor = Action::new(n1, "monitor").parameter("require_drbd_module_version_ge", "9.0.0");
    ensure!(monitor.run()?.status == 190, "what runs is stopped, or nothing is said");
    logged(n1, "at least 9.0.0 is required")
}

fn a_ladder_of_ones_own(n1: &Guest) -> Result<()> {
    let monitor = |ladder| Action::new(n1, "monitor").parameter("adjust_master_score", ladder);
    monitor("1 2 3 4").expect(8, &[])?;
    assert_eq!(score(n1)?, "--update=4");
    monitor("4 3 2 1").expect(191, &["\"4 3 2 1\" is not four numbers that do not fall"])?;
    assert_eq!(score(n1)?, "--update=10000");
    Ok(())
}

/// Whom crm_resource names as promoted.
fn cluster_has_promoted(guest: &Guest, node: Option<&str>) -> Result<()> {
    let node = node.map_or(String::new(), |node| format!("<node state=\"promoted\">{node}</node>"));
    let answer = format!("<pacemaker-result><nodes resource=\"r0\">{node}</nodes></pacemaker-result>");
    guest.write_file("/run/located", answer, 0o644, Owner::Root)
}

/// remove_master_score_if_peer_primary and fail_promote_early_if_peer_primary.
fn beside_a_primary(n2: &Guest) -> Result<()> {
    let monitor = |value: &str| {
        let monitor = Action::new(n2, "monitor").parameter("remove_master_score_if_peer_primary", value);
        monitor.expect(0, &[])?;
        score(n2)
    };
    assert_eq!(monitor("true")?, "--delete");
    cluster_has_promoted(n2, Some("n1"))?;
    assert_eq!(monitor("unexpected")?, "--update=10000");
    cluster_has_promoted(n2, None)?;
    assert_eq!(monitor("unexpected")?, "--delete");
    assert_eq!(monitor("false")?, "--update=10000");
    let promote = Action::new(n2, "promote").parameter("fail_promote_early_if_peer_primary", "true");
    let answer = promote.expect(1, &["the peer is Primary and must be demoted first"])?;
    ensure!(answer.took < Duration::from_secs(4), "not early: {:?}", answer.took);
    assert_eq!(role(n2)?, "Secondary");
    forgive(n2)
}

/// What a handler of DRBD is told in its environment.
const UNFENCE: &str = "#!/bin/sh\necho \"$DRBD_RESOURCE $OCF_RESKEY_unfence_extra_args\" >> /run/unfenced\n";

fn unfenced_once(n1: &Guest, n2: &Guest) -> Result<()> {
    let monitor = |status, words: &[&str]| {
        let monitor = Action::new(n1, "monitor").parameter("unfence_if_all_uptodate", "true");
        monitor.parameter("unfence_extra_args", "--of-mine").expect(status, words)
    };
    let unfenced = || shell(n1, "cat /run/unfenced");
    for _ in 0..2 {
        monitor(8, &[])?;
        assert_eq!(unfenced()?, "r0 --of-mine\n");
    }
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    monitor(191, &["not connected"])?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_in_sync(n1)?;
    monitor(8, &[])?;
    assert_eq!(unfenced()?, "r0 --of-mine\n".repeat(2));
    // A copy may have been bad between two monitors: after a minute it is called again.
    wait_for_age(n1, 60)?;
    shell(n1, "echo 0 > /run/resource-agents/drbd-r0.unfenced")?;
    for _ in 0..2 {
        monitor(8, &[])?;
        assert_eq!(unfenced()?, "r0 --of-mine\n".repeat(3));
    }
    Ok(())
}

/// n1 is Primary, and Pacemaker says so.
fn told_of_the_primary<'a>(guest: &'a Guest, action: &'a str, outdates: &str) -> Action<'a> {
    let action = Action::new(guest, action).parameter("stop_outdates_secondary", outdates);
    action.meta("notify_promoted_resource", "r0:0").meta("notify_promoted_uname", "n1")
}

/// What the disk says of itself shows when it is attached without its peer.
fn a_stopped_secondary_is_outdated(rack: &Rack, n2: &Guest) -> Result<()> {
    for (outdates, outdated) in [("false", false), ("true", true)] {
        told_of_the_primary(n2, "stop", outdates).expect(0, &[])?;
        assert_eq!(device(n2, 0)?, None);
        rack.cut(Link::Replication);
        n2.text(&["drbdadm", "up", "r0"])?;
        let one = device(n2, 0)?.unwrap_or_default();
        ensure!((one.disk == "Outdated") == outdated, "stop_outdates_secondary={outdates}: {one:?}");
        rack.mend();
        wait_in_sync(n2)?;
    }
    Ok(())
}

fn a_secondary_without_its_primary_is_outdated(rack: &Rack, n2: &Guest) -> Result<()> {
    cut(rack)?;
    let notify = told_of_the_primary(n2, "notify", "true").meta("notify_type", "post");
    let notify = notify.meta("notify_operation", "promote");
    notify.meta("notify_promote_resource", "r0:0").meta("notify_promote_uname", "n1").expect(0, &[])?;
    let one = device(n2, 0)?.unwrap_or_default();
    ensure!(one.disk == "Outdated" && score(n2)? == "--delete", "{one:?}, {}", score(n2)?);
    rack.mend();
    wait_in_sync(n2).map(drop)
}

/// ignore_missing_notifications: in a clone without notify=true both values are the same.
fn nobody_needs_notifications(n1: &Guest) -> Result<()> {
    for value in ["false", "true"] {
        let start = Action::new(n1, "start").within(60_000).meta("notify", "false").parameter("wfc_timeout", "no");
        start.parameter("ignore_missing_notifications", value).expect(0, &[])?;
        expect(n1, "stop", USUAL, 0, &[])?;
    }
    Ok(())
}

/// drbdconf.
fn drbd_conf_may_be_elsewhere(n1: &Guest) -> Result<()> {
    shell(n1, "mkdir /root/conf && cp -r /etc/drbd.conf /etc/drbd.d /root/conf && rm /etc/drbd.d/r0.res")?;
    let with = |action| {
        let action = Action::new(n1, action).within(60_000).parameter("wfc_timeout", "no");
        action.parameter("drbdconf", "/root/conf/drbd.conf")
    };
    expect(n1, "start", USUAL, 5, &["/etc/drbd.conf is not usable", "'r0' not defined in your config"])?;
    for (action, status) in [("start", 0), ("monitor", 0), ("promote", 0), ("reload", 0), ("validate-all", 0)] {
        with(action).expect(status, &[])?;
    }
    assert_eq!(role(n1)?, "Primary");
    shell(n1, "echo 'frob {' >> /root/conf/drbd.d/r0.res")?;
    with("monitor").expect(191, &["not connected"])?;
    logged(n1, "/root/conf/drbd.conf is not usable")?;
    with("stop").expect(0, &[])?;
    shell(n1, "rm -r /root/conf; cp /root/r0.res /etc/drbd.d/").map(drop)
}

/// wfc_timeout and connect_only_after_promote.
pub(crate) fn connections_are_waited_for_or_kept_away(_: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    let start = |timeout: u32, wait: &str| {
        let start = Action::new(n1, "start").within(timeout).parameter("wfc_timeout", wait);
        let took = start.expect(0, &[])?.took;
        expect(n1, "stop", USUAL, 0, &[])?;
        Ok::<_, anyhow::Error>(took)
    };
    let (waits, without) = (start(60_000, "6")?, start(60_000, "no")?);
    ensure!(waits >= Duration::from_secs(6) && without < Duration::from_secs(6), "{waits:?}, {without:?}");
    // DRBD's 0 is without limit; but the start is not to fail for it.
    let half = start(14_000, "0")?;
    ensure!(half >= Duration::from_secs(6), "{half:?}");
    nobody_needs_notifications(n1)?;
    drbd_conf_may_be_elsewhere(n1)?;

    let alone = |guest, action| Action::new(guest, action).parameter("connect_only_after_promote", "true");
    for guest in [n1, n2] {
        alone(guest, "start").within(60_000).expect(0, &[])?;
        alone(guest, "monitor").expect(0, &[])?;
        assert_eq!(
            (device(guest, 0)?.map(|one| one.connection), score(guest)?),
            (Some("StandAlone".into()), "--update=1000".into())
        );
    }
    alone(n1, "promote").expect(0, &[])?;
    wait_device(n1, 0, "looking for its peer", |one| one.connection == "WFConnection")?;
    alone(n1, "monitor").expect(191, &["not connected"])?;
    alone(n2, "reload").expect(0, &[])?;
    alone(n2, "monitor").expect(0, &[])?;
    assert_eq!(device(n2, 0)?.map(|one| one.connection), Some("StandAlone".into()));
    n2.text(&["drbdadm", "adjust", "r0"])?;
    wait_in_sync(n1)?;
    alone(n1, "monitor").expect(8, &[]).map(drop)
}
