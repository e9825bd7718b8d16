//! unfence_if_all_uptodate: the handler unfence-peer is called once when all copies have become good again.

use ocf::{Program, Run};

use crate::model::Resource;
use crate::parameters::Settings;

/// It was called since a copy was last not good.
const KIND: &str = "unfenced";

pub(crate) fn when_all_is_well(run: &Run, settings: &Settings, resource: &Resource) {
    if !settings.unfence_if_all_uptodate {
        return;
    }
    if !(resource.primary() && resource.all_up_to_date() && resource.peers_all_up_to_date()) {
        return forget(run);
    }
    if run.store.read(KIND).is_ok_and(|called| called.is_some()) {
        return;
    }
    let program = Program::new("drbdadm").args([std::path::Path::new("-c"), &settings.drbdconf]);
    let program = program.args(["unfence-peer", &settings.name]);
    // linbit's handler takes them from its environment.
    let program = program.variable("OCF_RESKEY_unfence_extra_args", &settings.unfence_extra_args);
    let deadline = run.deadline.at_most(run.deadline.remaining() / 2);
    match program.run(deadline).and_then(|output| output.success("the handler unfence-peer")) {
        Ok(_) => drop(run.store.write(KIND, "")),
        Err(error) => run.log.warning(&format!("{error:#}; it is called again at the next monitor")),
    }
}

pub(crate) fn forget(run: &Run) {
    // Left behind, it costs one unfencing that the handler of DRBD itself does as well.
    let _ = run.store.remove(KIND);
}
