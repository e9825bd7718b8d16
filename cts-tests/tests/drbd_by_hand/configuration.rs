//! drbd.conf broken, changed or gone, and the module missing or old.

use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;

use crate::action::{AGENT, Action, USUAL, at_once, expect, logged};
use crate::{both_started, configure, instead_of_drbdsetup, role, score, shell};

pub(crate) fn a_broken_one_is_explained_and_hinders_no_stop(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    let execs = shell(
        n1,
        &format!(
            "OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=r0 OCF_RESKEY_drbd_resource=r0 OCF_RESKEY_CRM_meta_interval=10000 \
                 OCF_RESKEY_CRM_meta_promoted_max=1 OCF_RESKEY_crm_feature_set=3.16.1 \
                 strace -f -qq -e trace=execve -e status=successful -o /run/execs {AGENT} monitor; sed -n 's/^[^(]*execve(\"\\([^\"]*\\)\".*/\\1/p' /run/execs"
        ),
    )?;
    let programs: Vec<&str> =
        execs.lines().map(|path| path.trim_start_matches("/usr").trim_start_matches("/lib/ocf")).collect();
    // drbdsetup gives way to the drbdsetup of the module's version.
    ensure!(
        programs == ["/resource.d/greenarrow/drbd", "/sbin/drbdsetup", "/lib/drbd/drbdsetup-84"],
        "a monitor starts {execs}"
    );

    // A healthy Primary goes on without a drbd.conf; linbit:drbd says 5, and Pacemaker moves it.
    rack.each(|guest| shell(guest, "echo 'frob {' >> /etc/drbd.d/r0.res").map(drop))?;
    for _ in 0..2 {
        at_once(n1, "monitor", 191, &["/etc/drbd.conf is not usable", "r0.res", "frob"], "--update=10000")?;
    }
    // Nor does a change of a parameter fail it; what there is to say the monitor says.
    expect(n1, "reload-agent", USUAL, 0, &[])?;
    logged(n1, "drbd.conf is not taken up: /etc/drbd.conf is not usable")?;
    assert_eq!(role(n1)?, "Primary");
    // linbit:drbd says 5 to a stop then, and the node is fenced.
    shell(n1, "mkfs.ext4 -q /dev/drbd0 && mount /dev/drbd0 /mnt")?;
    expect(n1, "stop", 6000, 1, &["held open by the mount /mnt"])?;
    assert_eq!((role(n1)?, score(n1)?), ("Primary".into(), "--update=10000".into()));
    n1.text(&["umount", "/mnt"])?;
    at_once(n1, "demote", 0, &[], "--update=10000")?;
    at_once(n1, "promote", 0, &[], "--update=10000")?;
    at_once(n2, "stop", 0, &[], "--delete")?;
    assert_eq!(device(n2, 0)?, None);
    at_once(n2, "start", 5, &["r0.res", "frob"], "--delete")?;
    at_once(n2, "monitor", 7, &[], "--delete")?;
    rack.each(|guest| shell(guest, "cp /root/r0.res /etc/drbd.d/r0.res").map(drop))?;
    expect(n2, "start", 60_000, 0, &[])?;
    wait_device(n1, 0, "connected", |one| one.connection == "Connected")?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    a_slow_drbdadm_is_forgotten(n1)?;
    drbdsetup_is_asked_again(n1)?;
    shell(n1, "mv /usr/sbin/drbdsetup /root")?;
    expect(n1, "monitor", USUAL, 191, &["drbdsetup is not installed", "this is from /proc/drbd"])?;
    n1.write_file("/usr/sbin/drbdsetup", "#!/bin/sh\nexec sleep 1000\n", 0o755, Owner::Root)?;
    expect(n1, "monitor", 8000, 191, &["drbdsetup", "did not end within", "this is from /proc/drbd"])?;
    shell(n1, "mv /root/drbdsetup /usr/sbin; mv /usr/sbin/drbdadm /root")?;
    at_once(n1, "stop", 0, &[], "--delete")?;
    shell(n1, "mv /root/drbdadm /usr/sbin")?;
    assert_eq!(device(n1, 0)?, None);
    expect(n2, "stop", USUAL, 0, &[])?;
    a_changed_one_is_taken_up(rack, n1)?;
    let two = Action::new(n1, "start").meta("promoted_max", "2");
    two.expect(6, &["promoted-max is above 1, but r0 does not allow-two-primaries"])?;
    assert_eq!(device(n1, 0)?, None);
    a_disk_that_fails_is_tried_twice(n1)
}

/// What is wrong with drbdadm is over when it is over, and not when drbd.conf has changed.
fn a_slow_drbdadm_is_forgotten(n1: &Guest) -> Result<()> {
    shell(n1, "mv /usr/sbin/drbdadm /root; touch /etc/drbd.conf")?;
    n1.write_file("/usr/sbin/drbdadm", "#!/bin/sh\nexec sleep 1000\n", 0o755, Owner::Root)?;
    expect(n1, "monitor", USUAL, 191, &["/etc/drbd.conf cannot be checked", "did not end within"])?;
    shell(n1, "mv /root/drbdadm /usr/sbin")?;
    expect(n1, "monitor", USUAL, 8, &[])
}

/// It waits for whoever changes a state, which may be longer than one look.
fn drbdsetup_is_asked_again(n1: &Guest) -> Result<()> {
    instead_of_drbdsetup(n1, "[ $1 = events2 ] && [ ! -e /run/free ] && exec sleep 1000")?;
    n1.daemon(&["bash", "-c", "sleep 6; touch /run/free"])?;
    Action::new(n1, "demote").within(20_000).expect(0, &[])?;
    logged(n1, "it is asked again")?;
    // It hangs once the promotion has succeeded, which that is still.
    shell(n1, "mv /root/drbdsetup /usr/sbin")?;
    instead_of_drbdsetup(
        n1,
        "[ $1 = primary ] && touch /run/hangs\n[ $1 = events2 ] && [ -e /run/hangs ] && exec sleep 1000",
    )?;
    Action::new(n1, "promote").within(16_000).expect(0, &[])?;
    logged(n1, "promoted; what came of it is not known")?;
    shell(n1, "mv /root/drbdsetup /usr/sbin")?;
    assert_eq!(role(n1)?, "Primary");
    expect(n1, "monitor", USUAL, 8, &[])
}

fn a_changed_one_is_taken_up(rack: &Rack, n1: &Guest) -> Result<()> {
    expect(n1, "start", 60_000, 0, &[])?;
    configure(rack, " net { ping-int 7; }\n")?;
    expect(n1, "reload", USUAL, 0, &[])?;
    let shown = n1.text(&["drbdsetup", "show", "r0"])?;
    ensure!(shown.lines().any(|line| line.contains("ping-int") && line.contains('7')), "{shown}");
    expect(n1, "validate-all", USUAL, 0, &[])?;
    logged(n1, "fencing is dont-care")?;
    expect(n1, "stop", USUAL, 0, &[])
}

fn a_disk_that_fails_is_tried_twice(n1: &Guest) -> Result<()> {
    n1.volume_fail(0)?;
    let answer = Action::new(n1, "start").within(60_000).expect(1, &["drbdadm attach r0/0"])?;
    ensure!(answer.took < Duration::from_secs(15), "{answer:#?}");
    logged(n1, "; once more")?;
    n1.volume_mend(0)?;
    expect(n1, "start", 60_000, 0, &[])
}

pub(crate) fn a_missing_module_is_explained_and_an_old_one_refused(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    let hide = "rmmod drbd && mkdir -p /lib/modules/9.9.9-other/extra && \
                    f=$(find /lib/modules/$(uname -r) -name 'drbd.ko*') && mv $f /lib/modules/9.9.9-other/extra/ && echo $f";
    let module = shell(n2, hide)?;
    let running = shell(n2, "uname -r")?;
    let words = ["can not load the drbd module", running.trim(), "9.9.9-other", "or boot one of those"];
    Action::new(n2, "start").expect_at_once(5, &words)?;
    at_once(n2, "monitor", 7, &[], "--delete")?;
    at_once(n2, "stop", 0, &[], "--delete")?;
    expect(n2, "validate-all", USUAL, 5, &["9.9.9-other"])?;
    shell(n2, &format!("mv /lib/modules/9.9.9-other/extra/drbd.ko* {}", module.trim()))?;
    // start loads it.
    both_started(rack)?;
    an_old_module_is_refused(n1)
}

/// As it would show itself; drbdsetup would not understand it.
fn an_old_module_is_refused(n1: &Guest) -> Result<()> {
    expect(n1, "stop", USUAL, 0, &[])?;
    shell(
        n1,
        "sed 's/^version: 8.4.11/version: 8.3.16/' /proc/drbd > /run/drbd-83; mount --bind /run/drbd-83 /proc/drbd",
    )?;
    let words = ["the DRBD module is 8.3.16; this agent needs 8.4 or later", "keep ocf:linbit:drbd until then"];
    for action in ["probe", "start", "validate-all"] {
        expect(n1, action, USUAL, 5, &words)?;
    }
    n1.text(&["umount", "/proc/drbd"])?;
    expect(n1, "start", 60_000, 0, &[])
}
