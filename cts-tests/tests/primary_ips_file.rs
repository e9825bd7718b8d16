//! The list of addresses: what is refused and how that is said, what is understood, and what an edit of it does.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::address_watch::AddressWatch;
use cts_tests::addresses::{IP_FILE, deleted, held, holds, in_private_network, ip, list, many};
use cts_tests::agent::Agent;
use cts_tests::other_host::{FIXED, OtherHost};
use nix::sys::stat::Mode;

type Damage = fn() -> Result<()>;

/// Ways to make the file useless.
const DAMAGES: &[(&str, Damage)] = &[
    ("missing", || Ok(fs::remove_file(IP_FILE)?)),
    ("empty", || Ok(fs::write(IP_FILE, "")?)),
    ("comments only", || list(&["# nothing", ""])),
    ("a directory", || {
        fs::remove_file(IP_FILE)?;
        Ok(fs::create_dir(IP_FILE)?)
    }),
    ("a FIFO", || {
        fs::remove_file(IP_FILE)?;
        Ok(nix::unistd::mkfifo(IP_FILE, Mode::S_IRWXU)?)
    }),
    ("binary", || Ok(fs::write(IP_FILE, [0xff_u8, 0, 0xfe, b'\n', 0x80].repeat(999))?)),
    ("a link to itself", || {
        fs::remove_file(IP_FILE)?;
        Ok(std::os::unix::fs::symlink(IP_FILE, IP_FILE)?)
    }),
    ("too large", || Ok(fs::File::create(IP_FILE)?.set_len(1 << 30)?)),
];

fn clear_file() -> Result<()> {
    if fs::symlink_metadata(IP_FILE).is_ok_and(|facts| facts.is_dir()) {
        fs::remove_dir(IP_FILE)?;
    } else if fs::symlink_metadata(IP_FILE).is_ok() {
        fs::remove_file(IP_FILE)?;
    }
    Ok(())
}

#[test]
fn start_names_every_wrong_line_with_its_text_and_its_reason_and_adds_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(&[
            "192.0.2.10/24",
            "192.0.2.11",
            "# a comment",
            "192.0.2.0/24",
            "192.0.2.10/25",
            "ff02::1/64",
            "nonsense",
        ])?;
        for agent in [Agent::promotable()?, Agent::plain()?] {
            let answer = agent.quick().exits(2, "start")?;
            answer.says(&[
                "/run/primary_ips: line 2: \"192.0.2.11\": the prefix length is missing",
                "line 4: \"192.0.2.0/24\": it is the network's own address",
                "line 5: \"192.0.2.10/25\": line 1 has the same address",
                "line 6: \"ff02::1/64\": a multicast address",
                "line 7: \"nonsense\": an address with its prefix length is expected",
                "crm_resource --cleanup --resource ips",
            ])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn of_many_wrong_lines_none_is_kept_back() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let lines: Vec<String> = (10..40).map(|last| format!("192.0.2.{last}")).collect();
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        let answer =
            Agent::promotable()?.exits(2, "start")?.says(&["line 1: ", "line 5: ", "and 25 more wrong lines"])?;
        let all = (6..=30)
            .all(|line| answer.log.contains(&format!("/run/primary_ips: line {line}: \"192.0.2.{}\"", line + 9)));
        ensure!(all, "not every wrong line is in the log: {answer:#?}");
        Ok(())
    })
}

#[test]
fn a_useless_file_keeps_start_away_and_never_hinders_a_stop() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let agent = Agent::promotable()?.quick();
        for (what, damage) in DAMAGES {
            println!("the file is {what}");
            clear_file()?;
            list(&["192.0.2.10/24", "2001:db8::10/64"])?;
            agent.succeeds(&["start", "promote"])?;
            holds(FIXED, &["192.0.2.10/24 eth0", "2001:db8::10/64 eth0"])?;
            damage()?;
            agent.exits(191, "monitor")?.says(&[IP_FILE])?;
            agent.exits(0, "reload-agent")?.logs(&["ERROR", IP_FILE, "nothing was changed"])?;
            agent.exits(2, "reload")?.says(&[IP_FILE])?;
            holds(FIXED, &["192.0.2.10/24 eth0", "2001:db8::10/64 eth0"])?;
            agent.succeeds(&["demote"])?;
            agent.exits(190, "monitor")?.says(&[IP_FILE])?;
            agent.exits(2, "promote")?.says(&[IP_FILE])?;
            holds(FIXED, &[])?;
            agent.succeeds(&["stop", "stop"])?;
            agent.exits(7, "monitor")?;
            agent.exits(2, "start")?.says(&[IP_FILE, "crm_resource --cleanup --resource ips"])?;
            agent.exits(7, "monitor")?;
        }
        Ok(())
    })
}

#[test]
fn windows_line_ends_a_byte_order_mark_odd_spellings_and_no_final_newline_are_understood() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        let text = "\u{feff}# moved together\r\n192.0.2.10/24\r\n\r\n\t 192.0.2.11/24   eth1 # elsewhere\r\n\
                    2001:DB8:0:0::00A0/64\r\n2001:0db8::192.0.2.33/64\t# in mixed notation\r\n192.0.2.12/32";
        fs::write(IP_FILE, text)?;
        let agent = Agent::promotable()?.quick();
        agent.succeeds(&["start", "promote"])?;
        let expected = [
            "192.0.2.10/24 eth0",
            "192.0.2.11/24 eth1",
            "2001:db8::a0/64 eth0",
            "2001:db8::c000:221/64 eth0",
            "192.0.2.12/32 eth0",
        ];
        holds(FIXED, &expected)?;
        agent.exits(8, "monitor")?.without_reason()?;
        agent.succeeds(&["demote", "stop"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn an_address_that_corosync_is_bound_to_is_refused_and_stays_at_a_stop() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(&["192.0.2.10/24", "192.0.2.1/24", "2001:db8::1/64"])?;
        let agent = Agent::promotable()?.quick();
        let _corosync = [UdpSocket::bind("192.0.2.1:5405")?, UdpSocket::bind("[2001:db8::1]:5406")?];
        agent.exits(2, "start")?.says(&[
            "line 2: \"192.0.2.1/24\"",
            "Corosync is bound to it, port 5405",
            "line 3: \"2001:db8::1/64\"",
            "Corosync is bound to it, port 5406",
        ])?;
        agent.succeeds(&["stop"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn an_edit_that_lists_an_address_corosync_is_bound_to_is_refused_in_every_role() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let _corosync = UdpSocket::bind("192.0.2.1:5405")?;
        for (agent, actions, status) in [
            (Agent::promotable()?, &["start"][..], 190),
            (Agent::promotable()?, &["start", "promote"], 191),
            (Agent::plain()?, &["start"], 190),
        ] {
            let agent = agent.quick();
            list(&["192.0.2.10/24"])?;
            agent.succeeds(actions)?;
            let before = held()?;
            list(&["192.0.2.10/24", "192.0.2.1/24"])?;
            agent
                .exits(status, "monitor")?
                .says(&["line 2: \"192.0.2.1/24\"", "Corosync is bound to it, port 5405"])?;
            ensure!(held()? == before, "the edit was followed: {:#?}", held()?);
            // The node's own address taken away would end its membership in the cluster.
            agent.succeeds(&["demote", "stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn a_hundred_thousand_lines_are_read_in_well_under_a_second() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        ip("addr add 10.255.0.1/8 dev eth0\n")?;
        let lines = many(100_000);
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        let began = Instant::now();
        Agent::promotable()?.exits(0, "validate-all")?.without_reason()?;
        let took = began.elapsed();
        println!("100,000 lines were read, checked and placed in {took:?}");
        ensure!(took < Duration::from_secs(1), "it took {took:?}");
        Ok(())
    })
}

#[test]
fn an_edit_is_taken_up_without_touching_the_addresses_that_stay() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let before = ["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64", "2001:db8::11/64"];
        let after = ["192.0.2.12/24", "192.0.2.11/24", "2001:db8::12/64", "2001:db8::11/64"];
        let after_held = ["192.0.2.12/24 eth0", "192.0.2.11/24 eth0", "2001:db8::12/64 eth0", "2001:db8::11/64 eth0"];
        let agent = Agent::promotable()?.quick();
        for action in ["monitor", "reload", "reload-agent"] {
            list(&before)?;
            agent.succeeds(&["start", "promote"])?;
            list(&after)?;
            let watch = AddressWatch::here()?;
            let began = Instant::now();
            agent.exits(if action == "monitor" { 8 } else { 0 }, action)?.without_reason()?;
            holds(FIXED, &after_held)?;
            agent.exits(8, "monitor")?.without_reason()?;
            let mut gone: Vec<_> = deleted(&watch, began)?.iter().map(ToString::to_string).collect();
            gone.sort();
            ensure!(gone == ["192.0.2.10", "2001:db8::10"], "{action} took away {gone:?}");
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn with_apply_changes_reload_an_edit_waits_for_a_reload_and_is_reported_until_then() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        for (agent, sound, degraded) in [(Agent::promotable()?, 8, 191), (Agent::plain()?, 0, 190)] {
            let agent = agent.quick().set("apply_changes", "reload");
            list(&["192.0.2.10/24", "192.0.2.11/24"])?;
            agent.succeeds(&["start", "promote"])?;
            list(&["192.0.2.11/24", "192.0.2.12/24"])?;
            for _ in 0..2 {
                let words = ["1 new (192.0.2.12/24 on eth0)", "1 no longer in it (192.0.2.10/24 on eth0)", "reload"];
                agent.exits(degraded, "monitor")?.says(&words)?;
                holds(FIXED, &["192.0.2.10/24 eth0", "192.0.2.11/24 eth0"])?;
            }
            agent.succeeds(&["reload"])?;
            holds(FIXED, &["192.0.2.11/24 eth0", "192.0.2.12/24 eth0"])?;
            agent.exits(sound, "monitor")?.without_reason()?;
            list(&["192.0.2.13/24"])?;
            agent.exits(degraded, "monitor")?;
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
        }
        Ok(())
    })
}

#[test]
fn an_invalid_edit_changes_nothing_and_is_reported_with_file_and_line_until_it_is_mended() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        for (agent, sound, degraded) in [(Agent::promotable()?, 8, 191), (Agent::plain()?, 0, 190)] {
            let agent = agent.quick();
            list(&["192.0.2.10/24", "192.0.2.11/24"])?;
            agent.succeeds(&["start", "promote"])?;
            list(&["192.0.2.11/24", "192.0.2.12/24", "192.0.2.300/24"])?;
            let words = ["/run/primary_ips: line 3: \"192.0.2.300/24\": \"192.0.2.300\" is no IPv4 or IPv6 address"];
            for _ in 0..2 {
                agent.exits(degraded, "monitor")?.says(&words)?;
            }
            agent.exits(2, "reload")?.says(&words)?;
            holds(FIXED, &["192.0.2.10/24 eth0", "192.0.2.11/24 eth0"])?;
            list(&["192.0.2.11/24", "192.0.2.12/24"])?;
            agent.exits(sound, "monitor")?.without_reason()?;
            holds(FIXED, &["192.0.2.11/24 eth0", "192.0.2.12/24 eth0"])?;
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}

#[test]
fn an_edit_of_prefix_or_interface_moves_that_address_only() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        let agent = Agent::promotable()?.quick();
        list(&["192.0.2.10/24", "192.0.2.11/24", "192.0.2.12/24"])?;
        agent.succeeds(&["start", "promote"])?;
        list(&["192.0.2.10/25", "192.0.2.11/24 eth1", "192.0.2.12/24"])?;
        let (watch, began) = (AddressWatch::here()?, Instant::now());
        agent.exits(8, "monitor")?;
        holds(FIXED, &["192.0.2.10/25 eth0", "192.0.2.11/24 eth1", "192.0.2.12/24 eth0"])?;
        agent.exits(8, "monitor")?.without_reason()?;
        let mut gone: Vec<_> = deleted(&watch, began)?.iter().map(ToString::to_string).collect();
        gone.sort();
        ensure!(gone == ["192.0.2.10", "192.0.2.11"], "taken away: {gone:?}");
        agent.succeeds(&["stop"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn a_file_that_says_the_same_in_other_words_changes_nothing() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let agent = Agent::promotable()?.quick();
        list(&["192.0.2.10/24", "2001:db8::10/64"])?;
        agent.succeeds(&["start", "promote"])?;
        let (watch, began) = (AddressWatch::here()?, Instant::now());
        fs::write(IP_FILE, "# new order\r\n2001:DB8:0::10/64\r\n192.0.2.10/24 # the first")?;
        for _ in 0..2 {
            agent.exits(8, "monitor")?.without_reason()?;
        }
        agent.succeeds(&["reload"])?;
        let gone = deleted(&watch, began)?;
        ensure!(gone.is_empty(), "addresses were touched: {gone:?}");
        ensure!(held()?.len() == FIXED.len() + 2);
        Ok(())
    })
}
