//! `hvmail_ha rejoin`: brings back what has gone its own way on this node, an old primary of the database or a DRBD device in a
//! split brain. What is thrown away is shown first, and has to be named.

mod consent;
mod copy;
mod database;
mod devices;
mod split_brain;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use nix::unistd::geteuid;

use crate::make::{self, DONE, REFUSED, say};
use crate::picture::Picture;
use crate::relocate::settle;
use crate::{preflight, tools};

const EXAMPLES: &str = "\
Examples:
  hvmail_ha rejoin                           show what would be thrown away, and ask
  hvmail_ha rejoin --throw-away=n1           the same without being asked, for n1 and no other node
  hvmail_ha rejoin --throw-away=n1 --by=basebackup
  hvmail_ha rejoin --throw-away=n1 --copy-to=/backup/r0.img
  hvmail_ha rejoin --throw-away=n2           a split brain, on the node whose data are kept

The database: run it on the node whose agent has refused to start the server because it has log that the primary never
got. The agent keeps that log in DATADIR.diverged, rewinds the server or takes a new base backup of the primary, and
starts it as a standby, all within the timeout of its start. Pacemaker starts it; no parameter of the resource is
changed. The permission is a file of this node that names the loss: what is left of it, should this command be killed,
permits nothing else, and nothing after a quarter of an hour.

DRBD: run it on both nodes with the same name. Where changes are thrown away the device must be Secondary. They are kept
nowhere else, so --copy-to, which copies the whole device and needs as much room, or --without-copy has to be said. The
other node connects. The command ends when the resource is connected and both have the same data, or the resync runs.

Exit status:
  0  it is as it was wanted, or there is nothing to do
  1  refused, or not agreed to: nothing was changed
  2  it was tried, and did not come about
  3  wrong usage, or what there is cannot be seen";

/// What the operator said.
#[derive(Clone, Debug)]
struct Wanted {
    /// The node whose changes are thrown away.
    victim: Option<String>,
    /// By pg_rewind or by a base backup, where it is said.
    by: Option<String>,
    copy_to: Option<PathBuf>,
    without_copy: bool,
    timeout: Duration,
}

pub(crate) fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    Command::new("rejoin")
        .about("Bring back an old primary, or end a split brain, once the loss is shown and named")
        .after_help(EXAMPLES)
        .arg(
            flag("throw-away", "The node whose changes are thrown away; without it the terminal is asked")
                .value_name("NODE"),
        )
        .arg(
            flag("by", "How the database comes back; else by what is the least")
                .value_name("WAY")
                .value_parser(["rewind", "basebackup"]),
        )
        .arg(
            flag("copy-to", "Copy the device that loses its changes to this file first")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf)),
        )
        .arg(
            flag("without-copy", "Keep no copy of the device that loses its changes")
                .action(ArgAction::SetTrue)
                .conflicts_with("copy-to"),
        )
        .arg(
            flag("timeout", "For so long it is waited for")
                .value_name("SECONDS")
                .default_value("600")
                .value_parser(value_parser!(u64).range(10..=86_400)),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<u8> {
    if !geteuid().is_root() {
        bail!("this needs root: it is run by user {}", geteuid());
    }
    let wanted = Wanted {
        victim: matches.get_one("throw-away").cloned(),
        by: matches.get_one("by").cloned(),
        copy_to: matches.get_one("copy-to").cloned(),
        without_copy: matches.get_flag("without-copy"),
        timeout: Duration::from_secs(matches.get_one("timeout").copied().unwrap_or_default()),
    };
    let _lock = make::lock()?;
    // What lies on a device comes after it.
    let parted = devices::parted()?;
    if !parted.is_empty() {
        return split_brain::resolve(&parted, &wanted);
    }
    let picture = settled(&wanted)?;
    if !picture.twice().is_empty() {
        let (fact, remedy) = (preflight::twice_fact(&picture), preflight::twice_remedy(&picture));
        return Ok(say(&format!("{fact}\n  {remedy}\nnothing was changed"), REFUSED));
    }
    match database::parted(&picture)? {
        Some(parted) => database::bring_back(&picture, &parted, &wanted),
        None => Ok(say(&format!("nothing on {} has gone its own way; nothing to do", tools::own_name()), DONE)),
    }
}

/// Looks, once the cluster has done what it is at: perhaps what an earlier command, which was killed, has asked of it.
fn settled(wanted: &Wanted) -> Result<Picture> {
    let picture = Picture::take()?;
    let roles = picture.roles();
    if !roles.iter().any(|one| picture.state.changing(one)) {
        return Ok(picture);
    }
    say("waiting for the cluster to finish what it is at", DONE);
    settle(&roles, wanted.timeout);
    Picture::take()
}
