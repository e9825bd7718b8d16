//! What may be wrong with a pair, one thing after the other: what is said of it, and that nothing is made worse.

use std::time::Duration;

use anyhow::{Result, ensure};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::switch::Link;
use cts_tests::wait;

use crate::action::{Action, USUAL, at_once, expect, logged};
use crate::{WRITE, block, both_started, configure, cut, forgive, role, score, shell, wait_in_sync};

pub(crate) fn what_is_wrong_is_named_and_nothing_is_made_worse(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    a_resync(rack, n1, n2)?;
    data_that_is_not_good(n2)?;
    suspended_by_hand(n1)?;
    congestion(rack, n1, n2)?;
    both_primary(rack, n1, n2)?;
    no_data(rack, n1, n2)
}

fn a_resync(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    rack.each(|guest| guest.text(&["drbdadm", "disk-options", "--resync-rate=400k", "r0"]).map(drop))?;
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    shell(n1, "dd if=/dev/urandom of=/dev/drbd0 bs=1M count=12 oflag=direct")?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_device(n2, 0, "being synchronised", |one| one.connection == "SyncTarget")?;
    at_once(n1, "monitor", 191, &["resync of volume 0 to the peer", "% done", "left"], "--update=10000")?;
    at_once(n2, "monitor", 190, &["resync of volume 0 from the peer", "% done", "left"], "--update=10")?;
    n2.text(&["drbdadm", "pause-sync", "r0"])?;
    expect(n1, "monitor", USUAL, 191, &["resync of volume 0 to the peer rests (peer)"])?;
    expect(n2, "monitor", USUAL, 190, &["resync of volume 0 from the peer rests (user)"])?;
    n2.text(&["drbdadm", "resume-sync", "r0"])?;
    // Data that is not whole: refused at once, and not after 15 seconds.
    n2.text(&["drbdadm", "disconnect", "r0"])?;
    at_once(n2, "monitor", 190, &["volume 0 is Inconsistent here"], "--delete")?;
    cannot_be_promoted(n2)?;
    rack.each(|guest| guest.text(&["drbdadm", "disk-options", "--resync-rate=100M", "r0"]).map(drop))?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_in_sync(n2).map(drop)
}

fn cannot_be_promoted(guest: &Guest) -> Result<()> {
    at_once(guest, "promote", 1, &["Need access to UpToDate data (-2)"], "--update=-1000000")?;
    forgive(guest)
}

fn data_that_is_not_good(n2: &Guest) -> Result<()> {
    shell(n2, "drbdadm disconnect r0; drbdadm outdate r0")?;
    at_once(n2, "monitor", 190, &["volume 0 is Outdated here", "see the log"], "--delete")?;
    cannot_be_promoted(n2)?;
    n2.text(&["drbdadm", "connect", "r0"])?;
    wait_in_sync(n2).map(drop)
}

fn suspended_by_hand(n1: &Guest) -> Result<()> {
    n1.text(&["drbdadm", "suspend-io", "r0"])?;
    at_once(n1, "monitor", 191, &["I/O is suspended by hand"], "--update=10000")?;
    n1.text(&["drbdadm", "resume-io", "r0"])?;
    expect(n1, "monitor", USUAL, 8, &[])
}

/// More is written than the link takes, and the Primary does not wait for it (protocol A, on-congestion pull-ahead).
fn congestion(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    let ahead = ["--protocol=A", "--on-congestion=pull-ahead", "--congestion-fill=40k", "r0"];
    rack.each(|guest| guest.text(&[&["drbdadm", "net-options"], &ahead[..]].concat()).map(drop))?;
    n1.text(&["tc", "qdisc", "add", "dev", "eth1", "root", "netem", "rate", "1mbit"])?;
    shell(n1, "dd if=/dev/urandom of=/dev/drbd0 bs=64k count=40 oflag=direct")?;
    expect(n1, "monitor", USUAL, 191, &["the peer is behind with volume 0: the link is congested"])?;
    assert_eq!(score(n1)?, "--update=10000");
    wait_device(n2, 0, "told that it is behind", |one| one.connection == "Behind")?;
    expect(n2, "monitor", USUAL, 190, &["volume 0 is behind the peer: the link is congested"])?;
    n1.text(&["tc", "qdisc", "del", "dev", "eth1", "root"])?;
    wait_in_sync(n2)?;
    rack.each(|guest| guest.text(&["drbdadm", "adjust", "r0"]).map(drop))?;
    wait_in_sync(n1)?;
    expect(n1, "monitor", USUAL, 8, &[])
}

fn both_primary(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    rack.each(|guest| guest.text(&["drbdadm", "net-options", "--allow-two-primaries=yes", "r0"]).map(drop))?;
    n2.text(&["drbdadm", "primary", "r0"])?;
    expect(n1, "monitor", USUAL, 191, &["BOTH NODES ARE PRIMARY"])?;
    n2.text(&["drbdadm", "secondary", "r0"])?;
    rack.each(|guest| guest.text(&["drbdadm", "net-options", "--allow-two-primaries=no", "r0"]).map(drop))
}

/// The Primary loses its disk, and then its peer.
fn no_data(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    n1.volume_fail(0)?;
    n1.run(&["bash", "-c", WRITE])?;
    wait_device(n1, 0, "without a disk", |one| one.disk == "Diskless")?;
    at_once(n1, "monitor", 191, &["volume 0 has lost its disk here"], "--update=10")?;
    at_once(n2, "monitor", 190, &["volume 0 is Diskless at the peer"], "--update=10000")?;
    // linbit:drbd never ends here.
    expect(n2, "stop", 6000, 1, &["is still up", "works on this node's"])?;
    assert_eq!((device(n2, 0)?.map(|one| one.disk), score(n2)?), (Some("UpToDate".into()), "--update=10000".into()));
    n1.text(&["drbdadm", "resource-options", "--on-no-data-accessible=suspend-io", "r0"])?;
    rack.cut(Link::Replication);
    wait_device(n1, 0, "without its peer", |one| one.connection == "WFConnection")?;
    at_once(n1, "monitor", 9, &["Primary without data: volume 0 is Diskless here"], "--delete")?;
    logged(n1, "I/O is suspended: no good data is reachable from here")?;
    // Who reads waits for data, and nobody can take the device from him before they come.
    n1.daemon(&["dd", "if=/dev/drbd0", "of=/dev/null", "bs=4096", "count=1", "iflag=direct"])?;
    let reads = || Ok(n1.run(&["pgrep", "-x", "dd"])?.code() == Some(0));
    wait::until("a reader", Duration::from_secs(20), wait::TOOL, reads)?;
    expect(n1, "demote", 5000, 1, &["its I/O is suspended (no-data)", "(dd)"])?;
    rack.mend();
    wait_device(n1, 0, "connected", |one| one.connection == "Connected")?;
    n1.volume_mend(0)?;
    // What Pacemaker does then.
    expect(n1, "demote", USUAL, 0, &[])?;
    expect(n1, "stop", USUAL, 0, &[])?;
    expect(n2, "promote", USUAL, 0, &[])?;
    expect(n1, "start", 60_000, 0, &[])?;
    wait_in_sync(n1)?;
    expect(n2, "monitor", USUAL, 8, &[])?;
    expect(n1, "monitor", USUAL, 0, &[])
}

/// Behind DRBD's back a block has become another one on the first disk, or on the second.
pub(crate) fn what_a_verify_has_found_is_said_with_the_way_out(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    configure(rack, " net { verify-alg sha1; }\n")?;
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    let found = "a verify has found 4 KiB of volume 0 that differ from the peer";
    let disk = "/dev/mapper/volume0";
    let good = block(n1, disk)?;

    spoil(n2)?;
    verify(n1)?;
    expect(
        n1,
        "monitor",
        USUAL,
        191,
        &[found, "if this node is right, drbdadm disconnect r0 and connect r0 on the other"],
    )?;
    expect(n2, "monitor", USUAL, 190, &[found, "if the Primary is right, drbdadm disconnect r0 and connect r0 here"])?;
    assert_eq!((score(n1)?, score(n2)?), ("--update=10000".into(), "--update=10000".into()));
    shell(n2, "drbdadm disconnect r0; drbdadm connect r0")?;
    mended(n1, n2, &good)?;
    expect(n1, "monitor", USUAL, 8, &[])?;

    // The Primary's is the wrong one: first it is to be Secondary.
    spoil(n1)?;
    verify(n1)?;
    expect(n1, "demote", USUAL, 0, &[])?;
    expect(n1, "monitor", USUAL, 190, &[found, "drbdadm invalidate r0"])?;
    expect(n2, "promote", USUAL, 0, &[])?;
    expect(n1, "monitor", USUAL, 190, &[found, "if the Primary is right, drbdadm disconnect r0 and connect r0 here"])?;
    shell(n1, "drbdadm disconnect r0; drbdadm connect r0")?;
    mended(n1, n2, &good)?;

    // Without a Primary nobody's data is newer.
    expect(n2, "demote", USUAL, 0, &[])?;
    spoil(n1)?;
    verify(n2)?;
    expect(n1, "monitor", USUAL, 190, &[found, "drbdadm invalidate r0 on the node that is wrong"])?;
    n1.text(&["drbdadm", "invalidate", "r0"])?;
    mended(n1, n2, &good)?;
    expect(n1, "monitor", USUAL, 0, &[])
}

fn spoil(guest: &Guest) -> Result<()> {
    shell(guest, "dd if=/dev/urandom of=/dev/mapper/volume0 bs=4096 count=1 seek=100 oflag=direct").map(drop)
}

fn verify(guest: &Guest) -> Result<()> {
    guest.text(&["drbdadm", "verify", "r0"])?;
    wait_device(guest, 0, "verified", |one| one.connection == "Connected").map(drop)
}

fn mended(n1: &Guest, n2: &Guest, good: &str) -> Result<()> {
    let same = || Ok(block(n1, "/dev/mapper/volume0")? == good && block(n2, "/dev/mapper/volume0")? == good);
    wait::until("both to have the good block", Duration::from_secs(60), wait::TOOL, same)?;
    wait_in_sync(n1)?;
    wait_in_sync(n2).map(drop)
}

/// A handler that takes its time, and says what it is told to say.
const HANDLER: &str = "#!/bin/sh\nsleep $(cat /run/handler-takes)\nexit $(cat /run/handler-says)\n";

/// DRBD's numbers (drbd_nl.c, `conn_try_outdate_peer`): 7: the peer was fenced; 1: nobody knows.
pub(crate) fn io_waits_for_the_fencing_and_so_does_a_promotion(rack: &Rack, n1: &Guest, n2: &Guest) -> Result<()> {
    let fencing = " disk { fencing resource-and-stonith; }\n handlers { fence-peer \"/root/handler\"; }\n";
    configure(rack, fencing)?;
    let handler = |guest: &Guest, takes: u32, says: u32| {
        shell(guest, &format!("echo {takes} > /run/handler-takes; echo {says} > /run/handler-says")).map(drop)
    };
    rack.each(|guest| guest.write_file("/root/handler", HANDLER, 0o755, Owner::Root))?;
    both_started(rack)?;
    expect(n1, "promote", USUAL, 0, &[])?;
    handler(n1, 10, 7)?;
    cut(rack)?;
    let suspended = "I/O is suspended until the handler fence-peer has fenced the peer";
    at_once(n1, "monitor", 191, &[suspended], "--update=10000")?;
    wait_device(n1, 0, "sure of the peer", |one| one.peer_disk == "Outdated")?;
    expect(n1, "monitor", USUAL, 191, &["not connected", "on this node alone"])?;

    handler(n2, 0, 1)?;
    let refused = ["DRBD refuses", "(-7)", "the handler fence-peer could not make sure"];
    at_once(n2, "promote", 1, &refused, "--update=-1000000")?;
    assert_eq!(role(n2)?, "Secondary");
    forgive(n2)?;
    // The cluster has made an end of the other.
    shell(n1, "drbdadm secondary r0 && drbdadm down r0")?;
    handler(n2, 0, 7)?;
    let answer = Action::new(n2, "promote").expect(0, &[])?;
    ensure!(answer.took < Duration::from_secs(2), "with a fenced peer it took {:?}", answer.took);
    assert_eq!((role(n2)?, score(n2)?), ("Primary".into(), "--update=10000".into()));
    Ok(())
}
