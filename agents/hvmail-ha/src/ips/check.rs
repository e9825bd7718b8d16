//! `hvmail_ha ips check FILE`: whether the agent would take a file, and what it would change.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};

use super::listed::{List, changes};
use super::site::Site;
use crate::agents;
use crate::cib::Resource;
use crate::make::{DONE, REFUSED, UNKNOWN, say};

/// What the agent on this node says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Valid,
    /// Its reason.
    Wrong(String),
    /// It could not be asked.
    Unknown(String),
}

/// Asks the agent whether it would go by the file.
pub(crate) fn verdict(site: &Site, path: &str) -> Verdict {
    let mut resource: Resource = site.resource.clone();
    resource.parameters.retain(|(name, _)| name != "ip_file");
    resource.parameters.push(("ip_file".to_owned(), path.to_owned()));
    // Only from level 10 on does it look at more than its parameters (OCF 1.1, OCF_CHECK_LEVEL).
    match agents::act(&resource, &site.here, "validate-all", &[("OCF_CHECK_LEVEL", "10")]) {
        Some(word) if word.status == Some(0) => Verdict::Valid,
        // Its remedy is for a file that is in use.
        Some(word) if word.status.is_some() => {
            Verdict::Wrong(word.text.split("; mend it, then: crm_resource").next().unwrap_or_default().to_owned())
        }
        Some(word) => Verdict::Unknown(word.text),
        None => Verdict::Unknown("ocf:greenarrow:primary-ips was not asked".to_owned()),
    }
}

pub(crate) fn check(file: &Path, wanted: Option<&str>) -> Result<u8> {
    let path = std::path::absolute(file).with_context(|| format!("{:?} is no path of a file", file.display()))?;
    let path = path.to_str().context("the path of the file is not text: the agent could not be given it")?;
    let site = Site::take(wanted)?;
    let new = List::read(Path::new(path));
    let old = List::read(Path::new(site.path()));
    let verdict = verdict(&site, path);
    let (mut text, status) = report(path, &verdict, new.as_ref().ok());
    if status == DONE && path != site.path() {
        let compared = match (&new, old) {
            (Ok(new), Ok(old)) => difference(site.path(), new, &old),
            (_, Err(error)) => format!("it is compared with nothing: {error:#}\n"),
            (Err(error), _) => format!("it is not compared: {error:#}\n"),
        };
        text.push_str(&compared);
    }
    if !site.is_configured() {
        let _ = writeln!(text, "checked with the agent's defaults: {}", site.unseen.join("; "));
    }
    Ok(say(text.trim_end(), status))
}

fn report(path: &str, verdict: &Verdict, list: Option<&List>) -> (String, u8) {
    let count = list.map_or(0, |list| list.entries.len());
    match verdict {
        Verdict::Valid => (format!("valid: {path} lists {count} addresses\n"), DONE),
        Verdict::Unknown(why) => (format!("not known whether {path} is valid: {why}\n"), UNKNOWN),
        Verdict::Wrong(why) => {
            let first = format!("wrong: {why}");
            let more = list.into_iter().flat_map(|list| list.unnamed.clone());
            (lines([first].into_iter().chain(more)), REFUSED)
        }
    }
}

fn difference(path: &str, new: &List, old: &List) -> String {
    let changes = changes(old, new);
    if changes.is_empty() {
        return format!("the same addresses as in {path}\n");
    }
    let count = |word: &str| changes.iter().filter(|line| line.starts_with(word)).count();
    let counts = format!("{} added, {} removed, {} changed", count("added"), count("removed"), count("changed"));
    let first = format!("against {path}: {counts}");
    lines([first].into_iter().chain(changes.into_iter().map(|line| format!("  {line}"))))
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_file_is_told_with_every_wrong_line() {
        let text = (0..7).map(|line| format!("x{line}")).collect::<Vec<_>>().join("\n");
        let list = List::of(text.as_bytes());
        let (said, status) = report("/new", &Verdict::Wrong("/new: line 1".to_owned()), Some(&list));
        assert_eq!(status, REFUSED);
        assert!(said.starts_with("wrong: /new: line 1\nline 6: \"x5\": ") && said.lines().count() == 3, "{said}");
        assert_eq!(report("/new", &Verdict::Unknown("gone".to_owned()), None).1, UNKNOWN);
        let valid = report("/new", &Verdict::Valid, Some(&List::of(b"192.0.2.1/24\n")));
        assert_eq!(valid, ("valid: /new lists 1 addresses\n".to_owned(), DONE));
    }

    #[test]
    fn what_would_change_is_counted() {
        let (new, old) = (List::of(b"192.0.2.1/24\n192.0.2.3/24\n"), List::of(b"192.0.2.1/25\n192.0.2.2/24\n"));
        let said = difference("/list", &new, &old);
        assert!(said.starts_with("against /list: 1 added, 1 removed, 1 changed\n  changed  192.0.2.1/24"), "{said}");
        assert_eq!(difference("/list", &new, &new), "the same addresses as in /list\n");
    }
}
