//! Both nodes have written without each other.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;

use crate::action::{Action, USUAL, expect, logged};
use crate::{SENT, WRITE, block, both_started, cut, forgive, instead_of_drbdsetup, role, score, shell, wait_for_age};

pub(crate) fn is_named_and_ended_by_hand(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    // The link is cut, and both write: a split brain.
    cut(rack)?;
    expect(n1, "monitor", USUAL, 191, &["not connected (Connecting)", "on this node alone"])?;
    // Only when that has lasted: to lose its peer is how the death of a Primary begins.
    expect(n2, "monitor", USUAL, 0, &[])?;
    wait_for_age(n2, 30)?;
    n2.write_file("/run/resource-agents/drbd-r0.alone", "0", 0o600, Owner::Root)?;
    expect(n2, "monitor", USUAL, 190, &["not connected (Connecting)"])?;
    assert_eq!((score(n1)?, score(n2)?), ("--update=10000".into(), "--update=1000".into()));
    // The cluster says that it has promoted the other as well.
    let notify = Action::new(n1, "notify").meta("notify_type", "post").meta("notify_operation", "promote");
    notify.meta("notify_promoted_resource", "r0:1").meta("notify_promoted_uname", "n2").expect(0, &[])?;
    logged(n1, "BOTH NODES ARE PRIMARY: r0 is Primary here and on n2")?;
    both_write_and_meet(rack, n1, n2)?;
    let ways_out = ["StandAlone", "SPLIT BRAIN", "drbdadm connect --discard-my-data r0"];
    expect(n1, "monitor", USUAL, 191, &ways_out)?;
    expect(n2, "monitor", USUAL, 190, &ways_out)?;
    assert_eq!((score(n1)?, score(n2)?), ("--update=10000".into(), "--delete".into()));
    it_is_offered_by_nobody(n2)?;
    nobody_knows_what_it_has_written(n2)?;
    // Where the cluster served until then its data may go on, and the other hears at once that it is no Primary.
    assert_eq!(said(n1)?, "Primary");
    n1.text(&["rm", "/run/resource-agents/drbd-r0.served"])?;
    expect(n1, "demote", USUAL, 0, &[])?;
    assert_eq!(said(n1)?, "Secondary");
    expect(n1, "promote", USUAL, 0, &[])?;
    // As the reason says it.
    shell(n2, "drbdadm disconnect r0; drbdadm secondary r0; drbdadm connect --discard-my-data r0")?;
    n1.text(&["drbdadm", "connect", "r0"])?;
    wait_device(n2, 0, "in sync again", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])?;
    the_operator_ends_a_split_brain(rack, n1, n2)?;
    the_others_data_are_kept(rack, n1, n2)
}

/// The role that was told the other node last.
fn said(guest: &Guest) -> Result<String> {
    let sent = guest.read_file(SENT)?;
    let last = sent.lines().filter_map(|line| line.split_once("--update ")).map(|(_, value)| value).next_back();
    Ok(last.and_then(|value| value.split(' ').next()).unwrap_or_default().to_owned())
}

/// Its promotion would be refused, and so no action offers it: Pacemaker would demote the other for it.
fn it_is_offered_by_nobody(n2: &Guest) -> Result<()> {
    let notify = Action::new(n2, "notify").meta("notify_type", "post").meta("notify_operation", "demote");
    notify.meta("notify_demote_resource", "r0:0").meta("notify_demote_uname", "n1").expect(0, &[])?;
    assert_eq!(score(n2)?, "--delete", "after a notification");
    expect(n2, "probe", USUAL, 190, &["StandAlone", "SPLIT BRAIN"])?;
    assert_eq!(score(n2)?, "--delete", "after a probe");
    expect(n2, "promote", USUAL, 1, &["not promoted: SPLIT BRAIN", "--discard-my-data"])?;
    assert_eq!((role(n2)?, score(n2)?), ("Secondary".into(), "--update=-1000000".into()));
    expect(n2, "monitor", USUAL, 190, &["SPLIT BRAIN"])?;
    assert_eq!(score(n2)?, "--update=-1000000", "a monitor has taken back what refuses the next promotion");
    forgive(n2)?;
    expect(n2, "monitor", USUAL, 190, &["SPLIT BRAIN"])?;
    assert_eq!(score(n2)?, "--delete");
    // The score comes first; then it looks for the other, which does not look for it.
    expect(n2, "reload", USUAL, 0, &[])?;
    assert_eq!(score(n2)?, "--delete", "after a reload");
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    wait_device(n2, 0, "alone for good", |one| one.connection == "StandAlone").map(drop)
}

/// drbdsetup does not answer that one question.
fn nobody_knows_what_it_has_written(n2: &Guest) -> Result<()> {
    instead_of_drbdsetup(n2, "[ $1 = get-gi ] && exit 20")?;
    shell(n2, "rm -f /run/resource-agents/drbd-r0.generation")?;
    expect(n2, "monitor", USUAL, 190, &["drbdsetup get-gi fails", "may be a SPLIT BRAIN"])?;
    assert_eq!(score(n2)?, "--delete");
    expect(n2, "promote", USUAL, 1, &["not promoted: StandAlone", "get-gi does not say whose data is newer"])?;
    assert_eq!(role(n2)?, "Secondary");
    shell(n2, "mv /root/drbdsetup /usr/sbin")?;
    forgive(n2)
}

/// The second of both choices, as the reason on n1 prints it.
fn the_others_data_are_kept(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    cut(rack)?;
    both_write_and_meet(rack, n1, n2)?;
    let kept = block(n2, "/dev/mapper/volume0")?;
    let reason = expect_reason(n1, 191)?;
    let (_, choice) = reason.split_once("To keep the other's: ").context(reason.clone())?;
    let commands: Vec<&str> = choice.split('`').skip(1).step_by(2).collect();
    let [here, there] = commands[..] else { bail!("two commands are expected: {choice}") };
    shell(n1, here)?;
    shell(n2, there)?;
    wait_device(n1, 0, "in sync again", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    assert_eq!(block(n1, "/dev/mapper/volume0")?, kept, "n1 has not the data of n2");
    expect(n1, "monitor", USUAL, 0, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])
}

fn expect_reason(guest: &Guest, status: i32) -> Result<String> {
    Ok(Action::new(guest, "monitor").expect(status, &["SPLIT BRAIN"])?.reason)
}

/// The second has been Primary in between.
fn both_write_and_meet(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    shell(n2, &format!("drbdadm primary r0 && {WRITE} && drbdadm secondary r0"))?;
    shell(n1, WRITE)?;
    rack.mend();
    rack.each(|guest| wait_device(guest, 0, "alone for good", |one| one.connection == "StandAlone").map(drop))
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
