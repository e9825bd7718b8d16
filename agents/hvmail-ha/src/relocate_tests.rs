use super::*;
use crate::captured::state;

#[test]
fn a_target_that_goes_ends_the_move() {
    let with = |change: fn(&mut crate::crm_mon::Node)| {
        let mut state = state("healthy");
        state.nodes.iter_mut().filter(|node| node.name == "n2").for_each(change);
        gone(&state, "n2")
    };
    assert_eq!(with(|_| ()), None);
    assert_eq!(with(|node| (node.online, node.unclean) = (false, true)).unwrap(), "n2 has failed and is to be fenced");
    assert_eq!(with(|node| node.online = false).unwrap(), "n2 has left the cluster");
    assert_eq!(with(|node| node.shutdown = true).unwrap(), "n2 is leaving the cluster");
    assert_eq!(with(|node| node.standby = true).unwrap(), "n2 was put in standby");
    assert_eq!(gone(&state("healthy"), "n9").unwrap(), "n9 is no node of the cluster any more");
}
