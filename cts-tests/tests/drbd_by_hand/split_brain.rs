//! Both nodes have written without each other.

use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;

use crate::action::{Action, USUAL, expect, logged};
use crate::{WRITE, block, both_started, cut, role, score, shell};

pub(crate) fn is_named_and_ended_by_hand(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    // The link is cut, and both write: a split brain.
    cut(rack)?;
    expect(n1, "monitor", USUAL, 191, &["not connected (Connecting)", "on this node alone"])?;
    // Only when that has lasted: to lose its peer is how the death of a Primary begins.
    expect(n2, "monitor", USUAL, 0, &[])?;
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
    the_operator_ends_a_split_brain(rack, n1, n2)
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
