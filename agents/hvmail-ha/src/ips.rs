//! `hvmail_ha ips`: the addresses as the file, the kernel, the other nodes and GreenArrow's configuration have them; a file
//! checked before it is copied, and copied.

mod check;
mod compare;
// The agent's own reader of the file, compiled once more: two readers would disagree one day, and a library would bring the
// agent's other dependencies along.
#[allow(dead_code, reason = "the agent needs more of it")]
#[path = "../../primary-ips/src/ip_file.rs"]
mod ip_file;
mod kernel;
pub(crate) mod listed;
mod push;
pub(crate) mod site;
mod ssh;
mod virtual_mtas;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::make::{DONE, say};
use crate::within::{PATIENCE, within};
use compare::{Peer, View};
use listed::List;
use site::Site;
use virtual_mtas::{USUAL_PLACE, VirtualMtas};

const HELP: &str = "\
Examples:
  hvmail_ha ips                    what differs, and what to do about it
  hvmail_ha ips --ssh              the same with the other node's file, line by line
  hvmail_ha ips check /root/new    is that file valid, and what would change?
  hvmail_ha ips push               this node's file to the other nodes; no failover
  hvmail_ha ips push --replace     the same though lines there are lost

Compared with the file (parameter ip_file of primary-ips): the kernel of this node, which is to have all of the
addresses if the resource is promoted here, else none; the lists of the other nodes, of which Pacemaker knows number
and digest and --ssh fetches the whole; and the VirtualMTAs in GreenArrow's configuration files (smtp_source in blocks
ip_address). VirtualMTAs that were made in the web interface are not seen. A listed address without a VirtualMTA is
shown and counts for no difference: it may be there for incoming mail only.

check asks the agent itself whether it would take the file. push does that first, writes the file beside the old one
there, which is kept as FILE.bak, moves it into place when it has arrived whole, and waits until the agents' monitors
have taken it up, --timeout=SECONDS at most. It refuses before anything is copied when a file there has lines that
this one lacks, and shows them; --replace copies nevertheless. ssh runs as root, by node name and without asking
anything: host, user and key can be set in root's ~/.ssh/config.

Exit status: 0 equal, valid, copied and taken up; 1 something differs, is wrong or was not done; 3 unknown";

const HELP_OF_CHECK: &str = "\
Examples:
  hvmail_ha ips check /root/new            would the agent take it, and what would change?
  hvmail_ha ips check /root/new && install -m 644 /root/new /etc/hvmail_primary_ips
  hvmail_ha ips check --resource ips2 /root/new2

Exit status: 0 valid; 1 it is not; 3 unknown";

const HELP_OF_PUSH: &str = "\
Examples:
  hvmail_ha ips push                       this node's file to the other nodes; no failover
  hvmail_ha ips push --replace             the same though lines there are lost
  hvmail_ha ips push --timeout=120         where monitors are far apart

Exit status: 0 copied and taken up; 1 something was not done; 3 unknown";

pub(crate) fn command() -> Command {
    let resource = Arg::new("resource")
        .long("resource")
        .value_name("ID")
        .help("Of several resources of primary-ips, each with a file of its own, this one");
    let check = Command::new("check")
        .about("Whether a file is a valid list of addresses, and what it would change")
        .after_help(HELP_OF_CHECK)
        .arg(Arg::new("file").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)).help("The file"))
        .arg(resource.clone());
    let replace = Arg::new("replace").long("replace").action(ArgAction::SetTrue);
    let push = Command::new("push")
        .about("Copies this node's file to the other nodes over ssh, and waits until it is taken up")
        .after_help(HELP_OF_PUSH)
        .arg(replace.help("Though a file there has lines that this one lacks"))
        .arg(resource.clone())
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .default_value("60")
                .value_parser(value_parser!(u64).range(1..=3600))
                .help("How long to wait for the monitors"),
        );
    Command::new("ips")
        .about("Where the addresses of the pair differ: file, kernel, other node, VirtualMTAs")
        .after_help(HELP)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .arg(Arg::new("ssh").long("ssh").action(ArgAction::SetTrue).help("Fetch the whole list of the other nodes"))
        .arg(
            Arg::new("greenarrow-conf")
                .long("greenarrow-conf")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help(format!("GreenArrow's configuration, a file or a directory; otherwise {USUAL_PLACE}")),
        )
        .arg(resource)
        .subcommand(check)
        .subcommand(push)
}

pub(crate) fn run(matches: &ArgMatches) -> Result<u8> {
    match matches.subcommand() {
        Some(("check", matches)) => {
            check::check(matches.get_one::<PathBuf>("file").map_or(Path::new(""), |path| path), resource(matches))
        }
        Some(("push", matches)) => {
            let patience = Duration::from_secs(matches.get_one("timeout").copied().unwrap_or_default());
            push::push(matches.get_flag("replace"), patience, resource(matches))
        }
        _ => compare(matches.get_flag("ssh"), matches.get_one::<PathBuf>("greenarrow-conf"), resource(matches)),
    }
}

fn resource(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("resource").map(String::as_str)
}

/// Each resource's list by itself; the gravest is the exit status.
fn compare(over_ssh: bool, configuration: Option<&PathBuf>, wanted: Option<&str>) -> Result<u8> {
    let sites = Site::all(None)?;
    let lists: Vec<_> = sites.iter().filter_map(|site| List::read(Path::new(site.path())).ok()).collect();
    let mut status = DONE;
    for site in Site::all(wanted)? {
        if sites.len() > 1 {
            say(&format!("{} ({}):", site.resource.id, site.path()), DONE);
        }
        let of_another = |address: &IpAddr| {
            let of = |list: &List| list.entries.iter().any(|one| one.address == *address);
            let own = List::read(Path::new(site.path())).is_ok_and(|list| of(&list));
            !own && lists.iter().any(of)
        };
        let mut virtual_mtas = match configuration {
            Some(place) => read(place, true),
            None => read(Path::new(USUAL_PLACE), false),
        };
        // They move with the Primary as well.
        virtual_mtas.found.retain(|one| !of_another(&one.address));
        status = status.max(compare_one(site, over_ssh, virtual_mtas));
    }
    Ok(status)
}

/// GreenArrow's file system hangs while its DRBD is suspended.
fn read(place: &Path, named: bool) -> VirtualMtas {
    let path = place.to_owned();
    within(PATIENCE, move || Ok(VirtualMtas::read(&path, named))).unwrap_or_else(|error| VirtualMtas {
        place: place.to_owned(),
        missing: Some((format!("{}: {error}", place.display()), true)),
        ..VirtualMtas::default()
    })
}

fn compare_one(site: Site, over_ssh: bool, virtual_mtas: VirtualMtas) -> u8 {
    let path = site.path();
    let view = View {
        path: path.to_owned(),
        list: List::read(Path::new(path)).map_err(|error| format!("{error:#}")),
        kernel: kernel::addresses().map_err(|error| format!("{error:#}")),
        holder: site.holder,
        told: site.told(&site.here),
        peers: site.others.iter().map(|other| peer(&site, other, over_ssh)).collect(),
        unseen: site.unseen.clone(),
        virtual_mtas,
        here: site.here,
    };
    let (text, status) = compare::report(&view);
    say(text.trim_end(), status)
}

fn peer(site: &Site, other: &site::Other, over_ssh: bool) -> Peer {
    let read = over_ssh.then(|| {
        let fetched = ssh::fetch(&other.name, site.path()).map_err(|error| format!("{error:#}"))?;
        fetched.map(|file| List::of(file.content.as_bytes())).ok_or_else(|| format!("{} is not there", site.path()))
    });
    Peer { node: other.name.clone(), online: other.online, told: site.told(&other.name), read }
}
