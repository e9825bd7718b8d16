//! The identifiers of data generations: how the data of two nodes are akin that do not talk with each other.
//!
//! DRBD gives each generation of a volume's data a random number. A Primary begins a new one when it writes without its peer;
//! the one before becomes the base of the bitmap. The comparison is the module's own (`drbd_uuid_compare`, drbd_receiver.c).

use anyhow::{Context, Result, bail};
use ocf::{Deadline, Program};

use crate::model::{Connection, Disk, Peer, Resource};
use crate::proc_drbd::Version;

/// The lowest bit says that the node is Primary, and nothing of the data.
const DATA: u64 = !1;

/// Of one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    current: u64,
    /// 0: nothing was written here that the peer does not have.
    bitmap: u64,
    history: Vec<u64>,
}

/// How this node's data stand to the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kinship {
    Same,
    /// This node has all of the other's, and more.
    Newer,
    /// The other has all of this node's, and more.
    Older,
    /// Each has something that the other has not.
    Split,
    /// They have nothing in common.
    Unrelated,
}

impl Generation {
    /// `CURRENT:BITMAP:HISTORY:…:FLAG:…`, as `get-gi` prints it: the generations have 16 digits each, the flags one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let line = text.lines().map(str::trim).find(|line| line.contains(':'))?;
        let words = line.split(':').take_while(|word| word.len() == 16);
        let mut numbers = words.map(|word| u64::from_str_radix(word, 16).map(|number| number & DATA));
        let (current, bitmap) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self { current, bitmap, history: numbers.take(32).collect::<Result<_, _>>().ok()? })
    }

    pub(crate) fn to_text(&self) -> String {
        let numbers = [self.current, self.bitmap].into_iter().chain(self.history.iter().copied());
        numbers.map(|number| format!("{number:016X}")).collect::<Vec<_>>().join(":")
    }

    /// Whether something was written here without the peer.
    pub(crate) fn wrote_alone(&self) -> bool {
        self.bitmap != 0
    }

    pub(crate) fn against(&self, other: &Self) -> Kinship {
        let known = |number: u64| number != 0;
        let past = |one: &Self| -> Vec<u64> {
            std::iter::once(one.bitmap).chain(one.history.iter().copied()).filter(|number| known(*number)).collect()
        };
        let (ours, theirs) = (past(self), past(other));
        if self.current == other.current {
            Kinship::Same
        } else if theirs.contains(&self.current) {
            Kinship::Older
        } else if ours.contains(&other.current) {
            Kinship::Newer
        } else if ours.iter().any(|number| theirs.contains(number)) {
            Kinship::Split
        } else {
            Kinship::Unrelated
        }
    }
}

/// The worst of all volumes; none when they cannot be compared.
pub(crate) fn kinship(ours: &[Generation], theirs: &[Generation]) -> Option<Kinship> {
    let worst = ours.iter().zip(theirs).map(|(one, other)| one.against(other)).max()?;
    (ours.len() == theirs.len()).then_some(worst)
}

/// Those of all volumes towards the peer that DRBD keeps apart, or does not reach, from the kernel.
pub(crate) fn read(resource: &Resource, name: &str, version: Version, deadline: Deadline) -> Result<Vec<Generation>> {
    let find = |wanted: fn(&Peer) -> bool| resource.peers.iter().find(|(_, peer)| wanted(peer));
    let apart = find(|peer| peer.connection == Connection::StandAlone).or_else(|| find(|peer| !peer.connected()));
    let peer = apart.or_else(|| resource.peers.first_key_value()).map_or(0, |(id, _)| *id);
    // Where there is no disk there is no generation (ERR_NO_DISK).
    let volumes = resource.volumes.iter().filter(|(_, volume)| volume.disk != Disk::Diskless);
    let generation = |(number, volume): (&u32, &crate::model::Volume)| {
        let arguments = if version >= (9, 0, 0) {
            vec!["get-gi".to_owned(), name.to_owned(), peer.to_string(), number.to_string()]
        } else {
            vec!["get-gi".to_owned(), volume.minor.context("a volume without a minor")?.to_string()]
        };
        let output = Program::new("drbdsetup").args(arguments).run(deadline)?.success("drbdsetup get-gi")?;
        match Generation::parse(&output.stdout) {
            Some(generation) => Ok(generation),
            None => bail!("drbdsetup get-gi says {:?}", crate::model::shown(&output.stdout)),
        }
    };
    volumes.map(generation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: &str) -> Generation {
        Generation::parse(state).unwrap()
    }

    #[test]
    fn a_real_split_brain_is_one_from_both_sides() {
        let one = of(include_str!("../captures/split-brain-n1.gi"));
        let two = of(include_str!("../captures/split-brain-n2.gi"));
        assert_eq!((one.against(&two), two.against(&one)), (Kinship::Split, Kinship::Split));
        assert!(one.wrote_alone() && two.wrote_alone());
    }

    /// DRBD 9 prints more flags, and keeps a bitmap's base for each peer.
    #[test]
    fn a_real_split_brain_of_drbd_9_is_one_too() {
        let one = of(include_str!("../captures/nine/split-brain-n1.gi"));
        let two = of(include_str!("../captures/nine/split-brain-n2.gi"));
        assert_eq!((one.against(&two), two.against(&one)), (Kinship::Split, Kinship::Split));
        assert!(one.wrote_alone() && two.wrote_alone());
        let whole = of(include_str!("../captures/nine/inconsistent-alone-n1.gi"));
        let half = of(include_str!("../captures/nine/inconsistent-alone-n2.gi"));
        assert_eq!((whole.against(&half), half.against(&whole)), (Kinship::Newer, Kinship::Older));
    }

    #[test]
    fn after_a_disconnect_the_one_who_wrote_on_is_newer() {
        let one = of(include_str!("../captures/disconnected-n1.gi"));
        let two = of(include_str!("../captures/disconnected-n2.gi"));
        assert_eq!((one.against(&two), two.against(&one)), (Kinship::Newer, Kinship::Older));
        assert!(one.wrote_alone() && !two.wrote_alone());
        assert_eq!(one.against(&one), Kinship::Same);
    }

    #[test]
    fn strangers_are_unrelated_and_zero_is_no_relation() {
        let one = of("1110:0000000000000000".replace("1110", "1111111111111110").as_str());
        let two = of("2222222222222222:0000000000000000:0000000000000000");
        assert_eq!(one.against(&two), Kinship::Unrelated);
        assert_eq!(kinship(std::slice::from_ref(&one), &[]), None);
        assert_eq!(kinship(&[one.clone(), one.clone()], &[one.clone(), two]), Some(Kinship::Unrelated));
    }

    #[test]
    fn what_was_told_is_read_again() {
        let one = of(include_str!("../captures/split-brain-n1.gi"));
        assert_eq!(of(&one.to_text()), one);
        for wrong in ["", ":", "x:y", "123:456", "1111111111111111"] {
            assert_eq!(Generation::parse(wrong), None, "{wrong:?}");
        }
    }
}
