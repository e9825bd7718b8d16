//! The picture for a person: the nodes side by side, and below them what has to be seen to.

use std::fmt::Write;

use crate::findings::{Finding, Severity, findings, overall};
use crate::picture::{Picture, Role};

/// The column of the rows' names, if none is longer.
const LABEL: usize = 11;
/// Between two columns.
const GAP: usize = 2;
/// Of nodes: narrower ones are not worth reading.
const NARROWEST: usize = 24;

/// How it is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) width: usize,
    pub(crate) colour: bool,
}

/// Paints whole lines; SGR of ECMA-48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ink {
    Plain,
    Bold,
    Red,
    Yellow,
    Green,
}

impl Style {
    fn paint(self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Plain => return text.to_owned(),
            Ink::Bold => "1",
            Ink::Red => "31",
            Ink::Yellow => "33",
            Ink::Green => "32",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A row: its name and a cell for each node.
struct Row {
    label: String,
    cells: Vec<(String, Ink)>,
}

/// The screen of `hvmail_ha status`.
pub(crate) fn screen(picture: &Picture, style: Style) -> String {
    let nodes = picture.nodes();
    let mut text = String::new();
    let rows = rows(picture, &nodes);
    let label = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0).max(LABEL);
    let columns = nodes.len().max(1);
    let room = style.width.saturating_sub(label + GAP * columns);
    let width = (room / columns).max(NARROWEST);
    for row in &rows {
        write_row(&mut text, style, label, width, row);
    }
    text.push('\n');
    for line in wrapped(&lines_about_cluster(picture), style.width) {
        let _ = writeln!(text, "{line}");
    }
    let all = findings(picture);
    for finding in &all {
        write_finding(&mut text, style, finding);
    }
    let (ink, word) = match overall(&all) {
        Severity::Ok => (Ink::Green, "ok: nothing has to be seen to".to_owned()),
        severity => {
            let count = all.len();
            let ink = if severity == Severity::Critical { Ink::Red } else { Ink::Yellow };
            (
                ink,
                format!(
                    "{}: {count} {} to be seen to",
                    severity.word(),
                    if count == 1 { "thing has" } else { "things have" }
                ),
            )
        }
    };
    let _ = writeln!(text, "\n{}", style.paint(ink, &word));
    text
}

fn rows(picture: &Picture, nodes: &[&str]) -> Vec<Row> {
    let row = |label: &str, cell: &dyn Fn(&str) -> (String, Ink)| Row {
        label: label.to_owned(),
        cells: nodes.iter().map(|node| cell(node)).collect(),
    };
    let name = |node: &str| {
        let here = if node == picture.here { " (this node)" } else { "" };
        (format!("{node}{here}"), Ink::Bold)
    };
    let mut all = vec![row("", &name), row("role", &|node| role(picture, node))];
    for resource in picture.configuration.roles() {
        let kind = resource.agent.rsplit(':').next().unwrap_or_default();
        let label = match kind {
            "postgresql" => "database",
            "primary-ips" => "addresses",
            "services" => "services",
            "drbd" => "DRBD",
            _ => &resource.id,
        };
        let shown = label == resource.id
            || picture.configuration.roles().filter(|one| one.agent == resource.agent).count() == 1;
        let label = if shown { label.to_owned() } else { format!("{label} {}", resource.id) };
        all.push(row(&label, &|node| cell(picture, &resource.id, kind, node)));
    }
    all
}

fn role(picture: &Picture, node: &str) -> (String, Ink) {
    let role = picture.role(node);
    let ink = match role {
        Role::Primary => Ink::Green,
        Role::Secondary => Ink::Plain,
        Role::Partly | Role::Inactive => Ink::Yellow,
        Role::Offline => Ink::Red,
    };
    let mut words = vec![role.word().to_owned()];
    if let Some(state) = picture.state.node(node) {
        let flags = [
            (state.unclean, "unclean"),
            (state.standby, "standby"),
            (state.maintenance || picture.state.maintenance, "maintenance"),
            (state.pending, "joining"),
            (state.shutdown, "leaving"),
        ];
        words.extend(flags.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    }
    (words.join(", "), ink)
}

fn cell(picture: &Picture, resource: &str, kind: &str, node: &str) -> (String, Ink) {
    let Some(instance) = picture.instance(resource, node) else {
        let changing = picture.state.changing(resource) && picture.role(node) != Role::Offline;
        return if changing { ("changing".to_owned(), Ink::Yellow) } else { ("-".to_owned(), Ink::Plain) };
    };
    let mut parts = vec![instance.role.to_lowercase()];
    let score = picture.state.node(node).and_then(|one| one.score(resource));
    if instance.role != "Promoted" {
        parts.push(score.map_or_else(|| "not to be promoted".to_owned(), |score| format!("score {score}")));
    }
    match kind {
        "postgresql" => parts.extend(timeline(picture, node).map(|timeline| format!("timeline {timeline}"))),
        "primary-ips" => parts.extend(listed(picture, resource, node).map(|count| format!("{count} listed"))),
        _ => {}
    }
    let flags = [(instance.failed, "FAILED"), (instance.blocked, "BLOCKED"), (!instance.managed, "unmanaged")];
    parts.extend(flags.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
    let degraded = picture.state.failures.iter().any(|one| one.resource == resource && one.node == node);
    let word = picture.word(resource).filter(|_| node == picture.here);
    let text = match word {
        Some(word) => format!("{}\n{}", parts.join(", "), word.text),
        None => parts.join(", "),
    };
    let ink = match instance {
        one if one.failed || one.blocked => Ink::Red,
        _ if degraded || word.is_some_and(|word| !word.is_sound()) => Ink::Yellow,
        _ => Ink::Plain,
    };
    (text, ink)
}

/// The timeline of a primary: `TIMELINE:LSN ANCESTOR@LSN …` is its attribute.
pub(crate) fn timeline(picture: &Picture, node: &str) -> Option<u32> {
    let (_, text) = picture.histories.iter().find(|(name, _)| name == node)?;
    text.split(':').next()?.parse().ok()
}

/// How many addresses a resource's list has on a node.
pub(crate) fn listed(picture: &Picture, resource: &str, node: &str) -> Option<u32> {
    picture.lists.iter().find(|list| list.resource == resource && list.node == node)?.count()
}

/// How many lists two nodes or more have told, and whether each is the same everywhere; None where there is none.
fn compared(picture: &Picture) -> Option<(usize, bool)> {
    let lists = picture.configuration.all_of_agent("primary-ips").filter_map(|one| {
        let mut of = picture.lists.iter().filter(|list| list.resource == one.id).map(|list| &list.told);
        let first = of.next()?;
        let rest: Vec<_> = of.collect();
        (!rest.is_empty()).then(|| rest.iter().all(|told| *told == first))
    });
    let all: Vec<_> = lists.collect();
    (!all.is_empty()).then(|| (all.len(), all.iter().all(|equal| *equal)))
}

/// Whether the lists are the same on all nodes; None when fewer than two have told theirs.
pub(crate) fn lists_equal(picture: &Picture) -> Option<bool> {
    compared(picture).map(|(_, equal)| equal)
}

fn lines_about_cluster(picture: &Picture) -> String {
    let state = &picture.state;
    let yes = |is: bool, yes: &str, no: &str| if is { yes.to_owned() } else { no.to_owned() };
    let devices: Vec<_> = state.instances.iter().filter(|one| one.agent.starts_with("stonith:")).collect();
    let started = devices.iter().filter(|one| one.role == "Started" && !one.failed).count();
    let mut parts = vec![
        yes(state.quorum, "quorum", "NO QUORUM"),
        yes(state.fencing, &format!("fencing by {started} of {} devices", devices.len()), "NO FENCING"),
    ];
    parts.extend(compared(picture).map(|(count, equal)| {
        let same =
            if count == 1 { "same list of addresses".to_owned() } else { format!("same {count} lists of addresses") };
        yes(equal, &same, "lists of addresses differ")
    }));
    if let Some(sync) = picture.configuration.of_agent("postgresql").and_then(|one| one.parameter("sync")) {
        parts.push(format!("database sync={sync}"));
    }
    if let Some(last) = state.fencings.iter().find(|one| one.status == "success") {
        parts.push(format!("last fenced: {} {}", last.target, last.at.as_deref().unwrap_or_default()));
    }
    parts.join("; ")
}

fn write_row(text: &mut String, style: Style, label: usize, width: usize, row: &Row) {
    let cells: Vec<Vec<String>> = row.cells.iter().map(|(cell, _)| wrapped(cell, width)).collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let name = if line == 0 { row.label.as_str() } else { "" };
        let mut written = format!("{name:label$}");
        for (cell, (_, ink)) in cells.iter().zip(&row.cells) {
            let part = cell.get(line).map_or("", String::as_str);
            let padding = " ".repeat(width.saturating_sub(part.chars().count()));
            let _ = write!(written, "{}{}{padding}", " ".repeat(GAP), style.paint(*ink, part));
        }
        let _ = writeln!(text, "{}", written.trim_end());
    }
}

fn write_finding(text: &mut String, style: Style, finding: &Finding) {
    let ink = if finding.severity == Severity::Critical { Ink::Red } else { Ink::Yellow };
    let node = finding.node.as_ref().map_or_else(String::new, |node| format!("{node}: "));
    let body = style.width.max(40) - LABEL;
    for (number, line) in wrapped(&format!("{node}{}", finding.what), body).iter().enumerate() {
        let label = format!("{:LABEL$}", if number == 0 { finding.severity.word() } else { "" });
        let _ = writeln!(text, "{}{line}", style.paint(ink, &label));
    }
    for line in finding.remedy.iter().flat_map(|remedy| wrapped(remedy, body - 2)) {
        let _ = writeln!(text, "{:LABEL$}  {line}", "");
    }
}

/// Lines of at most `width` characters; what comes from outside loses its control characters.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut all = Vec::new();
    for paragraph in text.split('\n') {
        let mut lines = vec![String::new()];
        for word in paragraph.split_whitespace() {
            let word: String = word.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let used = lines.last().map_or(0, |line| line.chars().count());
            let fits = used == 0 || used + 1 + word.chars().count() <= width;
            match lines.last_mut() {
                Some(line) if fits => line.extend([if used == 0 { "" } else { " " }, &word]),
                _ => lines.push(word.clone()),
            }
            while lines.last().is_some_and(|line| line.chars().count() > width) {
                let long = lines.pop().unwrap_or_default();
                let at = long.char_indices().nth(width).map_or(long.len(), |(at, _)| at);
                let (head, tail) = long.split_at(at);
                lines.extend([head.to_owned(), tail.to_owned()]);
            }
        }
        all.extend(lines);
    }
    all
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
