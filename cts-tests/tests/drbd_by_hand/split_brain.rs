//! Both nodes have written without each other.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;

use crate::action::{Action, USUAL, at_once, expect, logged};
use crate::{SENT, TOLD, WRITE, block, both_started, cut, forgive, instead_of_drbdsetup, role, score, shell};
use crate::{wait_for_age, wait_in_sync};

pub(crate) fn is_named_and_ended_by_hand(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    // The link is cut, and both write: a split brain.
    cut(rack)?;
    at_once(n1, "monitor", 191, &["not connected (Connecting)", "on this node alone"], "--update=10000")?;
    // Only when that has lasted: to lose its peer is how the death of a Primary begins.
    expect(n2, "monitor", USUAL, 0, &[])?;
    wait_for_age(n2, 30)?;
    n2.write_file("/run/resource-agents/drbd-r0.alone", "0", 0o600, Owner::Root)?;
    at_once(n2, "monitor", 190, &["not connected (Connecting)"], "--update=1000")?;
    // The cluster says that it has promoted the other as well.
    let notify = Action::new(n1, "notify").meta("notify_type", "post").meta("notify_operation", "promote");
    notify.meta("notify_promoted_resource", "r0:1").meta("notify_promoted_uname", "n2").expect(0, &[])?;
    logged(n1, "BOTH NODES ARE PRIMARY: r0 is Primary here and on n2")?;
    both_write_and_meet(rack, n1, n2)?;
    let discard = "`drbdadm disconnect r0; drbdadm secondary r0; drbdadm connect --discard-my-data r0`";
    let keeps_this = format!("To keep the data of this node: on the other {discard}, and here `drbdadm connect r0`");
    let keeps_the_other = format!("To keep the other's: here {discard}, and there `drbdadm connect r0`");
    let ways_out = ["StandAlone", "SPLIT BRAIN", &keeps_this, &keeps_the_other];
    at_once(n1, "monitor", 191, &ways_out, "--update=10000")?;
    at_once(n2, "monitor", 190, &ways_out, "--delete")?;
    it_is_offered_by_nobody(n2)?;
    nobody_knows_what_it_has_written(n2)?;
    // Where the cluster served until then its data may go on, and the other hears at once that it is no Primary.
    assert_eq!(said(n1)?, "Primary");
    n1.text(&["rm", "/run/resource-agents/drbd-r0.served"])?;
    expect(n1, "demote", USUAL, 0, &[])?;
    assert_eq!(said(n1)?, "Secondary");
    expect(n1, "promote", USUAL, 0, &[])?;
    a_stop_does_not_end_it(n1, n2)?;
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
    Ok(words(guest)?.split(' ').next().unwrap_or_default().to_owned())
}

/// All that was told.
pub(crate) fn words(guest: &Guest) -> Result<String> {
    let sent = guest.read_file(SENT)?;
    let last = sent.lines().filter_map(|line| line.split_once("--update ")).map(|(_, value)| value).next_back();
    Ok(last.unwrap_or_default().to_owned())
}

/// What the cluster tells of the other node from now on.
pub(crate) fn hear(guest: &Guest, of: &str, words: &str) -> Result<()> {
    let told =
        format!("<pacemaker-result><attribute name=\"drbd-r0\" value=\"{words}\" host=\"{of}\"/></pacemaker-result>");
    guest.write_file(TOLD, told, 0o644, Owner::Root)?;
    guest.text(&["rm", "-f", "/run/resource-agents/drbd-r0.heard"]).map(drop)
}

/// After a restart it tries to connect, and the other does not: it is who had what was served, until the other is Primary.
fn a_stop_does_not_end_it(n1: &Guest, n2: &Guest) -> Result<()> {
    expect(n1, "stop", USUAL, 0, &[])?;
    expect(n1, "start", 60_000, 0, &[])?;
    assert_eq!(device(n1, 0)?.map(|one| one.connection), Some("WFConnection".into()));
    expect(n2, "monitor", USUAL, 190, &["SPLIT BRAIN"])?;
    let told = words(n2)?;
    ensure!(told.starts_with("Secondary StandAlone ") && told.contains(':'), "n2 does not say what it has: {told:?}");
    hear(n1, "n2", &told)?;
    let refuses = ["node n2 has given up the connection (StandAlone); drbdadm connect r0 there"];
    at_once(n1, "monitor", 190, &refuses, "--update=1000")?;
    expect(n1, "promote", USUAL, 0, &[])?;
    expect(n1, "demote", USUAL, 0, &[])?;
    hear(n1, "n2", &told.replace("Secondary", "Primary"))?;
    at_once(n1, "monitor", 190, &refuses, "--delete")?;
    hear(n1, "n2", &told)?;
    at_once(n1, "promote", 1, &["not promoted: SPLIT BRAIN"], "--update=-1000000")?;
    // Nor is it right after a start, when no monitor has been.
    forgive(n1)?;
    expect(n1, "stop", USUAL, 0, &[])?;
    expect(n1, "start", 60_000, 0, &[])?;
    assert_eq!(score(n1)?, "--delete", "after a start");
    at_once(n1, "promote", 1, &["not promoted: SPLIT BRAIN"], "--update=-1000000")?;
    // As it was.
    forgive(n1)?;
    shell(n1, &format!("rm {TOLD} /run/resource-agents/drbd-r0.heard; drbdadm disconnect r0"))?;
    wait_device(n1, 0, "alone for good", |one| one.connection == "StandAlone")?;
    n1.write_file("/run/resource-agents/drbd-r0.served", "", 0o600, Owner::Root)?;
    expect(n1, "promote", USUAL, 0, &[])
}

/// Without a split brain: one gives up the connection that the other tries to make, and lacks what the Primary writes.
pub(crate) fn who_lacks_data_is_told_so(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    n1.text(&["drbdadm", "disconnect", "r0"])?;
    wait_device(n2, 0, "without its peer", |one| one.connection == "WFConnection")?;
    shell(n1, WRITE)?;
    at_once(n1, "monitor", 191, &["StandAlone"], "--update=10000")?;
    expect(n2, "monitor", USUAL, 0, &[])?;
    hear(n2, "n1", &words(n1)?)?;
    let refuses = ["node n1 has given up the connection (StandAlone); drbdadm connect r0 there"];
    at_once(n2, "monitor", 190, &refuses, "--delete")?;
    // As in a planned move: n1 is there, and knows more.
    expect(n1, "demote", USUAL, 0, &[])?;
    hear(n2, "n1", &words(n1)?)?;
    let newer = "not promoted: the other node has newer data";
    at_once(n2, "promote", 1, &[newer, "drbdadm connect r0 there first"], "--update=-1000000")?;
    assert_eq!(role(n2)?, "Secondary");
    expect(n1, "promote", USUAL, 0, &[])?;
    n1.text(&["drbdadm", "connect", "r0"])?;
    wait_in_sync(n2)?;
    rack.each(|guest| shell(guest, &format!("rm -f {TOLD} /run/resource-agents/drbd-r0.heard")).map(drop))?;
    rack.each(forgive)?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])?;

    // The Secondary gives up: it has written nothing alone, and the Primary has, and says so when it hears of that.
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    wait_device(n1, 0, "without its peer", |one| one.connection == "WFConnection")?;
    shell(n1, WRITE)?;
    at_once(n2, "monitor", 190, &["StandAlone"], "--update=1000")?;
    hear(n1, "n2", &words(n2)?)?;
    at_once(n1, "monitor", 191, &["node n2 has given up the connection"], "--update=10000")?;
    hear(n2, "n1", &words(n1)?)?;
    at_once(n2, "monitor", 190, &["which has newer data"], "--delete")?;
    at_once(n2, "promote", 1, &[newer, "drbdadm connect r0 first"], "--update=-1000000")?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_in_sync(n2).map(drop)
}

/// Its promotion would be refused, and so no action offers it: Pacemaker would demote the other for it.
fn it_is_offered_by_nobody(n2: &Guest) -> Result<()> {
    let notify = Action::new(n2, "notify").meta("notify_type", "post").meta("notify_operation", "demote");
    notify.meta("notify_demote_resource", "r0:0").meta("notify_demote_uname", "n1").expect(0, &[])?;
    assert_eq!(score(n2)?, "--delete", "after a notification");
    expect(n2, "probe", USUAL, 190, &["StandAlone", "SPLIT BRAIN"])?;
    assert_eq!(score(n2)?, "--delete", "after a probe");
    at_once(n2, "promote", 1, &["not promoted: SPLIT BRAIN", "--discard-my-data"], "--update=-1000000")?;
    assert_eq!(role(n2)?, "Secondary");
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

/// The kernel kills the command at its first call of this kind.
fn killed_at(guest: &Guest, call: &str, arguments: &[&str]) -> Result<()> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when=1"));
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "hvmail_ha", "rejoin"];
    let output = guest.command(&[&strace, arguments].concat()).stdin("").within(Duration::from_secs(120)).run()?;
    println!("{}: rejoin killed at {call}: {:?}\n{}", guest.name, output.code(), output.all());
    // strace ends like what it traced; a guest's shell calls that 128 and the signal.
    ensure!([None, Some(137)].contains(&output.code()), "the command was not killed at {call}: {}", output.all());
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
    let with_copy = ["--throw-away=n2", &format!("--copy-to={copy}")];
    // Before the copy has its name, and where the other is waited for. A guest's file system has no files without a name.
    killed_at(n2, "fsync", &with_copy)?;
    assert_eq!(device(n2, 0)?.map(|one| one.connection), Some("StandAlone".into()));
    ensure!(n2.command(&["test", "-e", copy]).run()?.code() == Some(1), "half a copy has the name of one");
    rejoin(n2, &with_copy, 3, &["/root/r0.img.part is there: a command that was killed has left it"])?;
    n2.text(&["rm", "/root/r0.img.part"])?;
    let command = format!("hvmail_ha rejoin {} </dev/null & pid=$!", with_copy.join(" "));
    let connects = "until test \"$(drbdadm cstate r0)\" = WFConnection; do sleep 0.2; done";
    let said = shell(n2, &format!("{command}; {connects}; kill -9 $pid; ! wait $pid"))?;
    ensure!(said.contains("/root/r0.img has the disk as it was"), "{said}");
    assert_eq!(block(n2, copy)?, thrown_away);
    rejoin(n2, &with_copy, 3, &["/root/r0.img is there already", "--without-copy if it is the copy"])?;
    let waits = ["goes on waiting", "on the other node: hvmail_ha rejoin --throw-away=n2"];
    rejoin(n2, &["--throw-away=n2", "--without-copy", "--timeout=10"], 2, &waits)?;
    rejoin(n1, &["--throw-away=n2"], 0, &["r0 is connected again on n1"])?;
    wait_device(n2, 0, "in sync again", |one| one.connection == "Connected" && one.disk == "UpToDate")?;
    let kept = block(n1, disk)?;
    ensure!(kept != thrown_away && block(n2, disk)? == kept, "n2 has not the data of n1");
    n2.text(&["rm", copy])?;
    expect(n1, "monitor", USUAL, 8, &[])?;
    expect(n2, "monitor", USUAL, 0, &[])
}
