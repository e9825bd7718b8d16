//! ocf:greenarrow:drbd in two guests with a real DRBD 8.4, action by action: exit status, reason, the score that is sent,
//! and that each action ends within its time. The kernel of each guest is the witness.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cts_tests::installed;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{R0, R2, device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::switch::Link;
use cts_tests::wait;

const AGENT: &str = "/usr/lib/ocf/resource.d/greenarrow/drbd";
/// What the agent has sent to the cluster, an invocation a line.
const SENT: &str = "/run/sent";
/// In place of Pacemaker's tools: there is no cluster here to ask what has reached it.
const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> /run/sent\n";
/// The usual limit of an action here, in milliseconds.
const USUAL: u32 = 30_000;

/// What an action ended with.
#[derive(Debug)]
struct Answer {
    status: i32,
    reason: String,
}

/// Runs an action as Pacemaker does it in a promotable clone, and fails when it takes longer than Pacemaker would let it.
fn act(guest: &Guest, resource: &str, action: &str, timeout: u32) -> Result<Answer> {
    let (name, interval) = if action == "probe" { ("monitor", "0") } else { (action, "10000") };
    let begun = Instant::now();
    let errand = guest.command(&[AGENT, name]).stdin("").within(Duration::from_secs(120));
    let errand = errand.env("OCF_ROOT", "/usr/lib/ocf").env("OCF_RESOURCE_INSTANCE", resource);
    let errand = errand.env("OCF_RESKEY_drbd_resource", resource).env("OCF_RESKEY_crm_feature_set", "3.16.1");
    let errand = errand.env("OCF_RESKEY_CRM_meta_promoted_max", "1").env("OCF_RESKEY_CRM_meta_interval", interval);
    let output = errand.env("OCF_RESKEY_CRM_meta_timeout", &timeout.to_string()).run()?;
    let took = begun.elapsed();
    // The way to the guest and back is in it.
    let limit = Duration::from_millis(timeout.into()) + Duration::from_millis(500);
    ensure!(
        took < limit,
        "{action} of {resource} on {} took {took:?}, and has {timeout} ms: {}",
        guest.name,
        output.all()
    );
    let reason = output.stderr.lines().find_map(|line| line.strip_prefix("ocf-exit-reason:")).unwrap_or_default();
    println!("{} {action} {resource}: {:?} in {took:.1?} {reason}", guest.name, output.code());
    let status = output.code().context("ended by a signal")?;
    Ok(Answer { status, reason: reason.to_owned() })
}

/// Runs it, and compares the exit status and words of the reason; without words there must be no reason.
fn expect(guest: &Guest, action: &str, timeout: u32, status: i32, words: &[&str]) -> Result<()> {
    let answer = act(guest, "r0", action, timeout)?;
    let named = words.iter().all(|word| answer.reason.contains(word)) && answer.reason.is_empty() == words.is_empty();
    ensure!(
        answer.status == status && named,
        "{action} on {}: {status} and {words:?} expected: {answer:#?}",
        guest.name
    );
    Ok(())
}

/// The last score that was sent, as the arguments of crm_attribute behind the resource's name.
fn score(guest: &Guest) -> Result<String> {
    let sent = guest.read_file(SENT)?;
    let last = sent.lines().rfind(|line| line.starts_with("crm_attribute")).context("no score was sent")?;
    Ok(last.rsplit(' ').next().unwrap_or_default().to_owned())
}

fn role(guest: &Guest) -> Result<String> {
    Ok(device(guest, 0)?.map(|device| device.role).unwrap_or_default())
}

fn shell(guest: &Guest, line: &str) -> Result<String> {
    guest.text(&["bash", "-c", line])
}

/// A part of the test: it begins with DRBD configured, in sync and down on both guests.
type Part = fn(&Rack, &Guest, &Guest) -> Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("roles", roles_change_or_it_is_said_who_stands_in_the_way),
    ("trouble", what_is_wrong_is_named_and_nothing_is_made_worse),
    ("configuration and module", a_broken_configuration_and_a_missing_module_are_explained_and_hinder_no_stop),
    ("volumes", several_volumes_have_one_role),
    ("ocf-tester", ocf_tester_has_no_complaint),
];

/// One pair of guests for all parts: to start one takes longer than most of them. A part that fails leaves the others be.
#[test]
fn in_two_guests_with_a_real_drbd() -> Result<()> {
    enter(Isolation::Guests(&["drbd", "hvmail-ha"]), || {
        let rack = Rack::start(2)?;
        rack.each(|guest| {
            guest.install(&installed::agent("drbd")?, AGENT, 0o755)?;
            guest.install(&installed::agent("hvmail_ha")?, "/usr/sbin/hvmail_ha", 0o755)?;
            for tool in ["crm_attribute", "attrd_updater"] {
                guest.write_file(&format!("/usr/sbin/{tool}"), RECORDER, 0o755, Owner::Root)?;
            }
            // The agent sends to a daemon that it sees, and again to one that was started anew.
            shell(guest, "cp /bin/sleep /run/pacemaker-attrd")?;
            guest.daemon(&["/run/pacemaker-attrd", "100000"])
        })?;
        R0.lay_down(&rack)?;
        R0.up(&rack)?;
        R0.make_file_system(&rack)?;
        let mut failed = Vec::new();
        for (name, part) in PARTS {
            let began = Instant::now();
            let played = || fresh(&rack).and_then(|()| part(&rack, &rack.guests[0], &rack.guests[1]));
            let tried = catch_unwind(AssertUnwindSafe(played)).unwrap_or_else(|_| bail!("it panicked, as said above"));
            println!("part {name}: {} in {:.0?}", if tried.is_ok() { "passed" } else { "FAILED" }, began.elapsed());
            if let Err(error) = tried {
                println!("{error:?}");
                failed.push(*name);
            }
        }
        ensure!(failed.is_empty(), "these parts failed: {}\n{}", failed.join(", "), rack.dump());
        Ok(())
    })
}

/// Whatever the part before has left: both nodes' data the same, and all down.
fn fresh(rack: &Rack) -> Result<()> {
    rack.mend();
    rack.each(|guest| {
        guest.run(&["bash", "-c", "pkill -x tail; umount /mnt; rm -rf /run/resource-agents/*; : > /run/sent"])?;
        guest.run(&[
            "bash",
            "-c",
            "test -e /root/r0.res && cp /root/r0.res /etc/drbd.d/; modprobe drbd; drbdadm resume-io r0",
        ])?;
        guest.run(&["bash", "-c", "drbdadm down all; drbdadm --force create-md r0"])?;
        Ok(())
    })?;
    R0.up(rack)?;
    R0.down(rack)
}

fn both_started(rack: &Rack) -> Result<()> {
    rack.each(|guest| expect(guest, "start", 60_000, 0, &[]))?;
    rack.each(|guest| wait_device(guest, 0, "connected", |one| one.connection == "Connected").map(drop))
}

fn roles_change_or_it_is_said_who_stands_in_the_way(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    expect(n1, "probe", USUAL, 7, &[])?;
    both_started(rack)?;
    expect(n1, "monitor", USUAL, 0, &[])?;
    assert_eq!(score(n1)?, "--update=10000");
    expect(n1, "promote", USUAL, 0, &[])?;
    assert_eq!((role(n1)?, role(n2)?), ("Primary".into(), "Secondary".into()));
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])?;
    // linbit:drbd never ends here.
    expect(n2, "promote", 8000, 1, &["the peer is Primary", "Multiple primaries not allowed by config (-1)"])?;
    assert_eq!((role(n2)?, score(n2)?), ("Secondary".into(), "--update=-1000000".into()));

    shell(n1, "mount /dev/drbd0 /mnt && echo x > /mnt/x")?;
    n1.daemon(&["tail", "-f", "/mnt/x"])?;
    wait::until("tail to open its file", Duration::from_secs(20), wait::TOOL, || {
        Ok(n1.run(&["bash", "-c", "ls -l /proc/[0-9]*/fd | grep -q /mnt/x"])?.code() == Some(0))
    })?;
    let held = ["held open by", "(-12)", "the mount /mnt", "(tail)"];
    expect(n1, "demote", 6000, 1, &held)?;
    expect(n1, "stop", 6000, 1, &held)?;
    assert_eq!(role(n1)?, "Primary");
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
    expect(n1, "monitor", USUAL, 7, &["nobody of the cluster stopped it"])?;
    assert_eq!(score(n1)?, "--delete", "a stopped resource is offered for promotion");

    // Before Pacemaker knew.
    expect(n1, "stop", USUAL, 0, &[])?;
    n1.text(&["drbdadm", "up", "r0"])?;
    wait_device(n1, 0, "connected", |one| one.connection == "Connected")?;
    n1.text(&["drbdadm", "primary", "r0"])?;
    expect(n1, "probe", USUAL, 8, &[])?;
    assert_eq!((role(n1)?, score(n1)?), ("Primary".into(), "--update=10000".into()));
    expect(n1, "reload", USUAL, 0, &[])?;
    expect(n1, "monitor", USUAL, 8, &[])
}

/// A block of its own.
const WRITE: &str = "dd if=/dev/urandom of=/dev/drbd0 bs=4096 count=1 seek=100 oflag=direct";

fn cut(rack: &Rack) -> Result<()> {
    rack.cut(Link::Replication);
    rack.each(|guest| wait_device(guest, 0, "without its peer", |one| one.connection == "WFConnection").map(drop))
}

/// The second has been Primary in between.
fn both_write_and_meet(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    shell(n2, &format!("drbdadm primary r0 && {WRITE} && drbdadm secondary r0"))?;
    shell(n1, WRITE)?;
    rack.mend();
    rack.each(|guest| wait_device(guest, 0, "alone for good", |one| one.connection == "StandAlone").map(drop))
}

/// That block, on the disk below the device, or in a copy of that. DRBD writes past the page cache of that disk.
fn block(guest: &Guest, of: &str) -> Result<String> {
    let how = if of.starts_with("/dev/") { "iflag=direct" } else { "" };
    shell(guest, &format!("dd if={of} bs=4096 count=1 skip=100 status=none {how} | md5sum"))
}

fn rejoin(guest: &Guest, arguments: &[&str], status: i32, words: &[&str]) -> Result<()> {
    let argv = [&["hvmail_ha", "rejoin"], arguments].concat();
    let output = guest.command(&argv).stdin("").within(Duration::from_secs(120)).run()?;
    let said = output.all();
    println!("{}: {}: {:?}\n{said}", guest.name, argv.join(" "), output.code());
    ensure!(
        output.code() == Some(status) && words.iter().all(|word| said.contains(word)),
        "{status}, {words:?}: {said}"
    );
    Ok(())
}

/// With n1 as Primary: each node does its part, what is thrown away has to be named, and is kept where that is said.
fn the_operator_ends_a_split_brain(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    cut(rack)?;
    both_write_and_meet(rack, n1, n2)?;
    let (disk, copy) = ("/dev/mapper/volume0", "/root/r0.img");
    let thrown_away = block(n2, disk)?;
    let shown =
        ["r0 has parted from its peer (StandAlone)", "n1: Primary", "KiB differ", "n1 or n2", "nothing was changed"];
    rejoin(n1, &[], 1, &shown)?;
    rejoin(n1, &["--throw-away=n3"], 1, &["\"n3\" is not n1 or n2"])?;
    rejoin(n1, &["--throw-away=n1", "--without-copy"], 1, &["r0 is Primary on n1", "nothing was changed"])?;
    rejoin(n2, &["--throw-away=n2"], 1, &["--copy-to=FILE", "--without-copy", "nothing was changed"])?;
    rejoin(n2, &["--throw-away=n2", "--copy-to=/proc/r0.img"], 3, &["/proc"])?;
    for guest in [n1, n2] {
        assert_eq!(device(guest, 0)?.map(|one| one.connection), Some("StandAlone".into()));
    }
    rejoin(n1, &["--throw-away=n2", "--timeout=10"], 2, &["goes on waiting", "hvmail_ha rejoin --throw-away=n2"])?;
    let copied = ["/root/r0.img has the disk as it was", "r0 is connected again on n2"];
    rejoin(n2, &["--throw-away=n2", &format!("--copy-to={copy}")], 0, &copied)?;
    wait_device(n2, 0, "in sync again", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    assert_eq!(block(n2, copy)?, thrown_away);
    let kept = block(n1, disk)?;
    ensure!(kept != thrown_away && block(n2, disk)? == kept, "n2 has not the data of n1");
    n2.text(&["rm", copy])?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])
}

fn what_is_wrong_is_named_and_nothing_is_made_worse(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;

    // The link is cut, and both write: a split brain.
    cut(rack)?;
    expect(n1, "monitor", USUAL, 191, &["not connected (Connecting)", "on this node alone"])?;
    // Only when that has lasted; to lose its peer is how the death of a Primary begins.
    expect(n2, "monitor", USUAL, 0, &[])?;
    n2.write_file("/run/resource-agents/drbd-r0.alone", "0", 0o600, Owner::Root)?;
    expect(n2, "monitor", USUAL, 190, &["not connected (Connecting)"])?;
    assert_eq!((score(n1)?, score(n2)?), ("--update=10000".into(), "--update=1000".into()));
    both_write_and_meet(rack, n1, n2)?;
    let ways_out = ["StandAlone", "SPLIT BRAIN", "drbdadm connect --discard-my-data r0"];
    expect(n1, "monitor", USUAL, 191, &ways_out)?;
    expect(n2, "monitor", USUAL, 190, &ways_out)?;
    assert_eq!((score(n1)?, score(n2)?), ("--update=10000".into(), "--delete".into()));
    expect(n2, "promote", USUAL, 1, &["not promoted: SPLIT BRAIN", "--discard-my-data"])?;
    assert_eq!(role(n2)?, "Secondary");
    // Where the cluster served until then its data may go on.
    expect(n1, "demote", USUAL, 0, &[])?;
    expect(n1, "promote", USUAL, 0, &[])?;
    // As the reason says it.
    shell(n2, "drbdadm disconnect r0; drbdadm secondary r0; drbdadm connect --discard-my-data r0")?;
    n1.text(&["drbdadm", "connect", "r0"])?;
    wait_device(n2, 0, "in sync again", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])?;
    the_operator_ends_a_split_brain(rack, n1, n2)?;

    // Without the 15 seconds in which a node refuses another promotion.
    n2.text(&["rm", "/run/resource-agents/drbd-r0.lapse"])?;
    // A resync.
    rack.each(|guest| guest.text(&["drbdadm", "disk-options", "--resync-rate=400k", "r0"]).map(drop))?;
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    shell(n1, "dd if=/dev/urandom of=/dev/drbd0 bs=1M count=12 oflag=direct")?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_device(n2, 0, "being synchronised", |one| one.connection == "SyncTarget")?;
    expect(n1, "monitor", USUAL, 191, &["resync of volume 0 to the peer", "% done", "left"])?;
    expect(n2, "monitor", USUAL, 190, &["resync of volume 0 from the peer"])?;
    assert_eq!(score(n2)?, "--update=10");
    // Data that is not whole: refused at once, and not after 15 seconds.
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    expect(n2, "monitor", USUAL, 190, &["volume 0 is Inconsistent here"])?;
    let begun = Instant::now();
    expect(n2, "promote", USUAL, 1, &["Need access to UpToDate data (-2)"])?;
    ensure!(begun.elapsed() < Duration::from_secs(5), "it took {:?} to see what cannot be", begun.elapsed());
    rack.each(|guest| guest.text(&["drbdadm", "disk-options", "--resync-rate=100M", "r0"]).map(drop))?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_device(n2, 0, "in sync", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    shell(n2, "drbdadm disconnect r0; drbdadm outdate r0")?;
    expect(n2, "monitor", USUAL, 190, &["volume 0 is Outdated here", "see the log"])?;
    expect(n2, "promote", USUAL, 1, &["Need access to UpToDate data (-2)"])?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_device(n2, 0, "in sync", |one| one.connection == "Connected" && one.disk == "UpToDate")?;

    // Suspended I/O.
    n1.text(&["drbdadm", "suspend-io", "r0"])?;
    expect(n1, "monitor", USUAL, 191, &["I/O is suspended by hand"])?;
    n1.text(&["drbdadm", "resume-io", "r0"])?;
    expect(n1, "monitor", USUAL, 8, &[])?;

    // Both Primary.
    rack.each(|guest| guest.text(&["drbdadm", "net-options", "--allow-two-primaries=yes", "r0"]).map(drop))?;
    n2.text(&["drbdadm", "primary", "r0"])?;
    expect(n1, "monitor", USUAL, 191, &["BOTH NODES ARE PRIMARY"])?;
    n2.text(&["drbdadm", "secondary", "r0"])?;
    rack.each(|guest| guest.text(&["drbdadm", "net-options", "--allow-two-primaries=no", "r0"]).map(drop))?;

    // The Primary loses its disk, and then its peer.
    n1.volume_fail(0)?;
    n1.run(&["bash", "-c", WRITE])?;
    wait_device(n1, 0, "without a disk", |one| one.disk == "Diskless")?;
    expect(n1, "monitor", USUAL, 191, &["volume 0 has lost its disk here"])?;
    expect(n2, "monitor", USUAL, 190, &["volume 0 is Diskless at the peer"])?;
    // linbit:drbd never ends here.
    expect(n2, "stop", 6000, 1, &["is still up", "works on this node's"])?;
    assert_eq!(device(n2, 0)?.map(|one| one.disk), Some("UpToDate".into()));
    rack.cut(Link::Replication);
    wait_device(n1, 0, "without its peer", |one| one.connection == "WFConnection")?;
    expect(n1, "monitor", USUAL, 9, &["Primary without data: volume 0 is Diskless here"])?;
    assert_eq!(score(n1)?, "--delete");
    rack.mend();
    n1.volume_mend(0)?;
    // What Pacemaker does then.
    expect(n1, "demote", USUAL, 0, &[])?;
    expect(n1, "stop", USUAL, 0, &[])?;
    expect(n2, "promote", USUAL, 0, &[])?;
    expect(n1, "start", 60_000, 0, &[])?;
    wait_device(n1, 0, "in sync", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    expect(n2, "monitor", USUAL, 8, &[])?;
    expect(n1, "monitor", USUAL, 0, &[])
}

fn a_broken_configuration_and_a_missing_module_are_explained_and_hinder_no_stop(
    rack: &Rack,
    n1: &Guest,
    n2: &Guest,
) -> Result<()> {
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
    rack.each(|guest| shell(guest, "cp /etc/drbd.d/r0.res /root; echo 'frob {' >> /etc/drbd.d/r0.res").map(drop))?;
    for _ in 0..2 {
        expect(n1, "monitor", USUAL, 191, &["/etc/drbd.conf is not usable", "r0.res", "frob"])?;
    }
    expect(n1, "demote", USUAL, 0, &[])?;
    expect(n1, "promote", USUAL, 0, &[])?;
    expect(n2, "stop", USUAL, 0, &[])?;
    assert_eq!(device(n2, 0)?, None);
    expect(n2, "start", 60_000, 5, &["r0.res", "frob"])?;
    expect(n2, "monitor", USUAL, 7, &[])?;
    rack.each(|guest| shell(guest, "cp /root/r0.res /etc/drbd.d/r0.res").map(drop))?;
    expect(n2, "start", 60_000, 0, &[])?;
    wait_device(n1, 0, "connected", |one| one.connection == "Connected")?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    shell(n1, "mv /usr/sbin/drbdsetup /root")?;
    expect(n1, "monitor", USUAL, 191, &["drbdsetup is not installed", "this is from /proc/drbd"])?;
    shell(n1, "mv /root/drbdsetup /usr/sbin; mv /usr/sbin/drbdadm /root")?;
    expect(n1, "stop", USUAL, 0, &[])?;
    shell(n1, "mv /root/drbdadm /usr/sbin")?;
    assert_eq!(device(n1, 0)?, None);

    // Without its module.
    expect(n2, "stop", USUAL, 0, &[])?;
    let hide = "rmmod drbd && mkdir -p /lib/modules/9.9.9-other/extra && \
                    f=$(find /lib/modules/$(uname -r) -name 'drbd.ko*') && mv $f /lib/modules/9.9.9-other/extra/ && echo $f";
    let module = shell(n2, hide)?;
    let running = shell(n2, "uname -r")?;
    expect(
        n2,
        "start",
        60_000,
        5,
        &["can not load the drbd module", running.trim(), "9.9.9-other", "or boot one of those"],
    )?;
    expect(n2, "monitor", USUAL, 7, &[])?;
    expect(n2, "stop", USUAL, 0, &[])?;
    expect(n2, "validate-all", USUAL, 5, &["9.9.9-other"])?;
    shell(n2, &format!("mv /lib/modules/9.9.9-other/extra/drbd.ko* {}", module.trim()))?;
    // start loads it.
    both_started(rack)
}

/// Both volumes of a resource have one role, beside another resource.
fn several_volumes_have_one_role(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    expect(n2, "start", 60_000, 0, &[])?;
    R2.lay_down(rack)?;
    R2.up(rack)?;
    R2.down(rack)?;
    let status = |guest: &Guest, action: &str| Ok::<_, anyhow::Error>(act(guest, "r2", action, 60_000)?.status);
    assert_eq!((status(n1, "start")?, status(n2, "start")?), (0, 0));
    wait_device(n1, 3, "connected", |one| one.connection == "Connected")?;
    assert_eq!(status(n1, "promote")?, 0);
    for minor in R2.minors {
        assert_eq!(device(n1, *minor)?.map(|one| one.role), Some("Primary".into()), "drbd{minor}");
    }
    assert_eq!((status(n1, "monitor")?, status(n2, "monitor")?), (8, 0));
    n2.text(&["drbdadm", "detach", "r2/1"])?;
    let answer = act(n2, "r2", "monitor", USUAL)?;
    ensure!(answer.status == 190 && answer.reason.contains("volume 1 has no disk here"), "{answer:#?}");
    assert_eq!((status(n1, "demote")?, status(n1, "stop")?, status(n2, "stop")?), (0, 0, 0));
    assert_eq!((device(n1, 2)?, device(n1, 3)?), (None, None));
    // The other resource was none of theirs.
    ensure!(device(n2, 0)?.is_some_and(|one| one.disk == "UpToDate"), "r0 was taken down with r2");
    expect(n2, "stop", USUAL, 0, &[])
}

fn ocf_tester_has_no_complaint(_: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    // Without its peer a resource is degraded, and ocf-tester knows 0 only.
    expect(n2, "start", 60_000, 0, &[])?;
    let argv = ["ocf-tester", "-n", "tested", "-o", "drbd_resource=r0", AGENT];
    let output = n1.command(&argv).env("OCF_ROOT", "/usr/lib/ocf").within(Duration::from_secs(240)).run()?;
    let said = output.all();
    // A guest has neither su nor xmllint; who may read the meta-data, and its DTD, are looked at on the host.
    let foreign = ["too restrictive permissions", "does not conform to ra-api-1.dtd"];
    let complaints = said.lines().filter(|line| line.starts_with("* rc="));
    let complaints: Vec<&str> = complaints.filter(|line| !foreign.iter().any(|words| line.contains(words))).collect();
    ensure!(complaints.is_empty() && said.contains("Beginning tests"), "{said}");
    Ok(())
}
