//! Takes up a changed drbd.conf (`drbdadm adjust`), without touching the role.
//!
//! A reload that fails is a failed resource, which Pacemaker takes from its node. What hinders this one hinders nothing that runs:
//! it is in the log, and the monitor says what is wrong.

use ocf::Run;

use crate::apart;
use crate::dump_xml::Configuration;
use crate::kernel;
use crate::monitor;
use crate::parameters::Settings;
use crate::start;

pub(crate) fn reload(run: &Run, settings: &Settings) {
    let seen = match kernel::look(run, &settings.name) {
        Ok(seen) => seen,
        Err(failure) => {
            run.log.warning(&format!("drbd.conf is not taken up: {}", failure.reason()));
            return;
        }
    };
    let Some((seen, resource)) = seen.as_ref().and_then(|seen| Some((seen, seen.resource.as_ref()?))) else {
        run.log.info(&format!("{} is down; there is nothing to reload", settings.name));
        return;
    };
    monitor::tell(run, settings, resource, apart::parted_now(run, settings, seen));
    if settings.connect_only_after_promote && !resource.primary() {
        return;
    }
    match Configuration::read(run, settings) {
        Ok(configuration) => start::adjust(run, settings, &configuration),
        Err(failure) => run.log.warning(&format!("drbd.conf is not taken up: {}", failure.reason())),
    }
}
