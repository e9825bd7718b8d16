//! `hvmail_ha ips push`: this node's file to the other nodes, and nothing else moves.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use ocf::Deadline;

use super::check::{Verdict, verdict};
use super::listed::{LARGEST, List, bytes};
use super::site::Site;
use super::ssh::{self, Fetched};
use crate::make::{DONE, REFUSED, UNKNOWN, say};

/// Between two looks at what the agents tell.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Of lines that would be lost, so many are shown.
const SHOWN: usize = 50;

/// What is to be done about a node.
#[derive(Debug)]
struct Target {
    node: String,
    /// The file that is there.
    before: Option<Fetched>,
}

pub(crate) fn push(replace: bool, patience: Duration, wanted: Option<&str>) -> Result<u8> {
    let mut site = Site::take(wanted)?;
    let path = site.path().to_owned();
    match verdict(&site, &path) {
        Verdict::Valid => {}
        Verdict::Wrong(why) => return Ok(say(&format!("{why}\nnothing was copied: mend the file first"), REFUSED)),
        Verdict::Unknown(why) => {
            return Ok(say(&format!("{path} was not checked: {why}\nnothing was copied"), UNKNOWN));
        }
    }
    let content = bytes(Path::new(&path), LARGEST)?;
    let list = List::of(&content);
    let online: Vec<_> = site.others.iter().filter(|other| other.online).map(|other| other.name.clone()).collect();
    if online.is_empty() {
        let why =
            if site.unseen.is_empty() { "no other node is in the cluster".to_owned() } else { site.unseen.join("; ") };
        bail!("{why}; nothing was copied: push again when the other node is there");
    }
    let Some(targets) = look(&path, &list, online, replace) else { return Ok(REFUSED) };
    let mut done = true;
    for target in &targets {
        done &= copy(&path, &content, target);
    }
    if !done {
        return Ok(REFUSED);
    }
    let absent: Vec<_> = site.others.iter().filter(|other| !other.online).map(|other| other.name.clone()).collect();
    let taken_up = take_up(&mut site, &targets, &list.digest, patience)?;
    if absent.is_empty() {
        return Ok(taken_up);
    }
    let what = format!("not in the cluster, and without the file: {}; push again when it is back", absent.join(", "));
    Ok(say(&what, taken_up.max(REFUSED)))
}

/// Looks at the file of every node before one is touched. None if something is in the way, which it says.
fn look(path: &str, list: &List, online: Vec<String>, replace: bool) -> Option<Vec<Target>> {
    let mut targets = Vec::new();
    let (mut reached, mut kept) = (true, true);
    for node in online {
        match ssh::fetch(&node, path) {
            Err(error) => {
                say(&format!("{node}: {error:#}\n  {}", by_hand(path, &node)), REFUSED);
                reached = false;
            }
            Ok(before) => {
                let theirs = before.as_ref().map(|file| List::of(file.content.as_bytes())).unwrap_or_default();
                let gone = lost(&theirs, list);
                if !gone.is_empty() {
                    say(&format!("in {path} of {node} and not in this one:\n{}", indented(&gone)), DONE);
                    kept = replace;
                }
                targets.push(Target { node, before });
            }
        }
    }
    let fit = reached && kept;
    if !fit {
        let or = if kept { "" } else { "; --replace copies though these lines are lost" };
        say(&format!("nothing was copied{or}"), REFUSED);
    }
    fit.then_some(targets)
}

fn by_hand(path: &str, node: &str) -> String {
    format!(
        "make `ssh {node} true` work for root without a question, or copy it by other means: scp {path} {node}:{path}"
    )
}

/// The lines of `theirs` that `ours` has not.
fn lost(theirs: &List, ours: &List) -> Vec<String> {
    theirs.lines.difference(&ours.lines).cloned().collect()
}

fn indented(lines: &[String]) -> String {
    let clean = |line: &String| line.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let mut all: Vec<_> = lines.iter().take(SHOWN).map(|line| format!("  {}", clean(line))).collect();
    if let Some(more @ 1..) = lines.len().checked_sub(SHOWN) {
        all.push(format!("  and {more} more"));
    }
    all.join("\n")
}

fn copy(path: &str, content: &[u8], target: &Target) -> bool {
    let node = &target.node;
    let before = target.before.as_ref().map_or(ssh::NONE, |file| &file.digest);
    match ssh::digest(content) {
        Ok(digest) if digest == before => {
            say(&format!("{node}: has this file already"), DONE);
            true
        }
        _ => match ssh::put(node, path, content, before) {
            Ok(()) => {
                let kept =
                    if target.before.is_some() { format!("; the one before is {path}.bak") } else { String::new() };
                say(&format!("{node}: {path} is in place{kept}"), DONE);
                true
            }
            Err(error) => {
                say(&format!("{node}: {error:#}\n  {}", by_hand(path, node)), REFUSED);
                false
            }
        },
    }
}

/// Waits until the agents go by the list: their monitors take it up by themselves.
fn take_up(site: &mut Site, targets: &[Target], digest: &str, patience: Duration) -> Result<u8> {
    if !site.is_configured() {
        return Ok(say(&format!("nobody goes by the file yet: {}", site.unseen.join("; ")), DONE));
    }
    let nodes: Vec<_> = targets.iter().map(|target| target.node.clone()).chain([site.here.clone()]).collect();
    let deadline = Deadline::after(patience);
    loop {
        let asked = site.ask_again();
        let behind: Vec<_> = nodes.iter().filter(|node| site.told(node).as_deref() != Some(digest)).cloned().collect();
        if asked.is_ok() && behind.is_empty() {
            return Ok(say(&taken_up(site, &nodes, digest), DONE));
        }
        if !deadline.sleep(LOOK_AGAIN) {
            asked?;
            let what = format!(
                "the file is in place, and not taken up within {} s on {}: hvmail_ha ips, or hvmail_ha status, there says why",
                patience.as_secs(),
                behind.join(", ")
            );
            return Ok(say(&what, REFUSED));
        }
    }
}

fn taken_up(site: &Site, nodes: &[String], digest: &str) -> String {
    let count = digest.split(':').next().unwrap_or_default();
    let what = format!("{} go by the same {count} addresses", nodes.join(" and "));
    match site.resource.parameter("apply_changes") {
        Some("reload") => format!("{what}, and have them up after the next reload (apply_changes=reload)"),
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_would_be_lost_are_those_that_say_something() {
        let ours = List::of(b"192.0.2.1/24\n192.0.2.2/24\n");
        let lost = |theirs: &str| lost(&List::of(theirs.as_bytes()), &ours);
        assert!(lost("# remark\n\n  192.0.2.2/24 # x\n").is_empty());
        assert_eq!(
            lost("192.0.2.2/25\n192.0.2.1/24\n192.0.2.9/24 eth0\nx\n"),
            ["192.0.2.2/25", "192.0.2.9/24 eth0", "x"]
        );
    }

    #[test]
    fn what_is_shown_is_bounded_and_clean() {
        let lines: Vec<_> = (0..60).map(|line| format!("\x1b[2J{line}")).collect();
        let text = indented(&lines);
        assert!(text.ends_with("  and 10 more") && !text.contains('\x1b'), "{text}");
    }
}
