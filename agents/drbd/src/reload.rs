//! Takes up a changed drbd.conf (`drbdadm adjust`), without touching the role.

use ocf::{Done, Failure, Run};

use crate::configuration::{adm, drbdadms_words};
use crate::dump_xml::Configuration;
use crate::kernel;
use crate::monitor;
use crate::parameters::Settings;

pub(crate) fn reload(run: &Run, settings: &Settings) -> Done {
    let seen = kernel::look(run, &settings.name)?;
    let Some(resource) = seen.and_then(|seen| seen.resource) else {
        run.log.info(&format!("{} is down; there is nothing to reload", settings.name));
        return Ok(());
    };
    monitor::tell(run, settings, &resource);
    if settings.connect_only_after_promote && !resource.primary() {
        return Ok(());
    }
    let configuration = Configuration::read(run, settings)?;
    let output = adm(settings, configuration.stacked, &["adjust", &settings.name], run.deadline)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::generic(format!("drbdadm adjust {}: {}", settings.name, drbdadms_words(&output))))
}
