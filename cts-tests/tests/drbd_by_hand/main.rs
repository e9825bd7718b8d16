//! ocf:greenarrow:drbd in two guests with a real DRBD 8.4, action by action: exit status, reason, the score that is sent,
//! and that each action ends within its time. The kernel of each guest is the witness.

mod action;
mod configuration;
mod parameters;
mod roles;
mod split_brain;
mod states;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use action::{AGENT, expect};
use anyhow::{Context, Result, bail, ensure};
use cts_tests::installed;
use cts_tests::isolation::{Isolation, enter};
use cts_tests::node::Owner;
use cts_tests::vm::drbd::{R0, device, wait_device};
use cts_tests::vm::guest::Guest;
use cts_tests::vm::rack::Rack;
use cts_tests::vm::switch::Link;

/// What the agent has sent to the cluster, an invocation a line.
const SENT: &str = "/run/sent";
/// In place of Pacemaker's tools: there is no cluster here to ask what has reached it.
const RECORDER: &str = "#!/bin/sh\necho \"${0##*/} $*\" >> /run/sent\ncase \"$*\" in *--query*) cat /run/told;; esac\n";
/// What the cluster tells of other nodes, where a part has said it.
const TOLD: &str = "/run/told";
/// In place of crm_resource: whom the cluster has promoted, as far as a part has said so.
const LOCATOR: &str = "#!/bin/sh\ncat /run/located\n";

/// A part of the test: it begins with DRBD configured, in sync and down on both guests.
type Part = fn(&Rack, &Guest, &Guest) -> Result<()>;

const PARTS: &[(&str, Part)] = &[
    ("roles", roles::change_or_it_is_said_who_stands_in_the_way),
    ("split brain", split_brain::is_named_and_ended_by_hand),
    ("given up", split_brain::who_lacks_data_is_told_so),
    ("states", states::what_is_wrong_is_named_and_nothing_is_made_worse),
    ("verify", states::what_a_verify_has_found_is_said_with_the_way_out),
    ("fencing", states::io_waits_for_the_fencing_and_so_does_a_promotion),
    ("parameters", parameters::every_parameter_does_what_it_says),
    ("connections", parameters::connections_are_waited_for_or_kept_away),
    ("configuration", configuration::a_broken_one_is_explained_and_hinders_no_stop),
    ("module", configuration::a_missing_module_is_explained_and_an_old_one_refused),
    ("volumes", roles::several_volumes_have_one_role),
    ("stacked", roles::one_lies_upon_another),
    ("ocf-tester", roles::ocf_tester_has_no_complaint),
];

/// One pair of guests for all parts: to start one takes longer than most of them. A part that fails leaves the others be. With
/// PART=NAME,… in the environment only those are played.
#[test]
fn in_two_guests_with_a_real_drbd() -> Result<()> {
    enter(Isolation::Guests(&["drbd", "hvmail-ha"]), || {
        let rack = Rack::start(2)?;
        rack.each(|guest| {
            guest.install(&installed::agent("drbd")?, AGENT, 0o755)?;
            guest.install(&installed::agent("hvmail_ha")?, "/usr/sbin/hvmail_ha", 0o755)?;
            for (tool, text) in [("crm_attribute", RECORDER), ("attrd_updater", RECORDER), ("crm_resource", LOCATOR)] {
                guest.write_file(&format!("/usr/sbin/{tool}"), text, 0o755, Owner::Root)?;
            }
            // The agent sends to a daemon that it sees, and again to one that was started anew.
            shell(guest, "cp /bin/sleep /run/pacemaker-attrd")?;
            guest.daemon(&["/run/pacemaker-attrd", "100000"])
        })?;
        R0.lay_down(&rack)?;
        rack.each(|guest| shell(guest, "cp /etc/drbd.d/r0.res /root").map(drop))?;
        R0.up(&rack)?;
        R0.make_file_system(&rack)?;
        let wanted = std::env::var("PART").ok();
        let parts = PARTS
            .iter()
            .filter(|(name, _)| wanted.as_deref().is_none_or(|wanted| wanted.split(',').any(|one| one == *name)));
        let (mut played, mut failed) = (0, Vec::new());
        for (name, part) in parts {
            let began = Instant::now();
            let play = || fresh(&rack).and_then(|()| part(&rack, &rack.guests[0], &rack.guests[1]));
            let tried = catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|_| bail!("it panicked, as said above"));
            println!("part {name}: {} in {:.0?}", if tried.is_ok() { "passed" } else { "FAILED" }, began.elapsed());
            played += 1;
            if let Err(error) = tried {
                println!("{error:?}");
                failed.push(*name);
            }
        }
        ensure!(played > 0, "there is no part {wanted:?}");
        ensure!(failed.is_empty(), "these parts failed: {}\n{}", failed.join(", "), rack.dump());
        Ok(())
    })
}

/// Whatever the part before has left: both nodes' data the same, and all down.
fn fresh(rack: &Rack) -> Result<()> {
    rack.mend();
    rack.each(|guest| {
        guest.volume_mend(0)?;
        let line =
            "pkill -x tail; umount /mnt /proc/drbd; rm -rf /run/told /run/resource-agents/* /etc/drbd.d/r1.res; : > /run/sent; : > /run/action.log; tc qdisc del dev eth1 root";
        guest.run(&["bash", "-c", line])?;
        guest.run(&["bash", "-c", "mv /root/drbdsetup /root/drbdadm /usr/sbin"])?;
        guest.run(&["bash", "-c", "cp /root/r0.res /etc/drbd.d/; modprobe drbd; drbdadm resume-io r0"])?;
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

/// A block of its own.
const WRITE: &str = "dd if=/dev/urandom of=/dev/drbd0 bs=4096 count=1 seek=100 oflag=direct";

/// That block, on the disk below the device, or in a copy of that. DRBD writes past the page cache of that disk.
fn block(guest: &Guest, of: &str) -> Result<String> {
    let how = if of.starts_with("/dev/") { "iflag=direct" } else { "" };
    shell(guest, &format!("dd if={of} bs=4096 count=1 skip=100 status=none {how} | md5sum"))
}

fn cut(rack: &Rack) -> Result<()> {
    rack.cut(Link::Replication);
    rack.each(|guest| wait_device(guest, 0, "without its peer", |one| one.connection == "WFConnection").map(drop))
}

fn wait_in_sync(guest: &Guest) -> Result<Duration> {
    let in_sync = |one: &cts_tests::vm::drbd::Device| {
        one.connection == "Connected" && one.disk == "UpToDate" && one.peer_disk == "UpToDate"
    };
    wait_device(guest, 0, "in sync", in_sync)
}

/// What is so long ago as a part says needs a guest that is as old.
fn wait_for_age(guest: &Guest, seconds: u32) -> Result<()> {
    shell(guest, &format!("while [ $(cut -d. -f1 /proc/uptime) -le {seconds} ]; do sleep 1; done")).map(drop)
}

/// A line of shell before drbdsetup, which `mv /root/drbdsetup /usr/sbin` brings back.
fn instead_of_drbdsetup(guest: &Guest, line: &str) -> Result<()> {
    guest.text(&["mv", "/usr/sbin/drbdsetup", "/root"])?;
    let text = format!("#!/bin/sh\n{line}\nexec /root/drbdsetup \"$@\"\n");
    guest.write_file("/usr/sbin/drbdsetup", text, 0o755, Owner::Root)
}

/// Pieces of the configuration of r0, on both.
fn configure(rack: &Rack, pieces: &str) -> Result<()> {
    rack.each(|guest| {
        let text = guest.read_file("/root/r0.res")?;
        let open = text.trim_end().strip_suffix('}').context("a resource ends with a brace")?.to_owned();
        guest.write_file("/etc/drbd.d/r0.res", format!("{open}{pieces}}}\n"), 0o644, Owner::Root)
    })
}

/// The 15 seconds in which a node refuses another promotion are over.
fn forgive(guest: &Guest) -> Result<()> {
    guest.run(&["rm", "-f", "/run/resource-agents/drbd-r0.lapse"]).map(drop)
}
