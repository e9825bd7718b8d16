//! Whether this node could run the services.

use ocf::{Done, Failure, Run};

use crate::greenarrow;
use crate::parameters::Settings;
use crate::raise::normally_down;
use crate::scan::{Fault, Scan};
use crate::svscan::{self, StartSvscan};

pub(crate) fn validate(run: &Run, settings: &Settings) -> Done {
    let scan = Scan::take(settings);
    match scan.fault {
        Some(Fault::Broken(fault)) => return Err(Failure::not_installed(fault)),
        Some(Fault::Absent(words)) => {
            run.log.info(&format!("{words} Where it moves with the Primary that is as it should be"));
        }
        None => {}
    }
    let wanted = scan.looks.iter().filter(|look| !normally_down(settings, look));
    let broken = wanted.filter_map(|look| match &look.fault {
        Some(Fault::Broken(words)) => Some(words.as_str()),
        _ => None,
    });
    let mut wrong: Vec<String> = broken.map(str::to_owned).collect();
    for program in [&settings.mta_control, &settings.status_command] {
        wrong.extend(greenarrow::usable(program).err().map(|error| format!("{error:#}")));
    }
    if settings.svscan == StartSvscan::No && svscan::find(settings)?.is_none() {
        wrong.push(format!(
            "no svscan runs in {}, and svscan=none starts none; start it, or set svscan",
            settings.service_dir.display()
        ));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::generic(wrong.join("; "))) }
}
