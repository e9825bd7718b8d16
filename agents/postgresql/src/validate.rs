//! Whether this node could run the server.

use ocf::{Failure, Run};

use crate::hosts::Hosts;
use crate::installation::Installation;
use crate::parameters::{Settings, Sync};
use crate::peers;

/// What the table cannot say of the parameters.
pub(crate) fn validate_parameters(settings: &Settings) -> Result<(), Failure> {
    let named = matches!(settings.hosts, Hosts::Each(_));
    if settings.sync == Sync::Require && !named {
        return Err(Failure::not_configured(
            "sync=require needs primary_hosts as NODE:ADDRESS for each node: commits wait for those nodes",
        ));
    }
    if settings.use_slots && !named {
        return Err(Failure::not_configured(
            "use_slots needs primary_hosts as NODE:ADDRESS for each node: each has a slot of its own",
        ));
    }
    Ok(())
}

/// Finds the server on this node and checks what a start would need.
pub(crate) fn validate(run: &Run, settings: &Settings) -> Result<Installation, Failure> {
    validate_parameters(settings)?;
    let installed = Installation::find(settings)?;
    installed.check_directory()?;
    installed.check_programs(run)?;
    let others = settings.hosts.others(&peers::own_name(run));
    if !installed.version.says_wal() && others.len() > 1 {
        let (version, others) = (installed.version, others.join(", "));
        return Err(Failure::not_configured(format!(
            "a standby of PostgreSQL {version} looks for its primary in one place, and primary_hosts names {others}: give one \
             address that moves with the primary"
        )));
    }
    Ok(installed)
}
