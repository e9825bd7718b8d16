//! The name of the node whose changes are thrown away, from the command line or from a person at a terminal.

use std::io::{BufRead, IsTerminal, Write, stdin, stdout};

use crate::make::{DONE, REFUSED, say};

/// Shows the loss, and gives back which of the nodes is named; `Err` is the exit status.
pub(super) fn ask<'a>(loss: &str, victims: &'a [String], named: Option<&str>) -> Result<&'a str, u8> {
    say(loss.trim_end(), DONE);
    let listed = victims.join(" or ");
    let name = match named {
        Some(name) => name.to_owned(),
        None if stdin().is_terminal() => typed(&listed),
        None => {
            let what = "nobody can be asked without a terminal: --throw-away=NODE agrees to it";
            return Err(say(&format!("{what} ({listed}); nothing was changed"), REFUSED));
        }
    };
    let agreed = victims.iter().find(|victim| **victim == name);
    agreed.map(String::as_str).ok_or_else(|| say(&format!("{name:?} is not {listed}; nothing was changed"), REFUSED))
}

/// A terminal that has gone agrees to nothing.
fn typed(listed: &str) -> String {
    let _ = write!(stdout(), "Type the name of the node whose changes are thrown away ({listed}): ");
    let _ = stdout().flush();
    let mut line = String::new();
    let _ = stdin().lock().read_line(&mut line);
    line.trim().to_owned()
}
