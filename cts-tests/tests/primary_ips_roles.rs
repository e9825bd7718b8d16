//! The life of an instance: each role and the way to it, twice over, interrupted, and with the ground taken away.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::addresses::{IP_FILE, STATE_FILE, held, holds, in_private_network, ip, line_of, list, many, setting};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::other_host::{FIXED, OtherHost};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const LINES: &[&str] = &["192.0.2.10/24", "192.0.2.11/25", "2001:db8::10/64", "2001:db8::11/128"];
const UP: &[&str] = &["192.0.2.10/24 eth0", "192.0.2.11/25 eth0", "2001:db8::10/64 eth0", "2001:db8::11/128 eth0"];

/// Long enough for whatever the kernel or the agent does.
const AMPLE: Duration = Duration::from_secs(20);

#[test]
fn a_promotable_instance_has_its_addresses_while_it_is_promoted_and_at_no_other_time() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?;
        for _ in 0..2 {
            for (action, status, up) in [
                ("monitor", 7, false),
                ("start", 0, false),
                ("promote", 0, true),
                ("demote", 0, false),
                ("stop", 0, false),
            ] {
                for _ in 0..2 {
                    agent.exits(status, action)?.without_reason()?;
                    holds(FIXED, if up { UP } else { &[] })?;
                }
                let state = match action {
                    "promote" => 8,
                    "start" | "demote" => 0,
                    _ => 7,
                };
                agent.exits(state, "monitor")?.without_reason()?;
                holds(FIXED, if up { UP } else { &[] })?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_plain_resource_has_its_addresses_from_start_to_stop() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::plain()?;
        for _ in 0..2 {
            agent.exits(7, "monitor")?.without_reason()?;
            for action in ["start", "start", "promote", "demote", "reload", "reload-agent"] {
                agent.exits(0, action)?.without_reason()?;
                holds(FIXED, UP)?;
                agent.exits(0, "monitor")?.without_reason()?;
            }
            for _ in 0..2 {
                agent.exits(0, "stop")?.without_reason()?;
                holds(FIXED, &[])?;
            }
        }
        Ok(())
    })
}

#[test]
fn stop_of_a_promoted_instance_takes_its_addresses_away() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start", "promote", "stop"])?;
        holds(FIXED, &[])?;
        agent.exits(7, "monitor")?;
        Ok(())
    })
}

#[test]
fn stop_finds_its_addresses_on_other_interfaces_and_with_other_prefix_lengths() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        let agent = Agent::promotable()?.quick();
        for action in ["demote", "stop"] {
            list(LINES)?;
            agent.succeeds(&["start", "promote"])?;
            ip("addr del 192.0.2.10/24 dev eth0\naddr add 192.0.2.10/16 dev eth1\naddr add 192.0.2.10/32 dev eth0\n\
                addr add 192.0.2.11/32 dev lo\n\
                addr add 2001:db8::10/65 dev eth1 nodad\naddr del 2001:db8::11/128 dev eth0\n\
                addr add 2001:db8::11/64 dev eth0 nodad\n")?;
            agent.exits(0, action)?.logs(&["7 addresses were taken away"])?;
            holds(FIXED, &[])?;
            ensure!(line_of("192.0.2.11").is_err(), "{action} left an address on lo");
        }
        Ok(())
    })
}

#[test]
fn addresses_that_left_the_file_are_taken_away_at_a_stop_all_the_same() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let agent = Agent::promotable()?.quick();
        for action in ["demote", "stop"] {
            list(LINES)?;
            agent.succeeds(&["start", "promote"])?;
            list(&["192.0.2.77/24"])?;
            agent.succeeds(&[action])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn without_its_record_or_with_a_damaged_one_a_stop_goes_by_the_file() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        let damages: [&[u8]; 4] = [b"", b"nonsense\n", b"primary-ips 1 active\n192.0.2.10/2", &[0xff; 5000]];
        for damage in damages {
            for action in ["demote", "stop"] {
                agent.succeeds(&["start", "promote"])?;
                fs::write(STATE_FILE, damage)?;
                // Neither stopped nor running: nobody may conclude anything from it (doubt is status 1).
                agent.exits(1, "monitor")?.says(&[STATE_FILE])?;
                agent.exits(0, action)?.logs(&["WARNING", STATE_FILE])?;
                holds(FIXED, &[])?;
                agent.exits(if action == "stop" { 7 } else { 0 }, "monitor")?.without_reason()?;
            }
        }
        agent.succeeds(&["start", "promote"])?;
        fs::remove_file(STATE_FILE)?;
        agent.succeeds(&["stop"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn without_the_file_a_stop_goes_by_its_record() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        for agent in [Agent::promotable()?, Agent::plain()?] {
            list(LINES)?;
            agent.clone().quick().succeeds(&["start", "promote"])?;
            holds(FIXED, UP)?;
            fs::remove_file(IP_FILE)?;
            // Wrong parameters are no reason to leave addresses behind either.
            agent.set("announce_count", "many").set("duplicate_check", "perhaps").succeeds(&["stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn what_a_promote_killed_in_the_duplicate_check_has_added_goes_with_demote_and_stop() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?;
        for action in ["demote", "stop"] {
            agent.succeeds(&["start"])?;
            let promote = agent.begin("promote")?;
            wait::until("tentative addresses", AMPLE, wait::QUICK, || {
                Ok(line_of("2001:db8::11").is_ok_and(|line| line.contains("tentative")))
            })?;
            process::signal(promote.pid(), Signal::SIGKILL)?;
            drop(promote);
            holds(FIXED, UP)?;
            agent.exits(0, action)?.logs(&["4 addresses were taken away"])?;
            holds(FIXED, &[])?;
            agent.exits(if action == "stop" { 7 } else { 0 }, "monitor")?.without_reason()?;
        }
        Ok(())
    })
}

#[test]
fn wherever_a_promote_or_a_demote_is_killed_a_stop_leaves_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        ip("addr add 10.255.0.1/8 dev eth0\n")?;
        let fixed = [FIXED, &["10.255.0.1/8 eth0"]].concat();
        let lines = many(2000);
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        let agent = Agent::promotable()?.quick();
        let mut interrupted = 0;
        for action in ["promote", "demote"] {
            for round in 0..12 {
                agent.succeeds(if action == "demote" { &["start", "promote"] } else { &["start"] })?;
                let mut running = agent.begin(action)?;
                thread::sleep(Duration::from_millis(round * 6));
                interrupted += u32::from(running.is_running());
                drop(running);
                agent.succeeds(&["stop"])?;
                holds(&fixed, &[])?;
            }
        }
        println!("{interrupted} of 24 actions were killed before their end");
        ensure!(interrupted > 3, "nearly every action was over before it could be killed");
        Ok(())
    })
}

#[test]
fn fixed_addresses_survive_whichever_was_first_with_and_without_promote_secondaries() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        let agent = Agent::promotable()?.quick();
        for promote in ["0", "1"] {
            for fixed_first in [true, false] {
                println!("promote_secondaries={promote}, the fixed addresses first: {fixed_first}");
                other.cable("eth1")?;
                setting("ipv4/conf/all/promote_secondaries", "0")?;
                setting("ipv4/conf/eth1/promote_secondaries", promote)?;
                list(&["198.51.100.10/24 eth1", "198.51.100.11/24 eth1", "198.51.100.12/24 eth1"])?;
                let add_fixed = || ip("addr add 198.51.100.1/24 dev eth1\naddr add 198.51.100.2/24 dev eth1\n");
                if fixed_first {
                    add_fixed()?;
                }
                agent.succeeds(&["start", "promote"])?;
                if !fixed_first {
                    add_fixed()?;
                }
                let secondary = line_of("198.51.100.1")?.contains("secondary");
                ensure!(secondary != fixed_first, "the order of the addresses is not the one to be tested");
                let fixed = [FIXED, &["198.51.100.1/24 eth1", "198.51.100.2/24 eth1"]].concat();
                list(&["198.51.100.11/24 eth1", "198.51.100.12/24 eth1"])?;
                agent.exits(8, "monitor")?;
                holds(&fixed, &["198.51.100.11/24 eth1", "198.51.100.12/24 eth1"])?;
                agent.succeeds(&["stop"])?;
                holds(&fixed, &[])?;
                let after = fs::read_to_string("/proc/sys/net/ipv4/conf/eth1/promote_secondaries")?;
                ensure!(after.trim() == promote, "promote_secondaries was {promote} and is {after}");
                ip("link del eth1\n")?;
            }
        }
        Ok(())
    })
}

#[test]
fn an_interface_that_goes_between_monitor_and_stop_takes_nothing_but_its_addresses_along() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        let agent = Agent::promotable()?.quick();
        for action in ["demote", "stop"] {
            other.cable("eth1")?;
            list(&["192.0.2.10/24", "198.51.100.10/24 eth1", "2001:db8:1::10/64 eth1"])?;
            agent.succeeds(&["start", "promote"])?;
            agent.exits(8, "monitor")?;
            ip("link del eth1\n")?;
            agent.exits(0, action)?.without_reason()?;
            holds(FIXED, &[])?;
        }
        agent.exits(7, "monitor")?;
        agent.exits(1, "start")?.says(&["this node does not have the interface", "198.51.100.10/24 on eth1"])?;
        Ok(())
    })
}

#[test]
fn routes_that_went_before_a_stop_hinder_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        for action in ["demote", "stop"] {
            agent.succeeds(&["start", "promote"])?;
            for family in ["-4", "-6"] {
                command(["ip", family, "route", "flush", "table", "main"]).text()?;
            }
            agent.succeeds(&[action])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn a_missing_state_directory_is_made_and_one_that_cannot_be_written_leaves_no_address() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.quick();
        fs::remove_dir_all("/run/resource-agents")?;
        agent.succeeds(&["stop", "start", "promote"])?;
        holds(FIXED, UP)?;
        fs::remove_dir_all("/run/resource-agents")?;
        agent.succeeds(&["stop"])?;
        holds(FIXED, &[])?;
        agent.succeeds(&["start", "promote"])?;
        command(["mount", "-o", "remount,ro", "/run"]).text()?;
        // A record that stays behind would make the next monitor bring the addresses back: that is no stop.
        agent.exits(1, "stop")?.says(&["cannot remove the state file", STATE_FILE, "Read-only file system"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn what_the_kernel_refuses_is_said_in_its_words_and_none_of_the_addresses_stays() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        setting("ipv6/conf/eth1/disable_ipv6", "1")?;
        list(&["192.0.2.10/24", "2001:db8::10/64", "2001:db8:1::10/64 eth1", "2001:db8:1::11/64 eth1"])?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start"])?;
        let words = ["the kernel refused 2 of 4 addresses, the first of them 2001:db8:1::10/64", "IPv6 is disabled"];
        agent.exits(1, "promote")?.says(&words)?;
        holds(FIXED, &[])?;
        agent.exits(0, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn a_promote_whose_duplicate_check_takes_too_long_says_so_in_time_and_takes_everything_back() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        setting("ipv6/conf/eth0/dad_transmits", "60")?;
        let agent = Agent::promotable()?.within(Duration::from_secs(3));
        agent.succeeds(&["start"])?;
        let began = Instant::now();
        let words = ["duplicate address detection of 2001:db8::10, 2001:db8::11 did not end within"];
        agent.exits(1, "promote")?.says(&words)?;
        ensure!(began.elapsed() < Duration::from_secs(3), "Pacemaker would have killed it: {:?}", began.elapsed());
        holds(FIXED, &[])?;
        agent.exits(0, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn start_of_a_promotable_instance_takes_away_what_somebody_added_by_hand() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        ip("addr add 192.0.2.10/24 dev eth0\naddr add 2001:db8::10/64 dev eth0 nodad\n")?;
        let agent = Agent::promotable()?.quick();
        agent.exits(0, "start")?.logs(&["WARNING", "2 addresses were up before the start"])?;
        holds(FIXED, &[])?;
        agent.exits(0, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn ten_thousand_addresses_come_are_watched_and_go() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        ip("addr add 10.255.0.1/8 dev eth0\n")?;
        let lines = many(10_000);
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        let agent = Agent::promotable()?.set("announce_count", "1").within(Duration::from_secs(60));
        agent.succeeds(&["start"])?;
        for (action, status, count) in
            [("promote", 0, 10_003), ("monitor", 8, 10_003), ("stop", 0, 3), ("monitor", 7, 3)]
        {
            let began = Instant::now();
            agent.exits(status, action)?.without_reason()?;
            println!("{action}: {:.0?}", began.elapsed());
            ensure!(held()?.len() == count, "{action} left {} addresses instead of {count}", held()?.len());
        }
        Ok(())
    })
}
