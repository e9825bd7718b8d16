//! What the nodes tell each other through the cluster while DRBD has no connection: who is Primary, and which data they have.
//! DRBD itself cannot tell then whether the peer is down or the link is cut, or who has written what.

use ocf::{Failure, Run};

use crate::configuration::own_name;
use crate::generation::{self, Generation, Kinship, kinship};
use crate::judgement::{Other, Parted, ways_out};
use crate::kernel::Seen;
use crate::model::{Connection, Peer, Resource};
use crate::parameters::Settings;

/// The other's words are asked for again when they are older than this.
const AGE: std::time::Duration = std::time::Duration::from_secs(15);
/// What this instance said last, so that nothing is taken back that was never said.
const SAID: &str = "said";
/// The generations, below what was seen when they were read.
const GENERATION: &str = "generation";
/// This node was Primary when DRBD gave up the connection, or had the Primary's data: they are what the cluster served.
const SERVED: &str = "served";

/// What is known.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    pub(crate) parted: Parted,
    pub(crate) others: Vec<Other>,
}

/// Tells the cluster how this node is, and asks how the others are, as long as a peer is not connected.
pub(crate) fn exchange(run: &Run, settings: &Settings, seen: &Seen) -> Apart {
    let Some(resource) = &seen.resource else { return Apart::default() };
    let expected = settings.connect_only_after_promote && !resource.primary();
    if expected || resource.peers.values().all(Peer::connected) {
        withdraw(run, settings);
        return Apart::default();
    }
    let theirs = told(run, settings);
    let own = own(run, settings, seen, resource, &theirs);
    if drifts(resource, &theirs) {
        if has_what_is_served(resource) {
            write_that_it_is_served(run);
        } else if theirs.iter().any(|(_, words)| words.primary) {
            // What this node had has been left for what the other has.
            let _ = run.store.remove(SERVED);
        }
    }
    say(run, settings, resource, own.as_deref());
    compared(resource, own.as_deref(), theirs)
}

fn say(run: &Run, settings: &Settings, resource: &Resource, own: Option<&[Generation]>) {
    let mut words = vec![resource.role.to_string()];
    words.extend(standalone(resource).then(|| Connection::StandAlone.to_string()));
    words.extend(own.into_iter().flatten().map(Generation::to_text));
    let value = words.join(" ");
    let _ = run.store.write(SAID, &value);
    run.cluster().private_attribute(&attribute(settings), &value);
}

/// Says it again where it was said, for the role is another one.
pub(crate) fn say_again(run: &Run, settings: &Settings, seen: &Seen) {
    let said = run.store.read(SAID).is_ok_and(|said| said.is_some());
    if let Some(resource) = seen.resource.as_ref().filter(|_| said) {
        let own = own(run, settings, seen, resource, &told(run, settings));
        say(run, settings, resource, own.as_deref());
    }
}

/// Asks how the others are, without saying anything.
fn ask(run: &Run, settings: &Settings, seen: &Seen) -> Apart {
    let Some(resource) = &seen.resource else { return Apart::default() };
    let theirs = told(run, settings);
    let own = own(run, settings, seen, resource, &theirs);
    compared(resource, own.as_deref(), theirs)
}

/// How a Secondary's data stand to those of the node that DRBD keeps apart.
pub(crate) fn parted_now(run: &Run, settings: &Settings, seen: &Seen) -> Parted {
    let apart = seen.resource.as_ref().is_some_and(|resource| !resource.primary() && may_drift(run, resource));
    if apart && !settings.connect_only_after_promote { ask(run, settings, seen).parted } else { Parted::Unknown }
}

/// Whether somebody may have given up the connection. Another has only where a monitor has seen this node without it: a peer
/// that has died just now is not waited for.
fn may_drift(run: &Run, resource: &Resource) -> bool {
    let seen_before = || run.store.read(SAID).is_ok_and(|said| said.is_some());
    standalone(resource) || (!resource.peers.values().all(Peer::connected) && seen_before())
}

/// Writes down that this node has what the cluster serves, while it is apart.
pub(crate) fn keep_what_is_served(run: &Run, resource: &Resource) {
    if standalone(resource) && has_what_is_served(resource) {
        write_that_it_is_served(run);
    }
}

fn write_that_it_is_served(run: &Run) {
    // Losing it means that a promotion is refused which could be allowed.
    let _ = run.store.write(SERVED, "");
}

/// Of three nodes, one may be apart from the Primary and from this one, which goes on together.
fn has_what_is_served(resource: &Resource) -> bool {
    resource.primary() || (resource.all_up_to_date() && resource.primary_peer().is_some_and(Peer::connected))
}

/// Whether this node had what the cluster served when the nodes parted.
fn served(run: &Run) -> bool {
    run.store.read(SERVED).is_ok_and(|kept| kept.is_some())
}

/// All are connected: what was said and written down while they were not is over.
fn withdraw(run: &Run, settings: &Settings) {
    let _ = run.store.remove(SERVED);
    fall_silent(run, settings);
}

/// Takes back what was said. Which data were served is written down still: a stop does not end a split brain.
pub(crate) fn fall_silent(run: &Run, settings: &Settings) {
    // Kept, it is compared with what is seen then.
    let _ = run.store.remove(GENERATION);
    if run.store.read(SAID).is_ok_and(|said| said.is_some()) {
        run.cluster().private_attribute(&attribute(settings), "");
        let _ = run.store.remove(SAID);
    }
}

pub(crate) fn standalone(resource: &Resource) -> bool {
    resource.peers.values().any(|peer| peer.connection == Connection::StandAlone)
}

fn attribute(settings: &Settings) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("drbd-{}", settings.name.chars().map(safe).collect::<String>())
}

/// What the other nodes say of themselves.
fn told(run: &Run, settings: &Settings) -> Vec<(String, Words)> {
    let this = run.environment.node().map_or_else(own_name, str::to_owned);
    let all = run.cluster().attribute_of_all(&attribute(settings), AGE).into_iter();
    all.filter(|(node, _)| *node != this).filter_map(|(node, text)| Some((node, words(&text)?))).collect()
}

fn compared(resource: &Resource, own: Option<&[Generation]>, theirs: Vec<(String, Words)>) -> Apart {
    let parted = parted(resource, own, &theirs);
    let other = |(node, words): (String, Words)| Other { node, primary: words.primary, standalone: words.standalone };
    Apart { parted, others: theirs.into_iter().map(other).collect() }
}

/// Whether the connection with that node was given up, here or there. DRBD 9 knows peers by name.
fn given_up(resource: &Resource, (node, words): &(String, Words)) -> bool {
    resource.peers.values().any(|peer| {
        (peer.connection == Connection::StandAlone || (words.standalone && !peer.connected()))
            && (resource.peers.len() == 1 || peer.node().is_none_or(|name| name == node))
    })
}

/// Whether data drift apart until somebody connects the nodes: here or at another node the connection was given up.
fn drifts(resource: &Resource, theirs: &[(String, Words)]) -> bool {
    standalone(resource) || theirs.iter().any(|told| given_up(resource, told))
}

/// How this node's data stand to those of the node that DRBD keeps apart.
fn parted(resource: &Resource, own: Option<&[Generation]>, theirs: &[(String, Words)]) -> Parted {
    if !drifts(resource, theirs) {
        return Parted::Unknown;
    }
    let Some(own) = own else { return Parted::Unreadable };
    let apart = theirs.iter().filter(|told| given_up(resource, told));
    match apart.filter_map(|(_, words)| kinship(own, &words.generations)).max() {
        _ if own.is_empty() => Parted::Unknown,
        Some(akin) => Parted::Akin(akin),
        None if !standalone(resource) => Parted::Unknown,
        None if own.iter().any(Generation::wrote_alone) => Parted::WroteAlone,
        None => Parted::WroteNothing,
    }
}

struct Words {
    primary: bool,
    /// It has given up a connection.
    standalone: bool,
    generations: Vec<Generation>,
}

fn words(text: &str) -> Option<Words> {
    let mut words = text.split_whitespace();
    let primary = words.next()? == "Primary";
    let standalone = words.clone().next().is_some_and(|word| Connection::parse(word) == Connection::StandAlone);
    Some(Words { primary, standalone, generations: words.filter_map(Generation::parse).collect() })
}

/// The generations of this node, where a connection was given up. A split brain does not change by itself: once every volume
/// was written alone, they are not asked for again. None: drbdsetup does not say them.
fn own(
    run: &Run,
    settings: &Settings,
    seen: &Seen,
    resource: &Resource,
    theirs: &[(String, Words)],
) -> Option<Vec<Generation>> {
    if !drifts(resource, theirs) {
        return Some(Vec::new());
    }
    let now = resource.summary();
    let kept = run.store.read(GENERATION).ok().flatten().unwrap_or_default();
    if let Some((then, lines)) = kept.split_once('\n')
        && then == now
    {
        return Some(lines.lines().filter_map(Generation::parse).collect());
    }
    let deadline = run.deadline.at_most(run.deadline.remaining() / 2);
    let found = match generation::read(resource, &settings.name, seen.version(), deadline) {
        Ok(found) => found,
        Err(error) => {
            run.log.warning(&format!("{error:#}; how the data of the nodes are akin is not known"));
            return None;
        }
    };
    if !found.is_empty() && found.iter().all(Generation::wrote_alone) {
        let lines: Vec<String> = found.iter().map(Generation::to_text).collect();
        let _ = run.store.write(GENERATION, &format!("{now}\n{}", lines.join("\n")));
    }
    Some(found)
}

/// Whether a promotion here would lose what the other node has written, or may: in doubt only who had what the cluster served is
/// promoted.
pub(crate) fn would_lose(run: &Run, parted: Parted) -> bool {
    may_lose(parted) && !served(run)
}

fn may_lose(parted: Parted) -> bool {
    match parted {
        Parted::Unknown | Parted::WroteNothing | Parted::Akin(Kinship::Same | Kinship::Newer) => false,
        Parted::Unreadable
        | Parted::WroteAlone
        | Parted::Akin(Kinship::Older | Kinship::Split | Kinship::Unrelated) => true,
    }
}

/// Whether a promotion of a node whose peer DRBD keeps away would lose data, and why.
pub(crate) fn refuses(run: &Run, settings: &Settings, seen: &Seen) -> Result<(), Failure> {
    let Some(resource) = seen.resource.as_ref().filter(|resource| may_drift(run, resource)) else { return Ok(()) };
    if settings.connect_only_after_promote {
        return Ok(());
    }
    let Apart { parted, others } = ask(run, settings, seen);
    run.log.step(&format!("StandAlone: {parted:?}, {others:?}"));
    if !would_lose(run, parted) {
        if may_lose(parted) {
            run.log.warning(
                "StandAlone, and this node had the Primary's data when the nodes parted: it goes on with them",
            );
        }
        return Ok(());
    }
    let why = match parted {
        Parted::Akin(Kinship::Older) if standalone(resource) => {
            format!("the other node has newer data (StandAlone); drbdadm connect {} first", settings.name)
        }
        Parted::Akin(Kinship::Older) => format!(
            "the other node has newer data, and has given up the connection (StandAlone); drbdadm connect {} there first",
            settings.name
        ),
        Parted::Unreadable => format!(
            "StandAlone, and drbdsetup get-gi does not say whose data is newer (see the log); drbdadm connect {} on both first",
            settings.name
        ),
        _ => format!(
            "SPLIT BRAIN: this node has written without its peer, DRBD keeps them apart (StandAlone), and what the other \
             has written since would be lost. {}",
            ways_out(&settings.name)
        ),
    };
    Err(Failure::generic(format!("not promoted: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events;

    /// n1 of three nodes: n3 is apart, n2 as given.
    fn n1(role: &str, n2: &str) -> Resource {
        let text = format!(
            "exists resource name:r0 role:{role} suspended:no\n\
             exists connection name:r0 peer-node-id:1 conn-name:n2 {n2}\n\
             exists connection name:r0 peer-node-id:2 conn-name:n3 connection:StandAlone role:Unknown\n\
             exists device name:r0 volume:0 minor:0 disk:UpToDate quorum:yes\nexists -\n"
        );
        events::read(&text, "r0").unwrap().unwrap()
    }

    #[test]
    fn who_goes_on_with_the_primary_has_what_is_served() {
        assert!(has_what_is_served(&n1("Primary", "connection:Connecting role:Unknown")));
        assert!(has_what_is_served(&n1("Secondary", "connection:Connected role:Primary")));
        assert!(!has_what_is_served(&n1("Secondary", "connection:Connected role:Secondary")));
        assert!(!has_what_is_served(&n1("Secondary", "connection:Connecting role:Unknown")));
    }

    #[test]
    fn data_are_compared_with_those_of_the_node_that_is_apart() {
        let of = |text: &str| vec![Generation::parse(text).unwrap()];
        let own = of(include_str!("../captures/nine/split-brain-n1.gi"));
        let other = of(include_str!("../captures/nine/split-brain-n2.gi"));
        let told = |node: &str, generations: &[Generation]| {
            (node.to_owned(), Words { primary: false, standalone: true, generations: generations.to_vec() })
        };
        let resource = n1("Primary", "connection:Connected role:Secondary");
        let both = [told("n2", &own), told("n3", &other)];
        assert_eq!(parted(&resource, Some(&own), &both), Parted::Akin(Kinship::Split));
        assert_eq!(parted(&resource, Some(&own), &both[..1]), Parted::WroteAlone);
        // Who keeps no data has none that could be akin.
        assert_eq!(parted(&resource, Some(&[]), &both), Parted::Unknown);
        assert_eq!(parted(&resource, None, &both), Parted::Unreadable);
        // With one peer it is that one, whatever the cluster calls it.
        let mut pair = resource;
        pair.peers.remove(&1);
        assert_eq!(parted(&pair, Some(&own), &[told("elsewhere", &other)]), Parted::Akin(Kinship::Split));
        // Only the other has given up.
        pair.peers.values_mut().for_each(|peer| peer.connection = Connection::Connecting);
        assert_eq!(parted(&pair, Some(&own), &[told("n3", &other)]), Parted::Akin(Kinship::Split));
        let mut tries = told("n3", &other);
        tries.1.standalone = false;
        assert_eq!(parted(&pair, Some(&own), &[tries]), Parted::Unknown);
        pair.peers.values_mut().for_each(|peer| peer.connection = Connection::Connected);
        assert_eq!(parted(&pair, None, &[told("n3", &other)]), Parted::Unknown);
    }

    #[test]
    fn what_a_node_says_of_itself_is_understood() {
        let gi = include_str!("../captures/split-brain-n1.gi").trim();
        for (text, primary, standalone, generations) in [
            ("Secondary".to_owned(), false, false, 0),
            ("Primary StandAlone".to_owned(), true, true, 0),
            (format!("Secondary {gi}"), false, false, 1),
            (format!("Primary StandAlone {gi} {gi}"), true, true, 2),
        ] {
            let words = words(&text).unwrap();
            let found = (words.primary, words.standalone, words.generations.len());
            assert_eq!(found, (primary, standalone, generations), "{text}");
        }
        assert!(words("").is_none());
    }

    #[test]
    fn in_doubt_a_promotion_may_lose_data() {
        let table = [
            (Parted::Unknown, false),
            (Parted::Unreadable, true),
            (Parted::WroteNothing, false),
            (Parted::WroteAlone, true),
            (Parted::Akin(Kinship::Same), false),
            (Parted::Akin(Kinship::Newer), false),
            (Parted::Akin(Kinship::Older), true),
            (Parted::Akin(Kinship::Split), true),
            (Parted::Akin(Kinship::Unrelated), true),
        ];
        for (parted, wanted) in table {
            assert_eq!(may_lose(parted), wanted, "{parted:?}");
        }
    }
}
