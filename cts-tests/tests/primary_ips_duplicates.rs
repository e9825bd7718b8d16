//! Other hosts that have the addresses: asked for before anything is claimed, named by their hardware address.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cts_tests::address_watch::AddressWatch;
use cts_tests::addresses::{STATE_FILE, deleted, holds, in_private_network, ip, line_of, list, many, setting};
use cts_tests::agent::Agent;
use cts_tests::other_host::{Capture, FIXED, Heard, OtherHost, Word, mac, text};
use cts_tests::wait;

const LINES: &[&str] = &["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64", "2001:db8::11/64"];
const UP: &[&str] = &["192.0.2.10/24 eth0", "192.0.2.11/24 eth0", "2001:db8::10/64 eth0", "2001:db8::11/64 eth0"];

const TAKEN: &[&str] = &["192.0.2.11", "2001:db8::11"];

fn take(other: &OtherHost, address: &str, verb: &str) -> Result<()> {
    let (prefix, nodad) = if address.contains(':') { ("64", " nodad") } else { ("24", "") };
    other.ip(&format!("addr {verb} {address}/{prefix} dev eth0{}\n", if verb == "add" { nodad } else { "" }))
}

fn count(heard: &[Heard], address: &str, word: Word) -> Result<usize> {
    let address: IpAddr = address.parse()?;
    Ok(heard.iter().filter(|one| one.address == address && one.word == word).count())
}

#[test]
fn with_fail_another_host_is_named_by_its_hardware_address_and_none_of_the_addresses_is_added() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let promotable = Agent::promotable()?;
        promotable.succeeds(&["start"])?;
        let hardware = text(mac("eth0", 2));
        for taken in TAKEN {
            take(&other, taken, "add")?;
            let capture = other.listen()?;
            let (watch, began) = (AddressWatch::here()?, Instant::now());
            let says = [format!("{taken} is in use by {hardware} on eth0"), "no address is added".to_owned()];
            let says = [says[0].as_str(), says[1].as_str()];
            promotable.exits(1, "promote")?.says(&says)?;
            promotable.exits(0, "monitor")?.without_reason()?;
            let gone = deleted(&watch, began)?;
            ensure!(gone.is_empty(), "addresses came and went: {gone:?}");
            let heard = capture.heard()?;
            ensure!(heard.iter().all(|one| one.word == Word::Probe), "somebody was told something: {heard:#?}");
            take(&other, taken, "del")?;
        }
        promotable.succeeds(&["promote"])?;
        holds(FIXED, UP)
    })
}

#[test]
fn a_plain_resource_that_met_another_host_at_its_start_is_stopped() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::plain()?;
        for taken in TAKEN {
            take(&other, taken, "add")?;
            agent.exits(1, "start")?.says(&[taken, &text(mac("eth0", 2))])?;
            holds(FIXED, &[])?;
            agent.exits(7, "monitor")?.without_reason()?;
            ensure!(!std::path::Path::new(STATE_FILE).exists(), "a stopped instance has a record");
            take(&other, taken, "del")?;
        }
        Ok(())
    })
}

#[test]
fn an_edit_that_brings_an_address_of_another_host_is_not_followed_and_names_it() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        for taken in TAKEN {
            take(&other, taken, "add")?;
            list(&["192.0.2.10/24", "2001:db8::10/64"])?;
            let agent = Agent::promotable()?.set("announce_count", "1");
            agent.succeeds(&["start", "promote"])?;
            let prefix = if taken.contains(':') { 64 } else { 24 };
            list(&["192.0.2.12/24", "2001:db8::10/64", &format!("{taken}/{prefix}")])?;
            for _ in 0..2 {
                let words = ["the list has changed", taken, "is in use by", &text(mac("eth0", 2))];
                agent.exits(191, "monitor")?.says(&words)?;
                holds(FIXED, &["192.0.2.10/24 eth0", "2001:db8::10/64 eth0"])?;
            }
            agent.exits(1, "reload")?.says(&[taken, "is in use by"])?;
            holds(FIXED, &["192.0.2.10/24 eth0", "2001:db8::10/64 eth0"])?;
            take(&other, taken, "del")?;
            agent.exits(8, "monitor")?.without_reason()?;
            holds(FIXED, &["192.0.2.12/24 eth0", "2001:db8::10/64 eth0", &format!("{taken}/{prefix} eth0")])?;
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}

#[test]
fn with_warn_another_host_is_logged_and_the_addresses_are_added_all_the_same() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = Agent::promotable()?.set("duplicate_check", "warn").set("announce_count", "1");
        agent.succeeds(&["start"])?;
        take(&other, "192.0.2.11", "add")?;
        let words = ["WARNING", "192.0.2.11 is in use by", "02:77:00:00:30:02", "added all the same"];
        agent.exits(0, "promote")?.without_reason()?.logs(&words)?;
        holds(FIXED, UP)?;
        agent.exits(8, "monitor")?.without_reason()?;
        agent.succeeds(&["demote"])?;
        holds(FIXED, &[])
    })
}

#[test]
fn with_off_nobody_is_asked_and_with_fail_everybody_is_asked_twice() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        for (check, ipv4, ipv6) in [("off", 0, 0), ("fail", 2, 3)] {
            let agent = Agent::promotable()?.set("duplicate_check", check).set("announce_count", "1");
            agent.succeeds(&["start"])?;
            let capture = other.listen()?;
            agent.succeeds(&["promote"])?;
            let heard = capture.heard()?;
            // Of IPv6 addresses the kernel asks once more itself (dad_transmits).
            for (address, expected) in
                ["192.0.2.10", "192.0.2.11", "2001:db8::10", "2001:db8::11"].into_iter().zip([ipv4, ipv4, ipv6, ipv6])
            {
                let asked = count(&heard, address, Word::Probe)?;
                ensure!(
                    asked == expected,
                    "duplicate_check={check}: {address} was asked for {asked} times: {heard:#?}"
                );
            }
            holds(FIXED, UP)?;
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}

/// Lets the other host take an address as soon as `moment` has come.
fn take_when(other: &OtherHost, address: &str, moment: impl Fn() -> Result<bool>) -> Result<()> {
    wait::until("the moment to take the address", Duration::from_secs(10), Duration::from_micros(200), moment)?;
    take(other, address, "add")
}

#[test]
fn a_host_that_answers_the_second_question_only_is_heard() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        ip("addr add 10.255.0.1/8 dev eth0\n")?;
        let fixed = [FIXED, &["10.255.0.1/8 eth0"]].concat();
        // So many that there is time between the two questions for one of them.
        let lines = many(4000);
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        let agent = Agent::promotable()?;
        agent.succeeds(&["start"])?;
        let capture = other.listen()?;
        let taken = "10.0.0.2";
        let asked = |capture: &Capture| Ok(count(&capture.heard()?, taken, Word::Probe)? > 0);
        let answer = thread::scope(|scope| -> Result<_> {
            let late = scope.spawn(|| -> Result<()> {
                wait::until("a question", Duration::from_secs(10), Duration::from_micros(200), || asked(&capture))?;
                other.ip(&format!("addr add {taken}/8 dev eth0\n"))
            });
            let answer = agent.exits(1, "promote")?;
            late.join().ok().context("the other host panicked")??;
            Ok(answer)
        })?;
        answer.says(&[&format!("{taken} is in use by {}", text(mac("eth0", 2)))])?;
        holds(&fixed, &[])
    })
}

#[test]
fn a_host_that_turns_up_during_the_kernels_own_detection_is_heard_and_everything_is_taken_back() -> Result<()> {
    in_private_network(|| {
        let other = &OtherHost::on_a_segment()?;
        list(LINES)?;
        // Three questions of the kernel instead of one, so that the host has time to turn up between them.
        setting("ipv6/conf/eth0/dad_transmits", "3")?;
        for (check, status) in [("fail", 1), ("warn", 0)] {
            let agent = Agent::promotable()?.set("duplicate_check", check).set("announce_count", "1");
            agent.succeeds(&["start"])?;
            let answer = thread::scope(|scope| -> Result<_> {
                let tentative = || Ok(line_of("2001:db8::11").is_ok_and(|line| line.contains("tentative")));
                let late = scope.spawn(move || take_when(other, "2001:db8::11", tentative));
                let answer = agent.exits(status, "promote")?;
                late.join().ok().context("the other host panicked")??;
                Ok(answer)
            })?;
            if check == "fail" {
                answer.says(&["the kernel found another host with 2001:db8::11", "no address is added"])?;
                holds(FIXED, &[])?;
                agent.exits(0, "monitor")?.without_reason()?;
            } else {
                answer.without_reason()?.logs(&["WARNING", "another host with 2001:db8::11"])?;
                holds(FIXED, UP)?;
            }
            agent.succeeds(&["stop"])?;
            holds(FIXED, &[])?;
            take(other, "2001:db8::11", "del")?;
        }
        Ok(())
    })
}

#[test]
fn twenty_ipv6_addresses_are_checked_at_the_same_time() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        let trace = "/run/trace";
        let agent = Agent::promotable()?.set("announce_count", "1").set("trace_ra", "1").set("trace_file", trace);
        let mut took = Vec::new();
        for number in [1, 20] {
            let lines: Vec<String> = (1..=number).map(|last| format!("2001:db8::7:{last:x}/64")).collect();
            list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
            agent.succeeds(&["start"])?;
            let began = Instant::now();
            agent.succeeds(&["promote"])?;
            took.push(began.elapsed());
            for line in &lines {
                let line = line_of(line.trim_end_matches("/64"))?;
                ensure!(!line.contains("tentative"), "promote returned before {line}");
            }
            agent.succeeds(&["stop"])?;
        }
        println!("one took {:.1?}, twenty took {:.1?}", took[0], took[1]);
        let steps = std::fs::read_to_string(trace)?;
        ensure!(steps.matches("duplicate address detection of 20 addresses ended").count() == 1, "{steps}");
        // The kernel waits a random part of a second before it asks, and a second for answers (RFC 4862, 5.4.2).
        ensure!(took[1] < took[0] * 3, "one took {:?}, twenty took {:?}", took[0], took[1]);
        Ok(())
    })
}

#[test]
fn a_second_interface_of_this_node_on_the_same_segment_is_no_other_host() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        other.cable("eth1")?;
        other.ip("link add br0 type bridge stp_state 0 forward_delay 0\nlink set eth0 master br0\n\
                  link set eth1 master br0\nlink set br0 up\n")?;
        list(&["192.0.2.10/24 eth0", "192.0.2.11/24 eth1", "2001:db8::10/64 eth1"])?;
        let agent = Agent::promotable()?.env("OCF_CHECK_LEVEL", "10");
        agent.succeeds(&["start", "promote"])?;
        // Linux answers over each interface for the addresses of all (arp_ignore=0).
        agent.exits(8, "monitor")?.without_reason()?;
        holds(FIXED, &["192.0.2.10/24 eth0", "192.0.2.11/24 eth1", "2001:db8::10/64 eth1"])?;
        ip("addr del 192.0.2.11/24 dev eth1\naddr add 192.0.2.11/24 dev eth0\n")?;
        agent.exits(191, "monitor")?.says(&["192.0.2.11/24 on eth0", "put right"])?;
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}
