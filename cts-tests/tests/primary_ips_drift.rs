//! What monitor makes of a kernel that is not as it should be: repaired or failed, adopted, degraded, leaked.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::address_watch::AddressWatch;
use cts_tests::addresses::{STATE_FILE, deleted, holds, in_private_network, ip, list};
use cts_tests::agent::Agent;
use cts_tests::other_host::{FIXED, OtherHost, mac, text};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const LINES: &[&str] = &["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"];
const UP: &[&str] = &["192.0.2.10/24 eth0", "192.0.2.11/24 eth0", "2001:db8::10/64 eth0"];

/// A way in which the addresses drift, and what the monitor has to say of it.
struct Case {
    change: &'static str,
    says: &'static [&'static str],
    /// Addresses that have to be touched by the repair; no other may be.
    touched: &'static [&'static str],
    /// Nothing of the set is there any more.
    all_gone: bool,
}

const CASES: &[Case] = &[
    Case {
        change: "addr del 192.0.2.11/24 dev eth0\n",
        says: &["1 of 3 addresses are missing: 192.0.2.11/24 on eth0"],
        touched: &["192.0.2.11"],
        all_gone: false,
    },
    Case {
        change: "addr del 192.0.2.11/24 dev eth0\naddr add 192.0.2.11/24 dev eth1\n",
        says: &[
            "1 of 3 addresses are not where they belong: 192.0.2.11/24 on eth1",
            "192.0.2.11/24 on eth0 is expected",
        ],
        touched: &["192.0.2.11"],
        all_gone: false,
    },
    Case {
        change: "addr del 2001:db8::10/64 dev eth0\naddr add 2001:db8::10/128 dev eth0 nodad\n",
        says: &["not where they belong: 2001:db8::10/128 on eth0", "2001:db8::10/64 on eth0 is expected"],
        touched: &["2001:db8::10"],
        all_gone: false,
    },
    Case {
        change: "addr add 192.0.2.11/32 dev eth1\n",
        says: &["1 of 3 addresses are not where they belong: 192.0.2.11/32 on eth1"],
        touched: &["192.0.2.11"],
        all_gone: false,
    },
    Case {
        change: "addr del 192.0.2.11/24 dev eth0\naddr del 2001:db8::10/64 dev eth0\naddr add 192.0.2.10/32 dev eth1\n",
        says: &[
            "2 of 3 addresses are missing: 192.0.2.11/24 on eth0, 2001:db8::10/64 on eth0",
            "192.0.2.10/32 on eth1",
        ],
        touched: &["192.0.2.10", "192.0.2.11", "2001:db8::10"],
        all_gone: false,
    },
    Case {
        change: "addr del 192.0.2.10/24 dev eth0\naddr del 192.0.2.11/24 dev eth0\naddr del 2001:db8::10/64 dev eth0\n",
        says: &["3 of 3 addresses are missing"],
        touched: &["192.0.2.10", "192.0.2.11", "2001:db8::10"],
        all_gone: true,
    },
];

#[test]
fn drift_is_repaired_said_once_and_nothing_else_is_touched() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        list(LINES)?;
        for (agent, sound, degraded) in [(Agent::promotable()?, 8, 191), (Agent::plain()?, 0, 190)] {
            let agent = agent.quick();
            agent.succeeds(&["start", "promote"])?;
            for case in CASES {
                println!("{}", case.change);
                ip(case.change)?;
                let (watch, began) = (AddressWatch::here()?, Instant::now());
                agent.exits(degraded, "monitor")?.says(case.says)?.says(&["put right"])?.logs(case.says)?;
                holds(FIXED, UP)?;
                agent.exits(sound, "monitor")?.without_reason()?;
                let mut touched = deleted(&watch, began)?;
                touched.retain(|address| !case.touched.contains(&address.to_string().as_str()));
                ensure!(touched.is_empty(), "the repair touched {touched:?} too");
            }
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn drift_fails_the_monitor_with_on_drift_fail_and_nothing_is_touched() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        list(LINES)?;
        for (agent, failed, gone) in [(Agent::promotable()?, 9, 9), (Agent::plain()?, 1, 7)] {
            let agent = agent.quick().set("on_drift", "fail");
            for case in CASES {
                println!("{}", case.change);
                agent.succeeds(&["start", "promote"])?;
                ip(case.change)?;
                let (watch, began) = (AddressWatch::here()?, Instant::now());
                for _ in 0..2 {
                    agent.exits(if case.all_gone { gone } else { failed }, "monitor")?.says(case.says)?;
                }
                let gone = deleted(&watch, began)?;
                ensure!(gone.is_empty(), "monitor touched {gone:?}");
                // What Pacemaker does then: demote, stop, start, promote.
                agent.succeeds(&["demote", "stop"])?;
                holds(FIXED, &[])?;
            }
        }
        Ok(())
    })
}

#[test]
fn an_interface_set_down_takes_the_ipv6_addresses_along_and_is_named_until_it_is_up_again() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        list(&["192.0.2.10/24", "2001:db8:1::10/64 eth1"])?;
        for (agent, sound, degraded, failed) in [(Agent::promotable()?, 8, 191, 9), (Agent::plain()?, 0, 190, 1)] {
            let agent = agent.quick();
            agent.succeeds(&["start", "promote"])?;
            ip("link set eth1 down\n")?;
            let words = ["2001:db8:1::10", "eth1", "is down: ip link set eth1 up"];
            agent.exits(failed, "monitor")?.says(&words)?;
            holds(FIXED, &["192.0.2.10/24 eth0"])?;
            ip("link set eth1 up\n")?;
            agent.exits(degraded, "monitor")?.says(&["put right"])?;
            agent.exits(sound, "monitor")?.without_reason()?;
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}

#[test]
fn an_interface_that_is_gone_fails_the_monitor_and_is_named() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(&["192.0.2.10/24", "198.51.100.10/24 eth1"])?;
        for (agent, failed) in [(Agent::promotable()?, 9), (Agent::plain()?, 1)] {
            other.cable("eth1")?;
            let agent = agent.quick();
            agent.succeeds(&["start", "promote"])?;
            ip("link del eth1\n")?;
            let words = ["198.51.100.10", "interface eth1, which this node does not have"];
            agent.exits(failed, "monitor")?.says(&words)?;
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn an_unpromoted_instance_with_addresses_has_failed_and_names_them() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start"])?;
        for address in ["192.0.2.11/24 dev eth0", "192.0.2.11/32 dev eth1", "2001:db8::10/64 dev eth0"] {
            let nodad = if address.contains("::") { " nodad" } else { "" };
            ip(&format!("addr add {address}{nodad}\n"))?;
            let named = address.replace(" dev ", " on ");
            agent.exits(9, "monitor")?.says(&["unpromoted", &named])?;
            // Pacemaker's answer to a failed promoted instance begins with a demote.
            agent.succeeds(&["demote"])?;
            holds(FIXED, &[])?;
            agent.exits(0, "monitor")?.without_reason()?;
        }
        Ok(())
    })
}

#[test]
fn a_whole_set_that_was_up_before_the_cluster_knew_is_adopted_and_that_is_said_once() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        for (agent, sound) in [(Agent::promotable()?, 8), (Agent::plain()?, 0)] {
            let agent = agent.quick();
            ip("addr add 192.0.2.10/24 dev eth0\naddr add 192.0.2.11/24 dev eth0\n\
                addr add 2001:db8::10/64 dev eth0 nodad\n")?;
            let (watch, began) = (AddressWatch::here()?, Instant::now());
            agent
                .exits(sound, "monitor")?
                .without_reason()?
                .logs(&["3 addresses were up before this instance was started"])?;
            let again = agent.exits(sound, "monitor")?.without_reason()?;
            ensure!(again.log.is_empty(), "said twice: {again:#?}");
            let gone = deleted(&watch, began)?;
            ensure!(gone.is_empty(), "monitor touched {gone:?}");
            // Its own from here on: also what leaves the file.
            list(&["192.0.2.10/24"])?;
            agent.exits(sound, "monitor")?;
            holds(FIXED, &["192.0.2.10/24 eth0"])?;
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
            list(LINES)?;
        }
        Ok(())
    })
}

#[test]
fn a_part_of_the_set_without_an_instance_is_neither_running_nor_stopped() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        for (agent, failed) in [(Agent::promotable()?, 9), (Agent::plain()?, 1)] {
            let agent = agent.quick();
            ip("addr add 192.0.2.10/24 dev eth0\n")?;
            agent.exits(failed, "monitor")?.says(&["2 of 3 addresses are missing"])?;
            holds(FIXED, &["192.0.2.10/24 eth0"])?;
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
            agent.exits(7, "monitor")?;
        }
        Ok(())
    })
}

#[test]
fn a_lost_carrier_means_what_check_link_says() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        list(&["192.0.2.10/24", "192.0.2.11/24", "198.51.100.10/24 eth1"])?;
        let words = ["eth0 has no carrier: 2 addresses there would reach nobody"];
        for (check_link, promoted, unpromoted, plain) in
            [("off", 8, 0, 0), ("degraded", 191, 190, 190), ("fail", 9, 190, 1)]
        {
            println!("check_link={check_link}");
            let agent = Agent::promotable()?.quick().set("check_link", check_link);
            let alone = Agent::plain()?.quick().set("check_link", check_link);
            let says = |status: i32, agent: &Agent| {
                let answer = agent.exits(status, "monitor")?;
                if check_link == "off" { answer.without_reason() } else { answer.says(&words) }
            };
            agent.succeeds(&["start"])?;
            other.ip("link set eth0 down\n")?;
            says(unpromoted, &agent)?;
            other.ip("link set eth0 up\n")?;
            agent.exits(0, "monitor")?.without_reason()?;
            agent.succeeds(&["promote"])?;
            other.ip("link set eth0 down\n")?;
            says(promoted, &agent)?;
            other.ip("link set eth0 up\n")?;
            agent.exits(8, "monitor")?.without_reason()?;
            agent.succeeds(&["stop"])?;
            alone.succeeds(&["start"])?;
            other.ip("link set eth0 down\n")?;
            says(plain, &alone)?;
            alone.succeeds(&["stop"])?;
            other.ip("link set eth0 up\n")?;
        }
        Ok(())
    })
}

#[test]
fn a_promote_without_a_carrier_succeeds_at_once_and_the_monitor_says_that_nobody_is_reached() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.ip("link set eth0 down\n")?;
        list(LINES)?;
        let agent = Agent::promotable()?;
        agent.succeeds(&["start", "promote"])?;
        agent.exits(191, "monitor")?.says(&["eth0 has no carrier: 3 addresses there would reach nobody"])?;
        agent.succeeds(&["stop"])?;
        holds(&["192.0.2.1/24 eth0", "2001:db8::1/64 eth0"], &[])
    })
}

#[test]
fn another_host_with_an_address_is_seen_at_check_level_10_only() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let (agent, thorough) = (Agent::promotable()?, Agent::promotable()?.env("OCF_CHECK_LEVEL", "10"));
        agent.set("announce_count", "1").succeeds(&["start", "promote"])?;
        let agent = Agent::promotable()?;
        thorough.exits(8, "monitor")?.without_reason()?;
        other.ip("addr add 192.0.2.11/24 dev eth0\naddr add 2001:db8::10/64 dev eth0 nodad\n")?;
        let hardware = text(mac("eth0", 2));
        let words = [
            format!("192.0.2.11 is in use by {hardware} on eth0"),
            format!("2001:db8::10 is in use by {hardware} on eth0"),
        ];
        thorough.exits(191, "monitor")?.says(&[&words[0], &words[1]])?;
        agent.exits(8, "monitor")?.without_reason()?;
        agent.env("OCF_CHECK_LEVEL", "9").exits(8, "monitor")?.without_reason()?;
        holds(FIXED, UP)
    })
}

#[test]
fn while_another_action_is_at_work_monitor_changes_nothing_and_does_not_wait() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?;
        agent.succeeds(&["start"])?;
        let promote = agent.begin("promote")?;
        let active = || Ok(std::fs::read_to_string(STATE_FILE)?.contains("active"));
        wait::until("promote to begin", Duration::from_secs(10), Duration::from_millis(1), active)?;
        process::signal(promote.pid(), Signal::SIGSTOP)?;
        let (watch, began) = (AddressWatch::here()?, Instant::now());
        agent.exits(191, "monitor")?.says(&["are missing"])?.logs(&["another action of this instance is running"])?;
        holds(FIXED, &[])?;
        ensure!(began.elapsed() < Duration::from_secs(5), "monitor waited for the other action");
        let gone = deleted(&watch, began)?;
        ensure!(gone.is_empty(), "monitor touched {gone:?}");
        process::signal(promote.pid(), Signal::SIGCONT)?;
        let mut promote = promote;
        ensure!(promote.wait()?.success());
        agent.exits(8, "monitor")?.without_reason()?;
        holds(FIXED, UP)
    })
}

#[test]
fn a_repair_that_meets_another_host_leaves_the_other_addresses_and_names_it() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.set("announce_count", "1");
        agent.succeeds(&["start", "promote"])?;
        ip("addr del 192.0.2.11/24 dev eth0\n")?;
        other.ip("addr add 192.0.2.11/24 dev eth0\n")?;
        let hardware = text(mac("eth0", 2));
        for _ in 0..2 {
            agent.exits(191, "monitor")?.says(&["192.0.2.11 is in use by", &hardware])?;
            holds(FIXED, &["192.0.2.10/24 eth0", "2001:db8::10/64 eth0"])?;
        }
        other.ip("addr del 192.0.2.11/24 dev eth0\n")?;
        agent.exits(191, "monitor")?.says(&["put right"])?;
        agent.exits(8, "monitor")?.without_reason()?;
        holds(FIXED, UP)
    })
}

#[test]
fn a_probe_reports_what_it_finds_and_changes_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start", "promote"])?;
        ip("addr del 192.0.2.11/24 dev eth0\n")?;
        agent.exits(191, "probe")?.says(&["1 of 3 addresses are missing: 192.0.2.11/24 on eth0"])?;
        holds(FIXED, &["192.0.2.10/24 eth0", "2001:db8::10/64 eth0"])?;
        agent.exits(191, "monitor")?.says(&["put right: 1 address added"])?;
        list(&[LINES, &["192.0.2.12/24"]].concat())?;
        agent.exits(8, "probe")?.without_reason()?;
        holds(FIXED, UP)?;
        agent.exits(8, "monitor")?;
        holds(FIXED, &[UP, &["192.0.2.12/24 eth0"]].concat())
    })
}

#[test]
fn an_edit_is_taken_up_without_a_carrier_and_does_not_claim_to_have_mended_that() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start", "promote"])?;
        other.ip("link set eth0 down\n")?;
        list(&[LINES, &["192.0.2.12/24"]].concat())?;
        let reason = agent.exits(191, "monitor")?.says(&["eth0 has no carrier"])?.reason;
        ensure!(!reason.contains("put right"), "{reason}");
        holds(FIXED, &[UP, &["192.0.2.12/24 eth0"]].concat())?;
        other.ip("link set eth0 up\n")?;
        agent.exits(8, "monitor")?.without_reason()?.logs(&[]).map(drop)
    })
}
