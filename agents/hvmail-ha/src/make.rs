//! hvmail_make_primary and hvmail_make_secondary: from the picture to what is done, or the refusal.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;
use ocf::Deadline;

use crate::picture::{Picture, Role};
use crate::preflight::{self, Told, how};
use crate::relocate::{Ending, Work, settle};
use crate::takeover::{Obstacle, Peer, remaining};
use crate::{serve, tools};

/// How long what may be over in some seconds is waited for: a node joins, its server starts, and at its next monitor the
/// agent says that it streams.
const SOON: Duration = Duration::from_secs(60);
/// Between two looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One command at a time on a node.
const LOCK: &str = "/run/hvmail_ha.lock";

const TWICE: &str = "two nodes are Primary, and a move would make it worse";

pub(crate) const DONE: u8 = 0;
pub(crate) const REFUSED: u8 = 1;
const PUT_BACK: u8 = 2;
pub(crate) const UNKNOWN: u8 = 3;

/// What the operator said besides.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) node: Option<String>,
    pub(crate) force: bool,
    pub(crate) losses: Vec<String>,
    pub(crate) stop: bool,
    pub(crate) timeout: Duration,
}

/// `hvmail_make_primary`.
pub(crate) fn primary(options: &Options) -> Result<u8> {
    let _lock = lock()?;
    let limit = Deadline::after(options.timeout);
    let picture = start(limit)?;
    let target = node(&picture, options)?;
    if let Some(status) = twice(&picture, &target) {
        return Ok(status);
    }
    // One whose promotion has failed is shown as promoted too.
    let failed = |one: &&str| picture.instance(one, &target).is_some_and(|one| one.failed);
    let whole = picture.role(&target) == Role::Primary && !picture.roles().iter().any(failed);
    if whole && picture.configuration.stopped.is_none() {
        let answered = serve::ask(&picture.configuration, &picture.here, &target);
        return Ok(match answered {
            Ok(_) => say(&format!("{target} is Primary and serves; nothing to do"), DONE),
            Err(why) => say(&format!("{target} is Primary by Pacemaker's word, and does not serve: {why}"), UNKNOWN),
        });
    }
    let picture = patient(picture, &[&target], options, limit)?;
    // While a node has the role, its addresses answer as they should.
    let held = picture.nodes().iter().any(|node| matches!(picture.role(node), Role::Primary | Role::Partly));
    let answering = if held { Vec::new() } else { answering(&picture) };
    let told = preflight::told(&picture, &target, &answering);
    let left = left_of(&told, options);
    if !left.is_empty() {
        return Ok(refuse(&format!("{target} is not made Primary"), &told, &left, ""));
    }
    carry_out(&picture, &target, &told, options, limit)
}

/// `hvmail_make_secondary`.
pub(crate) fn secondary(options: &Options) -> Result<u8> {
    let _lock = lock()?;
    let limit = Deadline::after(options.timeout);
    let picture = start(limit)?;
    let node = node(&picture, options)?;
    if let Some(status) = twice(&picture, &node) {
        return Ok(status);
    }
    if !matches!(picture.role(&node), Role::Primary | Role::Partly) {
        let held = picture.nodes().iter().any(|node| matches!(picture.role(node), Role::Primary | Role::Partly));
        let answering = if held { Vec::new() } else { answering(&picture) };
        return Ok(match without_role(&picture, &node, &answering) {
            Ok(what) => say(&what, DONE),
            Err(what) => say(&what, REFUSED),
        });
    }
    let others: Vec<String> = picture.nodes().into_iter().filter(|one| *one != node).map(str::to_owned).collect();
    let picture = patient(picture, &others.iter().map(String::as_str).collect::<Vec<_>>(), options, limit)?;
    match best(&picture, &node, options) {
        Some((target, told)) if left_of(&told, options).is_empty() => {
            carry_out(&picture, target, &told, options, limit)
        }
        _ if options.stop => stop(&picture, &node, options, limit),
        Some((target, told)) => Ok(say(&not_secondary(&node, target, &told, options), REFUSED)),
        None => Ok(say("there is no other node: hvmail_make_secondary --stop ends everything in good order", REFUSED)),
    }
}

/// What is said of a node that has no role to give away, by Pacemaker's word: a refusal where it may have it all the same.
fn without_role(picture: &Picture, node: &str, answering: &[String]) -> Result<String, String> {
    if let Some((fact, remedy)) = preflight::suspicion(picture, node, answering) {
        return Err(format!(
            "{node} is not Primary by Pacemaker's word, but:\n  1. {fact}\n     {remedy}\nnothing was changed"
        ));
    }
    let has = |one: &&str| matches!(picture.role(one), Role::Primary | Role::Partly);
    let mut others = picture.nodes().into_iter().filter(|one| *one != node);
    let unsure = others.find_map(|one| preflight::suspicion(picture, one, answering));
    Ok(match (picture.nodes().into_iter().find(has), unsure) {
        (Some(primary), _) => format!("{node} is not Primary, {primary} is; nothing to do"),
        (None, Some((fact, remedy))) => format!("{node} is not Primary; but {fact}: {remedy}"),
        (None, None) if node == picture.here || how(picture, node) == Peer::Down => {
            format!("{node} is not Primary, and no other node is; nothing to do")
        }
        (None, None) => format!(
            "{node} is not Primary by Pacemaker's word, and no other node is; its agents were not asked, which is done on {node}: \
             hvmail_make_secondary"
        ),
    })
}

/// The node with the least in its way, besides `node`.
fn best<'a>(picture: &'a Picture, node: &str, options: &Options) -> Option<(&'a str, Vec<Told>)> {
    let others = picture.nodes().into_iter().filter(|one| *one != node);
    let all = others.map(|other| (other, preflight::told(picture, other, &[])));
    all.min_by_key(|(_, told)| left_of(told, options).len())
}

fn not_secondary(node: &str, target: &str, told: &[Told], options: &Options) -> String {
    let or =
        format!("or end everything in good order, and have no Primary: hvmail_make_secondary --node {node} --stop");
    let what = format!("{node} is not made Secondary, for {target} cannot take over");
    refusal(&what, told, &left_of(told, options), &or)
}

/// Of two that are Primary none is told that there is nothing to do.
fn twice(picture: &Picture, node: &str) -> Option<u8> {
    let told = preflight::told(picture, node, &[]);
    told.iter().any(|one| one.obstacle == Obstacle::Twice).then(|| refuse(TWICE, &told, &[Obstacle::Twice], ""))
}

fn stop(picture: &Picture, node: &str, options: &Options, limit: Deadline) -> Result<u8> {
    // Where the cluster does nothing it would not stop anything either.
    let own = [Obstacle::Maintenance, Obstacle::NoQuorum, Obstacle::TargetMaintenance, Obstacle::Moving];
    let mut told = preflight::told(picture, node, &[]);
    told.retain(|one| own.contains(&one.obstacle));
    let unmanaged = picture.configuration.chain().filter_map(preflight::unmanaged);
    told.extend(unmanaged.map(|(fact, remedy)| Told { obstacle: Obstacle::Held, fact, remedy }));
    if !told.is_empty() {
        let left: Vec<_> = told.iter().map(|one| one.obstacle).collect();
        return Ok(refuse(&format!("{node} is not stopped"), &told, &left, ""));
    }
    if limit.passed() {
        return Ok(too_late(options));
    }
    let mut work = Work::new(picture, limit);
    Ok(conclude(&work.stop(node)?))
}

fn carry_out(picture: &Picture, target: &str, told: &[Told], options: &Options, limit: Deadline) -> Result<u8> {
    if limit.passed() {
        return Ok(too_late(options));
    }
    for one in told {
        say(&format!("accepted: {}", one.fact), DONE);
    }
    // From here on an interrupt has to put things back.
    let mut work = Work::new(picture, limit);
    if told.iter().any(|one| one.obstacle == Obstacle::Failed) {
        for resource in picture.configuration.chain() {
            tools::cleanup(&resource.id, target)?;
        }
    }
    let given_up = preflight::lacks(picture, target).map_or(Ok(()), |lacks| work.give_up(lacks));
    let ending = given_up.and_then(|()| work.bring(target, picture.configuration.stopped.is_some()));
    work.end_consent(matches!(ending, Ok(Ending::Done(_))))?;
    Ok(conclude(&ending?))
}

fn too_late(options: &Options) -> u8 {
    let seconds = options.timeout.as_secs();
    say(&format!("the {seconds} s of --timeout were over before anything was begun; nothing was changed"), REFUSED)
}

fn conclude(ending: &Ending) -> u8 {
    match ending {
        Ending::Done(what) => say(what, DONE),
        Ending::PutBack(what) => say(what, PUT_BACK),
        Ending::Adrift(what) => say(what, UNKNOWN),
    }
}

fn left_of(told: &[Told], options: &Options) -> Vec<Obstacle> {
    let all: Vec<_> = told.iter().map(|one| one.obstacle).collect();
    remaining(&all, options.force, &options.losses)
}

/// What of the pair's addresses answers; that nobody can tell is said, and stops nothing that fencing has made sure of.
fn answering(picture: &Picture) -> Vec<String> {
    let mut unseen = Vec::new();
    let answering = serve::answering(&picture.configuration, &mut unseen);
    for why in unseen {
        say(&format!("not seen: whether addresses of the pair answer on the wire: {why}"), DONE);
    }
    answering
}

/// Looks, once nothing of an earlier command is left and the cluster has done what it is at.
fn start(limit: Deadline) -> Result<Picture> {
    if !geteuid().is_root() {
        bail!("this needs root: it is run by user {}", geteuid());
    }
    let mut picture = Picture::take()?;
    if picture.roles().is_empty() && !picture.unseen.is_empty() {
        bail!("whether there is a role to move is not known: {}", picture.unseen.join("; "));
    }
    if picture.roles().is_empty() {
        bail!("no resource of the cluster is a promotable clone: there is no role to move");
    }
    picture = settled(picture, limit)?;
    let here = picture.here.clone();
    let mover = preflight::mover(&picture).and_then(|one| one.by.clone());
    let mut gone: Vec<_> = picture.configuration.own_moves().filter_map(|one| one.by.clone()).collect();
    gone.sort_unstable();
    gone.dedup();
    gone.retain(|by| Some(by) != mover.as_ref());
    for by in &gone {
        tools::remove_moves(by)?;
        let whose = if *by == here { "an earlier command here".to_owned() } else { format!("a command on {by}") };
        say(&format!("the constraint that {whose} has left was removed"), DONE);
    }
    if !gone.is_empty() {
        settle(&picture.roles(), limit.remaining());
        picture = Picture::take()?;
    }
    Ok(picture)
}

/// A picture of the cluster once it has done what it is at.
fn settled(picture: Picture, limit: Deadline) -> Result<Picture> {
    let roles = picture.roles();
    let changing: Vec<_> = roles.iter().filter(|one| picture.state.changing(one)).copied().collect();
    if changing.is_empty() || limit.passed() {
        return Ok(picture);
    }
    say(&format!("waiting for the cluster to finish what it is at: {}", changing.join(", ")), DONE);
    settle(&roles, limit.remaining());
    Picture::take()
}

/// Looks again while none of the nodes could take over, and one may be able to in some seconds: what is typed when a node
/// has just come is not refused because of that.
fn patient(mut picture: Picture, nodes: &[&str], options: &Options, limit: Deadline) -> Result<Picture> {
    let deadline = limit.at_most(SOON);
    let mut said = String::new();
    loop {
        let free = |node: &&str| left_of(&preflight::told(&picture, node, &[]), options).is_empty();
        if nodes.iter().any(free) || deadline.passed() {
            return Ok(picture);
        }
        let soon =
            |node: &&str| preflight::soon(&picture, node, tools::is_at_work, |resource| tools::started(resource, node));
        let Some(what) = nodes.iter().find_map(soon) else { return Ok(picture) };
        if what != said {
            say(&format!("waiting, {} s at most: {what}", deadline.budget().as_secs()), DONE);
            said = what;
        }
        deadline.sleep(LOOK_AGAIN);
        picture = settled(Picture::take()?, limit)?;
    }
}

fn node(picture: &Picture, options: &Options) -> Result<String> {
    let name = options.node.clone().unwrap_or_else(|| picture.here.clone());
    if picture.state.node(&name).is_none() {
        bail!("{name:?} is no node of this cluster; there are: {}", picture.nodes().join(", "));
    }
    Ok(name)
}

pub(crate) fn lock() -> Result<Flock<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let opened = options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(LOCK);
    let file = opened.with_context(|| format!("cannot open {LOCK}: this needs root"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            bail!(
                "another hvmail_make_primary or hvmail_make_secondary runs on this node: wait for it (fuser -v {LOCK})"
            )
        }
        Err((_, error)) => bail!("cannot lock {LOCK}: {error}"),
    }
}

/// Lists what stands in the way.
fn refuse(what: &str, told: &[Told], left: &[Obstacle], or: &str) -> u8 {
    say(&refusal(what, told, left, or), REFUSED)
}

fn refusal(what: &str, told: &[Told], left: &[Obstacle], or: &str) -> String {
    let mut text = format!("{what}:\n");
    let standing = told.iter().filter(|one| left.contains(&one.obstacle));
    text += &listed(standing);
    if !or.is_empty() {
        text.extend(["  ", or, "\n"]);
    }
    text + "nothing was changed"
}

/// Obstacles with their remedies, numbered.
pub(crate) fn listed<'a>(told: impl Iterator<Item = &'a Told>) -> String {
    told.zip(1..).fold(String::new(), |text, (one, number)| {
        let way = one.way().map_or_else(String::new, |way| format!("     or do it all the same: {way}\n"));
        format!("{text}  {number}. {}\n     {}\n{way}", one.fact, one.remedy)
    })
}

/// Says it, whether or not anybody reads, and hands on the exit status.
pub(crate) fn say(text: &str, status: u8) -> u8 {
    let _ = writeln!(std::io::stdout(), "{text}");
    status
}

/// `hvmail_ha preflight`.
pub(crate) fn preflight(named: Option<&String>) -> Result<u8> {
    let picture = Picture::take()?;
    let other = || picture.nodes().into_iter().find(|node| picture.primary() != Some(node)).map(str::to_owned);
    let options = Options { node: named.cloned().or_else(other), ..Options::silent() };
    let target = node(&picture, &options)?;
    for what in &picture.unseen {
        say(&format!("not seen: {what}"), DONE);
    }
    if picture.role(&target) == Role::Primary && picture.twice().is_empty() {
        return Ok(say(&format!("{target} is Primary"), DONE));
    }
    let (peer, _) = preflight::peer_of(&picture, &target);
    let answering = if peer == Peer::Primary { Vec::new() } else { answering(&picture) };
    let told = preflight::told(&picture, &target, &answering);
    Ok(say(&readiness(&target, &told), if told.is_empty() { DONE } else { REFUSED }))
}

fn readiness(target: &str, told: &[Told]) -> String {
    if told.is_empty() {
        return format!("{target} could take over now");
    }
    format!("{target} could not take over now:\n{}", listed(told.iter())).trim_end().to_owned()
}

impl Options {
    fn silent() -> Self {
        Self { node: None, force: false, losses: Vec::new(), stop: false, timeout: Duration::ZERO }
    }
}

#[cfg(test)]
#[path = "make_tests.rs"]
mod tests;
