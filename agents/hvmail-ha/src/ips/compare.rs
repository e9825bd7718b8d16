//! What differs, and what follows from it. Nothing is read or touched here.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use super::listed::{Found, List};
use super::virtual_mtas::VirtualMtas;
use crate::make::{DONE, REFUSED, UNKNOWN};

/// Of addresses in a sentence, so many are named; the table has all.
const NAMED: usize = 5;

/// All that is compared.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The node that looks.
    pub(crate) here: String,
    pub(crate) path: String,
    /// The file on this node, or why it cannot be read.
    pub(crate) list: Result<List, String>,
    pub(crate) kernel: Result<Vec<Found>, String>,
    /// Whether the addresses are to be up on this node; None where that is not known.
    pub(crate) holder: Option<bool>,
    /// Number and digest of the list that the agent of this node goes by.
    pub(crate) told: Option<String>,
    pub(crate) peers: Vec<Peer>,
    /// What could not be asked of the cluster.
    pub(crate) unseen: Vec<String>,
    pub(crate) virtual_mtas: VirtualMtas,
}

/// Another node.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) node: String,
    pub(crate) online: bool,
    /// Number and digest of its list.
    pub(crate) told: Option<String>,
    /// Its file, or why it cannot be read; None where nobody asked.
    pub(crate) read: Option<Result<List, String>>,
}

/// What a finding means for the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Differs,
    Unknown,
    /// Worth a word, and right for all that is known.
    Note,
}

/// A sentence and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    pub(crate) what: String,
    pub(crate) remedy: String,
}

/// A column of the table.
struct Column<'of> {
    name: String,
    found: &'of [Found],
    /// Addresses of this place alone are nobody's business.
    counts: bool,
    /// Whether a listed address is to be in it; None where that is not known, or either is right.
    wanted: Option<bool>,
}

/// The text of `hvmail_ha ips`, and its exit status.
pub(crate) fn report(view: &View) -> (String, u8) {
    let findings = findings(view);
    let mut text = table(view);
    if !text.is_empty() {
        text.push('\n');
    }
    for finding in &findings {
        let word = match finding.weight {
            Weight::Differs => "differs",
            Weight::Unknown => "unknown",
            Weight::Note => "note",
        };
        let _ = writeln!(text, "{word:9}{}\n{:11}{}", finding.what, "", finding.remedy);
    }
    let count = |weight| findings.iter().filter(|one| one.weight == weight).count();
    let (last, status) = match (count(Weight::Differs), count(Weight::Unknown)) {
        (0, 0) => (format!("equal: {}", equal(view)), DONE),
        (0, some) => (format!("nothing differs that can be seen; not known: {some}"), UNKNOWN),
        (some, _) => (format!("differences: {some}"), REFUSED),
    };
    let _ = writeln!(text, "{}{last}", if text.is_empty() { "" } else { "\n" });
    (text, status)
}

fn equal(view: &View) -> String {
    let count = view.list.as_ref().map_or(0, |list| list.entries.len());
    let places = columns(view).into_iter().skip(1).filter(|one| one.wanted != Some(false)).map(|one| one.name);
    let told = view.peers.iter().filter(|peer| peer.read.is_none()).map(|peer| format!("the list of {}", peer.node));
    format!("the {count} addresses of {} and {}", view.path, places.chain(told).collect::<Vec<_>>().join(", "))
}

fn columns(view: &View) -> Vec<Column<'_>> {
    let mut all = Vec::new();
    if let Ok(list) = &view.list {
        all.push(Column { name: view.path.clone(), found: &list.entries, counts: true, wanted: Some(true) });
    }
    if let Ok(found) = &view.kernel {
        all.push(Column { name: format!("kernel of {}", view.here), found, counts: false, wanted: view.holder });
    }
    for peer in &view.peers {
        if let Some(Ok(list)) = &peer.read {
            let name = format!("file of {}", peer.node);
            all.push(Column { name, found: &list.entries, counts: true, wanted: Some(true) });
        }
    }
    if !view.virtual_mtas.found.is_empty() {
        let found = &view.virtual_mtas.found;
        all.push(Column { name: "VirtualMTAs".to_owned(), found, counts: true, wanted: Some(true) });
    }
    all
}

/// Every address that is not in all places where it should be, or not in the same form.
fn table(view: &View) -> String {
    let columns = columns(view);
    let all: BTreeSet<IpAddr> =
        columns.iter().filter(|column| column.counts).flat_map(|column| column.found).map(|one| one.address).collect();
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(columns.iter().map(|column| column.name.clone()));
    for address in all {
        let found: Vec<_> = columns.iter().map(|one| one.found.iter().find(|one| one.address == address)).collect();
        let lacking = columns.iter().zip(&found).any(|(column, found)| column.wanted == Some(found.is_none()));
        let first = found.first().copied().flatten();
        let other = |one: &&Found| first.is_some_and(|first| !same_form(first, one));
        if lacking || found.iter().flatten().any(other) {
            let cell = |found: Option<&Found>| found.map_or_else(|| "-".to_owned(), shown);
            rows.push([address.to_string()].into_iter().chain(found.into_iter().map(cell)).collect());
        }
    }
    if rows.len() == 1 { String::new() } else { aligned(&rows) }
}

fn shown(found: &Found) -> String {
    let prefix = found.prefix.map_or_else(String::new, |prefix| format!("/{prefix} "));
    let interface = found.interface.as_ref().filter(|interface| **interface != found.at);
    format!("{prefix}{}{}", found.at, interface.map_or_else(String::new, |interface| format!(", {interface}")))
}

/// A place that says nothing of prefix or interface contradicts nobody.
fn same_form(one: &Found, other: &Found) -> bool {
    let prefix = one.prefix.is_none() || other.prefix.is_none() || one.prefix == other.prefix;
    prefix && (one.interface.is_none() || other.interface.is_none() || one.interface == other.interface)
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// Everything there is to say, what differs first.
pub(crate) fn findings(view: &View) -> Vec<Finding> {
    let mut all = Vec::new();
    of_file(view, &mut all);
    if let Ok(list) = &view.list {
        of_kernel(view, list, &mut all);
        of_peers(view, list, &mut all);
        of_virtual_mtas(view, list, &mut all);
    }
    for what in &view.unseen {
        let remedy = "what depends on it is not compared; hvmail_ha status says how the cluster is".to_owned();
        all.push(Finding { weight: Weight::Unknown, what: what.clone(), remedy });
    }
    all.sort_by_key(|one| one.weight as u8);
    all
}

fn of_file(view: &View, all: &mut Vec<Finding>) {
    let path = &view.path;
    match &view.list {
        Err(error) => all.push(Finding {
            weight: Weight::Unknown,
            what: format!("{error}: there is nothing to compare with"),
            remedy: format!(
                "put the list there; on the other node: hvmail_ha ips push, or scp {path} {}:{path}",
                view.here
            ),
        }),
        Ok(list) => {
            if let Some(fault) = &list.fault {
                all.push(Finding {
                    weight: Weight::Differs,
                    what: format!("{path}: {fault}"),
                    remedy: "mend it: until then the agent goes by the list that it had before".to_owned(),
                });
            } else if let Some(told) = view.told.as_ref().filter(|told| **told != list.digest) {
                all.push(not_yet(&view.here, told));
            }
        }
    }
}

fn not_yet(node: &str, told: &str) -> Finding {
    Finding {
        weight: Weight::Differs,
        what: format!("the agent on {node} goes by another list than its file has now, with {} addresses", count(told)),
        remedy: "its next monitor takes the file up; if it does not, hvmail_ha status there says why".to_owned(),
    }
}

/// COUNT:DIGEST is what the agents tell.
fn count(told: &str) -> &str {
    told.split(':').next().unwrap_or_default()
}

fn of_kernel(view: &View, list: &List, all: &mut Vec<Finding>) {
    let (here, path) = (&view.here, &view.path);
    let kernel = match &view.kernel {
        Ok(kernel) => kernel,
        Err(error) => {
            let remedy = "compare by hand: ip -brief address".to_owned();
            return all.push(Finding { weight: Weight::Unknown, what: error.clone(), remedy });
        }
    };
    let up = |one: &&Found| kernel.iter().find(|up| up.address == one.address);
    match view.holder {
        Some(true) => {
            let down: Vec<_> = list.entries.iter().filter(|one| up(one).is_none()).collect();
            let other = |one: &&Found| up(one).is_some_and(|up| !same_form(one, up));
            let other: Vec<_> = list.entries.iter().filter(other).collect();
            if !down.is_empty() {
                all.push(Finding {
                    weight: Weight::Differs,
                    what: format!("not up on {here}, which is to have all of {path}: {}", some(&down)),
                    remedy: "the next monitor puts them up; if it does not, hvmail_ha status says why".to_owned(),
                });
            }
            if !other.is_empty() {
                all.push(Finding {
                    weight: Weight::Differs,
                    what: format!("up on {here} with another prefix or interface than in {path}: {}", some(&other)),
                    remedy: "the next monitor puts them right; if it does not, hvmail_ha status says why".to_owned(),
                });
            }
        }
        Some(false) => {
            let too_many: Vec<_> = list.entries.iter().filter(|one| up(one).is_some()).collect();
            if let Some(first) = too_many.first().and_then(up) {
                all.push(Finding {
                    weight: Weight::Differs,
                    what: format!("up on {here}, which is to have none of {path}: {}", some(&too_many)),
                    remedy: format!(
                        "take them out of what brings them up (the distribution's network files), and down: ip address \
                         del {} dev {}",
                        first.form().split(' ').next().unwrap_or_default(),
                        first.at
                    ),
                });
            }
        }
        None => {}
    }
}

fn of_peers(view: &View, list: &List, all: &mut Vec<Finding>) {
    let (here, path) = (&view.here, &view.path);
    for peer in &view.peers {
        let node = &peer.node;
        match &peer.read {
            Some(Ok(theirs)) => of_lists(view, list, node, theirs, all),
            Some(Err(error)) => all.push(Finding {
                weight: Weight::Unknown,
                what: format!("{path} of {node} was not fetched: {error}"),
                remedy: format!("make `ssh {node} true` work for root without a question; or run hvmail_ha ips there"),
            }),
            None => {}
        }
        let read = peer.read.as_ref().and_then(|read| read.as_ref().ok());
        match &peer.told {
            Some(told) if read.is_some_and(|theirs| theirs.fault.is_none() && theirs.digest != *told) => {
                all.push(not_yet(node, told));
            }
            Some(told) if read.is_none() && list.fault.is_none() && *told != list.digest => all.push(Finding {
                weight: Weight::Differs,
                what: format!(
                    "the list of {node} is another one: {} addresses, {} in {path} of {here}",
                    count(told),
                    list.entries.len()
                ),
                remedy:
                    "hvmail_ha ips --ssh shows which; hvmail_ha ips push, on the node with the right file, copies it"
                        .to_owned(),
            }),
            None if read.is_none() => {
                let what = if peer.online {
                    format!("the agent on {node} has told no list")
                } else {
                    format!("{node} is not in the cluster: nobody tells its list")
                };
                let remedy = format!("hvmail_ha ips --ssh asks {node} itself; hvmail_ha status says how it is");
                all.push(Finding { weight: Weight::Unknown, what, remedy });
            }
            _ => {}
        }
    }
}

fn of_lists(view: &View, list: &List, node: &str, theirs: &List, all: &mut Vec<Finding>) {
    let (here, path) = (&view.here, &view.path);
    if let Some(fault) = &theirs.fault {
        all.push(Finding {
            weight: Weight::Differs,
            what: format!("{path} of {node}: {fault}"),
            remedy: "mend it there, or copy the right one: hvmail_ha ips push".to_owned(),
        });
    }
    let lacks = |of: &List, other: &List| -> Vec<Found> {
        of.entries.iter().filter(|one| other.of_address(one.address).is_none()).cloned().collect()
    };
    let form = |one: &&Found| theirs.of_address(one.address).is_some_and(|other| other.form() != one.form());
    let cases = [
        (lacks(list, theirs), format!("in {path} of {here} and not of {node}"), ""),
        (lacks(theirs, list), format!("in {path} of {node} and not of {here}"), " --replace"),
        (
            list.entries.iter().filter(form).cloned().collect(),
            format!("with another prefix or interface in {path} of {node} than of {here}"),
            " --replace",
        ),
    ];
    for (found, what, option) in cases {
        if !found.is_empty() {
            all.push(Finding {
                weight: Weight::Differs,
                what: format!("{what}: {}", some(&found.iter().collect::<Vec<_>>())),
                remedy: format!("if {here} has it right: hvmail_ha ips push{option}; else push on {node}"),
            });
        }
    }
}

fn of_virtual_mtas(view: &View, list: &List, all: &mut Vec<Finding>) {
    let (mtas, path) = (&view.virtual_mtas, &view.path);
    for one in mtas.found.iter().filter(|one| list.of_address(one.address).is_none()) {
        let up = view.kernel.iter().flatten().find(|up| up.address == one.address);
        let stays = up.map_or_else(String::new, |up| format!(" (it is up on {} here, and stays)", up.at));
        all.push(Finding {
            weight: Weight::Differs,
            what: format!(
                "VirtualMTA {} sends from {}, which {path} does not list: it does not move with the Primary{stays}",
                one.at, one.address
            ),
            remedy: format!("add it to {path}, or give the VirtualMTA a listed address"),
        });
    }
    if let Some((why, named)) = &mtas.missing {
        all.push(Finding {
            weight: if *named { Weight::Unknown } else { Weight::Note },
            what: format!("no configuration of GreenArrow here: {why}"),
            remedy: "VirtualMTAs are not compared; --greenarrow-conf PATH says where it is".to_owned(),
        });
    } else if mtas.found.is_empty() {
        all.push(Finding {
            weight: Weight::Note,
            what: format!("no VirtualMTA in the files of {}", mtas.place.display()),
            remedy: "they may have been made in the web interface: compare there".to_owned(),
        });
    } else {
        let sends = |one: &&Found| mtas.found.iter().any(|mta| mta.address == one.address);
        let silent: Vec<_> = list.entries.iter().filter(|one| !sends(one)).collect();
        if !silent.is_empty() {
            all.push(Finding {
                weight: Weight::Note,
                what: format!("listed, and no VirtualMTA sends from it: {}", some(&silent)),
                remedy: "right for an address of incoming mail only; else make a VirtualMTA".to_owned(),
            });
        }
    }
    for what in &mtas.odd {
        let remedy = "look at it; --greenarrow-conf PATH reads another place".to_owned();
        all.push(Finding { weight: Weight::Note, what: what.clone(), remedy });
    }
}

fn some(found: &[&Found]) -> String {
    let mut words: Vec<_> = found.iter().take(NAMED).map(|one| one.address.to_string()).collect();
    if let Some(more @ 1..) = found.len().checked_sub(NAMED) {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
