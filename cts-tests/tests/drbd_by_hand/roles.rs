//! The roles of a resource, with one volume and with two, and a neighbour; and the tool of every agent's author.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{R2, device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::wait;

use crate::action::{AGENT, Action, USUAL, at_once, expect};
use crate::{both_started, instead_of_drbdsetup, role, score, shell};

pub(crate) fn change_or_it_is_said_who_stands_in_the_way(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    expect(n1, "probe", USUAL, 7, &[])?;
    both_started(rack)?;
    expect(n1, "monitor", USUAL, 0, &[])?;
    assert_eq!(score(n1)?, "--update=10000");
    expect(n1, "promote", USUAL, 0, &[])?;
    assert_eq!((role(n1)?, role(n2)?), ("Primary".into(), "Secondary".into()));
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])?;
    // linbit:drbd never ends here.
    let refused = ["the peer is Primary", "Multiple primaries not allowed by config (-1)"];
    expect(n2, "promote", 8000, 1, &refused)?;
    assert_eq!((role(n2)?, score(n2)?), ("Secondary".into(), "--update=-1000000".into()));
    // Nor does ours wait for as long as it may.
    let answer = Action::new(n2, "promote").within(60_000).expect(1, &refused)?;
    ensure!((15..30).contains(&answer.took.as_secs()), "a Primary is believed in after 15 s: {answer:#?}");
    it_is_promoted_once_the_other_has_given_way(n1, n2)?;

    shell(n1, "mount /dev/drbd0 /mnt && echo x > /mnt/x")?;
    n1.daemon(&["tail", "-f", "/mnt/x"])?;
    wait::until("tail to open its file", Duration::from_secs(20), wait::TOOL, || {
        Ok(n1.run(&["bash", "-c", "ls -l /proc/[0-9]*/fd | grep -q /mnt/x"])?.code() == Some(0))
    })?;
    let holder = format!("process {} (tail)", n1.text(&["pgrep", "-x", "tail"])?.trim());
    let held = ["held open by", "(-12)", "the mount /mnt", &holder];
    expect(n1, "demote", 6000, 1, &held)?;
    expect(n1, "stop", 6000, 1, &held)?;
    assert_eq!((role(n1)?, score(n1)?), ("Primary".into(), "--update=10000".into()));
    no_file_of_a_process_is_touched(n1)?;
    shell(n1, "pkill -x tail; umount /mnt")?;
    expect(n1, "demote", USUAL, 0, &[])?;
    assert_eq!(role(n1)?, "Secondary");
    expect(n1, "promote", USUAL, 0, &[])?;
    // A Primary is demoted by stop as well.
    for _ in 0..2 {
        expect(n1, "stop", USUAL, 0, &[])?;
        assert_eq!(device(n1, 0)?, None);
    }
    expect(n1, "probe", USUAL, 7, &[])?;
    expect(n1, "demote", USUAL, 1, &["is down"])?;
    expect(n1, "promote", USUAL, 1, &["must be started"])?;

    // Behind Pacemaker's back.
    expect(n1, "start", 60_000, 0, &[])?;
    expect(n1, "monitor", USUAL, 0, &[])?;
    n1.text(&["drbdadm", "down", "r0"])?;
    at_once(n1, "monitor", 7, &["nobody of the cluster stopped it"], "--delete")?;

    // Before Pacemaker knew.
    expect(n1, "stop", USUAL, 0, &[])?;
    n1.text(&["drbdadm", "up", "r0"])?;
    wait_device(n1, 0, "connected", |one| one.connection == "Connected")?;
    n1.text(&["drbdadm", "primary", "r0"])?;
    at_once(n1, "probe", 8, &[], "--update=10000")?;
    assert_eq!(role(n1)?, "Primary");
    // A healthy Primary does not fail with drbdsetup, though nobody has started it here.
    instead_of_drbdsetup(n1, "exit 20")?;
    expect(n1, "monitor", USUAL, 191, &["drbdsetup", "this is from /proc/drbd"])?;
    shell(n1, "mv /root/drbdsetup /usr/sbin")?;
    expect(n1, "reload", USUAL, 0, &[])?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    // After a start it is Secondary, however it was found.
    expect(n1, "start", 60_000, 0, &[])?;
    assert_eq!(role(n1)?, "Secondary");
    Ok(())
}

/// A file of any process may be on a server that is dead, and whoever asks it anything hangs. Device nodes are asked.
fn no_file_of_a_process_is_touched(n1: &Guest) -> Result<()> {
    let line = format!(
        "export OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=r0 OCF_RESKEY_drbd_resource=r0 OCF_RESKEY_CRM_meta_timeout=6000 \
         OCF_RESKEY_CRM_meta_promoted_max=1 OCF_RESKEY_crm_feature_set=3.16.1; \
         strace -qq -e trace=%%stat -o /run/stats {AGENT} demote; cat /run/stats"
    );
    let stats = shell(n1, &line)?;
    let pid = n1.text(&["pgrep", "-x", "tail"])?;
    let files = shell(
        n1,
        &format!("cd /proc/{0}/fd && ls -l | sed -n 's:.* \\([0-9]*\\) -> /mnt/x:/proc/{0}/fd/\\1:p'", pid.trim()),
    )?;
    let file = files.trim();
    ensure!(file.starts_with("/proc/") && stats.contains("/proc/"), "{files:?}, {stats}");
    let touched = [file.to_owned(), format!("/proc/{}/cwd", pid.trim())]
        .into_iter()
        .find(|path| stats.contains(&format!("\"{path}\"")));
    ensure!(touched.is_none(), "{touched:?} was asked: {stats}");
    Ok(())
}

/// As when a planned move asks a little too early. Both are in the end as they were.
fn it_is_promoted_once_the_other_has_given_way(n1: &Guest, n2: &Guest) -> Result<()> {
    let took = thread::scope(|scope| -> Result<Duration> {
        let promotion = scope.spawn(|| Action::new(n2, "promote").expect(0, &[]));
        thread::sleep(Duration::from_secs(3));
        n1.text(&["drbdadm", "secondary", "r0"])?;
        Ok(promotion.join().expect("the promotion panicked")?.took)
    })?;
    ensure!(took > Duration::from_secs(2), "it did not have to wait: {took:?}");
    assert_eq!(role(n2)?, "Primary");
    expect(n2, "demote", USUAL, 0, &[])?;
    expect(n1, "promote", USUAL, 0, &[])
}

/// Both volumes of a resource have one role, beside another resource.
pub(crate) fn several_volumes_have_one_role(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    expect(n2, "start", 60_000, 0, &[])?;
    R2.lay_down(rack)?;
    R2.up(rack)?;
    R2.down(rack)?;
    let status = |guest: &Guest, action: &str| {
        Ok::<_, anyhow::Error>(Action::new(guest, action).of("r2").within(60_000).run()?.status)
    };
    assert_eq!((status(n1, "start")?, status(n2, "start")?), (0, 0));
    wait_device(n1, 3, "connected", |one| one.connection == "Connected")?;
    assert_eq!(status(n1, "promote")?, 0);
    for minor in R2.minors {
        assert_eq!(device(n1, *minor)?.map(|one| one.role), Some("Primary".into()), "drbd{minor}");
    }
    assert_eq!((status(n1, "monitor")?, status(n2, "monitor")?), (8, 0));
    neither_is_promoted_without_the_other(n1, n2)?;
    n2.text(&["drbdadm", "detach", "r2/1"])?;
    let answer = Action::new(n2, "monitor").of("r2").run()?;
    ensure!(answer.status == 190 && answer.reason.contains("volume 1 has no disk here"), "{answer:#?}");
    assert_eq!((status(n1, "demote")?, status(n1, "stop")?, status(n2, "stop")?), (0, 0, 0));
    assert_eq!((device(n1, 2)?, device(n1, 3)?), (None, None));
    // The second volume was added to drbd.conf while the first was up.
    n1.text(&["drbdadm", "new-resource", "r2"])?;
    n1.text(&["drbdadm", "new-minor", "r2/0"])?;
    assert_eq!(status(n1, "start")?, 0);
    for minor in R2.minors {
        ensure!(device(n1, *minor)?.is_some_and(|one| one.disk != "Diskless"), "drbd{minor} has no disk");
    }
    assert_eq!(status(n1, "stop")?, 0);
    // The other resource was none of theirs.
    ensure!(device(n2, 0)?.is_some_and(|one| one.disk == "UpToDate"), "r0 was taken down with r2");
    expect(n2, "stop", USUAL, 0, &[])
}

/// The first volume may be promoted, and the second may not. Promoted without its peer for a moment, the first would have data
/// of its own, and not connect again.
fn neither_is_promoted_without_the_other(n1: &Guest, n2: &Guest) -> Result<()> {
    let action = |guest, name| Action::new(guest, name).of("r2").within(60_000);
    action(n1, "demote").expect(0, &[])?;
    shell(n1, "drbdadm disconnect r2; drbdadm outdate r2/1")?;
    action(n1, "promote").expect(1, &["Need access to UpToDate data (-2)"])?;
    for minor in R2.minors {
        assert_eq!(device(n1, *minor)?.map(|one| one.role), Some("Secondary".into()), "drbd{minor}");
    }
    action(n2, "promote").expect(0, &[])?;
    n1.text(&["drbdadm", "connect", "r2"])?;
    wait_device(n1, 3, "good again", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    action(n2, "demote").expect(0, &[])?;
    n1.run(&["rm", "-f", "/run/resource-agents/drbd-r2.lapse"])?;
    action(n1, "promote").expect(0, &[]).map(drop)
}

/// Upon the Primary of r0, for a third node that is not there.
const STACKED: &str = "resource r1 {
  net { protocol A; }
  stacked-on-top-of r0 { address 127.0.0.1:7010; volume 0 { device /dev/drbd10; } }
  on n3 { address 127.0.0.1:7011; volume 0 { device /dev/drbd10; disk /dev/none; meta-disk internal; } }
}
";

/// drbdadm of DRBD 8.4 knows such a resource with -S only.
pub(crate) fn one_lies_upon_another(rack: &Rack, n1: &Guest, _: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    n1.write_file("/etc/drbd.d/r1.res", STACKED, 0o644, Owner::Root)?;
    // Over a file system drbdmeta writes nothing.
    shell(n1, "dd if=/dev/zero of=/dev/drbd0 bs=4096 count=4 oflag=direct")?;
    n1.text(&["drbdadm", "-S", "--force", "create-md", "r1"])?;
    let upper = |action| Action::new(n1, action).of("r1").within(60_000).parameter("wfc_timeout", "no");
    upper("start").expect(0, &[])?;
    // The first data it ever has.
    shell(n1, "drbdsetup primary 10 --force && drbdsetup secondary 10")?;
    upper("promote").expect(0, &[])?;
    upper("monitor").expect(191, &["not connected"])?;
    upper("reload").expect(0, &[])?;
    // It holds the lower one.
    expect(n1, "demote", 6000, 1, &["held open by the block device drbd10"])?;
    for action in ["demote", "stop"] {
        upper(action).expect(0, &[])?;
    }
    assert_eq!(device(n1, 10)?, None);
    n1.text(&["rm", "/etc/drbd.d/r1.res"])?;
    expect(n1, "demote", USUAL, 0, &[])
}

pub(crate) fn ocf_tester_has_no_complaint(_: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    // Without its peer a resource is degraded, and ocf-tester knows 0 only.
    expect(n2, "start", 60_000, 0, &[])?;
    // Its su asks PAM, which wants the file of the passwords.
    n1.text(&["pwconv"])?;
    let argv = ["ocf-tester", "-n", "tested", "-o", "drbd_resource=r0", AGENT];
    let output = n1.command(&argv).env("OCF_ROOT", "/usr/lib/ocf").within(Duration::from_secs(240)).run()?;
    let said = output.all();
    ensure!(output.code() == Some(0) && !said.contains("* rc="), "{said}");
    ensure!(said.lines().filter(|line| !line.trim().is_empty()).count() == 2, "more than \"passed all tests\": {said}");
    Ok(())
}
