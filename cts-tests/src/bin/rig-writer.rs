//! Writes numbered records to a file of a guest, syncs each, and prints its number then.
//!
//! Usage: rig-writer FILE RUN. Like a mail server it opens the file anew for each record; while there is none, because its
//! file system is mounted elsewhere, it waits. It ends with its reader.

use std::fs::File;
use std::io::{Write, stdout};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cts_tests::vm::stream::record;

/// Thirty records a second leave an emulated processor time for what is tested.
const PAUSE: Duration = Duration::from_millis(30);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, run] = arguments.as_slice() else { bail!("usage: rig-writer FILE RUN") };
    let run = run.parse().context("RUN is a number")?;
    let mut number = 0;
    loop {
        // Not created: where the file system is not mounted, nothing may be written.
        if let Ok(open) = File::options().append(true).open(file) {
            number += 1;
            // A disk that fails, or a record whose number was used up by it, is no reason to end.
            if append(open, &record((run, number))).is_ok() {
                writeln!(stdout(), "{number}")?;
            }
        }
        thread::sleep(PAUSE);
    }
}

fn append(mut file: File, text: &str) -> Result<()> {
    file.write_all(text.as_bytes())?;
    Ok(file.sync_all()?)
}
