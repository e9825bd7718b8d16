//! Whether this node could run the resource, and what would happen in a partition.

use ocf::{Done, Failure, Run};

use crate::dump_xml::Configuration;
use crate::kernel;
use crate::module;
use crate::parameters::Settings;
use crate::proc_drbd::ProcDrbd;

pub(crate) fn validate(run: &Run, settings: &Settings) -> Done {
    module::available(run)?;
    if let Some(proc) = ProcDrbd::look()? {
        kernel::understood(&proc)?;
        if let Some(unwanted) = proc.version.and_then(|version| module::unwanted(settings, version)) {
            return Err(Failure::not_installed(unwanted));
        }
    }
    let configuration = Configuration::read(run, settings)?;
    for warning in warnings(&settings.name, &configuration) {
        run.log.warning(&warning);
    }
    Ok(())
}

/// What can happen with this drbd.conf.
fn warnings(name: &str, configuration: &Configuration) -> Vec<String> {
    let mut warnings = Vec::new();
    let quorum = configuration.option("options/quorum").is_some_and(|quorum| quorum != "off");
    match configuration.fencing() {
        Some("resource-and-stonith") => {
            let handler = ["handlers/fence-peer", "handlers/unfence-peer", "handlers/after-resync-target"];
            let [fence, unfence, after] = handler.map(|name| configuration.option(name).is_some_and(|value| !value.is_empty()));
            if !fence {
                warnings.push(format!(
                    "{name}: fencing resource-and-stonith without a handler fence-peer: when the replication link is cut, the \
                     Primary's I/O is suspended for ever; set fence-peer \"/usr/sbin/greenarrow-drbd-fence fence\""
                ));
            } else if !unfence && !after {
                warnings.push(format!(
                    "{name}: no handler unfence-peer (DRBD 9) or after-resync-target (8.4) takes the fencing constraint away \
                     again; set it to \"/usr/sbin/greenarrow-drbd-fence unfence\""
                ));
            }
        }
        // Where no partition of the nodes has a majority of its own, nobody goes on alone, and no other way is needed.
        _ if quorum => {}
        other => warnings.push(format!(
            "{name}: fencing is {}: when the replication link is cut and then the Primary fails, the other node is promoted with old \
             data, and what was written meanwhile is lost; when both nodes live, both may become Primary (split brain). Set \
             fencing resource-and-stonith with the handlers fence-peer and unfence-peer, and fencing in Pacemaker",
            other.unwrap_or("dont-care")
        )),
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_happen_is_said() {
        let with = |options: &[(&str, &str)]| {
            let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            warnings("r0", &Configuration { options, ..Configuration::default() })
        };
        let policy = ("disk/fencing", "resource-and-stonith");
        let (fence, unfence) = (("handlers/fence-peer", "x"), ("handlers/after-resync-target", "x"));
        assert!(with(&[])[0].contains("fencing is dont-care"));
        assert!(with(&[("net/fencing", "resource-only"), fence])[0].contains("fencing is resource-only"));
        assert!(with(&[policy])[0].contains("suspended for ever"));
        assert!(with(&[policy, fence])[0].contains("takes the fencing constraint away"));
        assert_eq!(with(&[policy, fence, unfence]), Vec::<String>::new());
        // With quorum no fencing is needed; that which is there must be whole.
        let quorum = ("options/quorum", "majority");
        assert_eq!(with(&[quorum]), Vec::<String>::new());
        assert_eq!(with(&[quorum, ("net/fencing", "resource-only")]), Vec::<String>::new());
        assert!(with(&[quorum, policy])[0].contains("suspended for ever"));
        assert!(with(&[quorum, policy, fence])[0].contains("takes the fencing constraint away"));
    }
}
