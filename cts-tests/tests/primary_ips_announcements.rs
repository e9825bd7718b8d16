//! What the neighbours are told, and when: seen from another host of the segment.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cts_tests::addresses::{held, in_private_network, ip, list, many};
use cts_tests::agent::Agent;
use cts_tests::command::command;
use cts_tests::other_host::{Heard, OtherHost, Word, mac, text};
use cts_tests::{process, wait};
use nix::sys::signal::Signal;

const LINES: &[&str] = &["192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"];

/// Long enough for whatever the agent announces here.
const AMPLE: Duration = Duration::from_secs(20);

/// Nobody is asked for duplicates where it does not matter: it takes a seventh of a second.
fn agent() -> Result<Agent> {
    Ok(Agent::promotable()?.set("duplicate_check", "off"))
}

/// What was said of each address, in the order of time, without the questions.
fn announcements(heard: &[Heard]) -> BTreeMap<IpAddr, Vec<Word>> {
    let mut said: BTreeMap<IpAddr, Vec<Word>> = BTreeMap::new();
    for one in heard.iter().filter(|one| one.word != Word::Probe) {
        said.entry(one.address).or_default().push(one.word);
    }
    // The kernel advertises the link-local address of a link that has come up (ndisc_send_unsol_na).
    said.retain(|address, _| !address.to_string().starts_with("fe80:"));
    said
}

fn each(ipv4: &[Word], ipv6: &[Word]) -> Result<BTreeMap<IpAddr, Vec<Word>>> {
    let addresses = [("192.0.2.10", ipv4), ("192.0.2.11", ipv4), ("2001:db8::10", ipv6)];
    addresses.into_iter().map(|(address, words)| Ok((address.parse()?, words.to_vec()))).collect()
}

/// What the announcer has to do; written before it is started and removed when it is done.
const TASK: &str = "/run/resource-agents/primary-ips-ips.announce";

fn announcer_ends(agent: &Agent) -> Result<Duration> {
    let ended = || Ok(!Path::new(TASK).exists() && agent.processes("background")?.is_empty());
    wait::until("the announcer to end", AMPLE, wait::QUICK, ended)
}

/// The one announcer. (Its arguments are not there yet when the action that started it has ended.)
fn announcer(agent: &Agent) -> Result<u32> {
    let one = || Ok(agent.processes("background")?.first().copied());
    let (pid, _) = wait::until_some("an announcer", AMPLE, wait::QUICK, one)?;
    let all = agent.processes("background")?;
    ensure!(all == [pid], "there is more than one announcer: {all:?}");
    Ok(pid)
}

#[test]
fn the_first_announcement_of_each_address_is_out_before_promote_returns() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        for check in ["off", "fail"] {
            for agent in [agent()?, Agent::plain()?] {
                let agent = agent.set("announce_count", "1").set("duplicate_check", check);
                let capture = other.listen()?;
                agent.succeeds(&["start", "promote"])?;
                let said = announcements(&capture.heard()?);
                ensure!(said == each(&[Word::GratuitousRequest], &[Word::Advertisement])?, "{check}: {said:#?}");
                ensure!(!Path::new(TASK).exists(), "there is an announcer without need");
                agent.succeeds(&["stop"])?;
            }
        }
        Ok(())
    })
}

#[test]
fn announcements_are_repeated_in_both_forms_and_the_announcer_ends_by_itself() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = agent()?.set("announce_count", "4").set("announce_interval", "200ms");
        let capture = other.listen()?;
        agent.succeeds(&["start", "promote"])?;
        let first = capture.heard()?;
        ensure!(announcements(&first) == each(&[Word::GratuitousRequest], &[Word::Advertisement])?, "{first:#?}");
        announcer(&agent)?;
        announcer_ends(&agent)?;
        let heard = [first, capture.heard()?].concat();
        let forms = [Word::GratuitousRequest, Word::GratuitousReply, Word::GratuitousRequest, Word::GratuitousReply];
        let said = announcements(&heard);
        ensure!(said == each(&forms, &[Word::Advertisement; 4])?, "{said:#?}");
        let address: IpAddr = "192.0.2.10".parse()?;
        let times: Vec<_> = heard.iter().filter(|one| one.address == address).map(|one| one.at).collect();
        for pair in times.windows(2) {
            let apart = pair[1].saturating_sub(pair[0]);
            ensure!(apart > Duration::from_millis(150) && apart < Duration::from_secs(2), "{apart:?} apart: {times:?}");
        }
        agent.exits(8, "monitor")?.without_reason()?;
        Ok(())
    })
}

#[test]
fn demote_and_stop_end_the_announcer_and_nothing_is_announced_afterwards() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = agent()?.set("announce_count", "100").set("announce_interval", "20ms");
        for action in ["demote", "stop"] {
            for suspended in [false, true] {
                agent.succeeds(&["start", "promote"])?;
                let capture = other.listen()?;
                wait::until("announcements", AMPLE, wait::QUICK, || Ok(!announcements(&capture.heard()?).is_empty()))?;
                let announcer = announcer(&agent)?;
                if suspended {
                    process::signal(announcer, Signal::SIGSTOP)?;
                }
                agent.exits(0, action)?.without_reason()?;
                let capture = other.listen()?;
                ensure!(agent.processes("background")?.is_empty(), "the announcer lives on after {action}");
                thread::sleep(Duration::from_millis(100));
                let said = announcements(&capture.heard()?);
                ensure!(said.is_empty(), "announced after {action}: {said:#?}");
            }
        }
        Ok(())
    })
}

#[test]
fn the_announcer_is_out_of_reach_of_the_signal_that_ends_the_actions_process_group() -> Result<()> {
    in_private_network(|| {
        let _other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = agent()?.set("announce_count", "100").set("announce_interval", "1s");
        agent.succeeds(&["start", "promote"])?;
        let pid = announcer(&agent)?;
        // proc_pid_stat(5): behind the name in parentheses come state, parent, process group and session.
        let own_session = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            Ok(fields[2] == pid.to_string() && fields[3] == pid.to_string())
        };
        wait::until("a session of the announcer's own", AMPLE, wait::QUICK, own_session)?;
        for name in ["0", "1", "2"] {
            let target = fs::read_link(format!("/proc/{pid}/fd/{name}"))?;
            ensure!(target == Path::new("/dev/null"), "the announcer holds {} open", target.display());
        }
        agent.succeeds(&["stop"])
    })
}

#[test]
fn the_rate_holds_back_the_first_announcement() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        ip("addr add 10.255.0.1/8 dev eth0\n")?;
        let lines = many(300);
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        for (rate, least, most) in [("1000", 250, 1500), ("100000", 0, 150)] {
            let agent = agent()?.set("announce_count", "1").set("announce_rate", rate);
            agent.succeeds(&["start"])?;
            let capture = other.listen()?;
            agent.succeeds(&["promote"])?;
            let heard = capture.heard()?;
            let times: Vec<_> =
                heard.iter().filter(|one| one.word == Word::GratuitousRequest).map(|one| one.at).collect();
            ensure!(times.len() == 300, "{} of 300 addresses were announced", times.len());
            let took = times[299].saturating_sub(times[0]);
            println!("300 announcements at {rate} a second took {took:.0?}");
            let allowed = Duration::from_millis(least)..Duration::from_millis(most);
            ensure!(allowed.contains(&took), "300 announcements at {rate} a second took {took:?}");
            agent.succeeds(&["stop"])?;
        }
        Ok(())
    })
}

#[test]
fn repeated_announcements_are_spread_over_the_interval() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        ip("addr add 10.255.0.1/8 dev eth0\n")?;
        let lines = many(300);
        list(&lines.iter().map(String::as_str).collect::<Vec<_>>())?;
        let agent = agent()?.set("announce_count", "2").set("announce_interval", "500ms");
        let capture = other.listen()?;
        agent.succeeds(&["start", "promote"])?;
        announcer_ends(&agent)?;
        let heard = capture.heard()?;
        let times: Vec<_> = heard.iter().filter(|one| one.word == Word::GratuitousReply).map(|one| one.at).collect();
        ensure!(times.len() == 300, "{} of 300 addresses were announced again", times.len());
        let took = times[299].saturating_sub(times[0]);
        ensure!(took > Duration::from_millis(350) && took < Duration::from_secs(3), "the second round took {took:?}");
        Ok(())
    })
}

#[test]
fn an_edit_announces_what_it_brings_and_nothing_else() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = agent()?.set("announce_count", "2").set("announce_interval", "100ms");
        agent.succeeds(&["start", "promote"])?;
        announcer_ends(&agent)?;
        list(&["192.0.2.10/24", "192.0.2.12/24", "2001:db8::10/64"])?;
        let capture = other.listen()?;
        agent.exits(8, "monitor")?.without_reason()?;
        announcer_ends(&agent)?;
        let said = announcements(&capture.heard()?);
        let expected = [("192.0.2.12".parse()?, vec![Word::GratuitousRequest, Word::GratuitousReply])];
        ensure!(said == BTreeMap::from(expected), "{said:#?}");
        for action in ["monitor", "promote", "reload"] {
            agent.run(action)?;
        }
        let said = announcements(&capture.heard()?);
        ensure!(said.is_empty(), "what had not changed was announced: {said:#?}");
        Ok(())
    })
}

#[test]
fn what_a_promote_had_not_finished_announcing_is_still_announced_after_an_edit() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = agent()?.set("announce_count", "3").set("announce_interval", "300ms");
        agent.succeeds(&["start", "promote"])?;
        let capture = other.listen()?;
        list(&["192.0.2.10/24", "192.0.2.12/24"])?;
        agent.exits(8, "monitor")?.without_reason()?;
        announcer_ends(&agent)?;
        let said = announcements(&capture.heard()?);
        let announced: Vec<String> = said.keys().map(ToString::to_string).collect();
        // What left the file is not announced any more.
        ensure!(announced == ["192.0.2.10", "192.0.2.12"], "{said:#?}");
        Ok(())
    })
}

#[test]
fn with_announce_count_0_nothing_is_said() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        let agent = agent()?.set("announce_count", "0");
        let capture = other.listen()?;
        agent.succeeds(&["start", "promote"])?;
        ensure!(!Path::new(TASK).exists(), "there is an announcer with nothing to announce");
        let said = announcements(&capture.heard()?);
        ensure!(said.is_empty(), "{said:#?}");
        ensure!(held()?.len() == 5);
        Ok(())
    })
}

#[test]
fn a_neighbour_that_knew_another_owner_learns_the_new_one() -> Result<()> {
    in_private_network(|| {
        let other = OtherHost::on_a_segment()?;
        list(LINES)?;
        // Linux heeds gratuitous ARP for entries older than locktime only (ip-sysctl: a second by default).
        other.run(|| Ok(fs::write("/proc/sys/net/ipv4/neigh/eth0/locktime", "0")?))?;
        for address in ["192.0.2.10", "2001:db8::10"] {
            other.ip(&format!("neigh replace {address} lladdr 02:77:00:00:00:99 dev eth0 nud reachable\n"))?;
        }
        let agent = agent()?.set("announce_count", "1");
        agent.succeeds(&["start", "promote"])?;
        let began = Instant::now();
        for address in ["192.0.2.10", "2001:db8::10"] {
            let entry = command(["ip", "-n", "other", "neigh", "show", address]).text()?;
            ensure!(entry.contains(&text(mac("eth0", 1))), "{:?} after promote: {entry}", began.elapsed());
        }
        Ok(())
    })
}
