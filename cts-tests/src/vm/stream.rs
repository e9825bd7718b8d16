//! A program on every guest that writes numbered, checksummed records to a file wherever its file system is mounted, and
//! what became of the records whose fsync(2) had returned.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::guest::Guest;
use super::message;
use crate::installed;

/// Where the program is in a guest.
const PROGRAM: &str = "/usr/local/bin/rig-writer";

/// How often a guest is tried that is off, or whose writer has ended.
const PAUSE: Duration = Duration::from_millis(200);

/// The bytes of a record that tell nothing: it is as long as a small mail's envelope.
const FILLING: usize = 200;

/// A record's number: which run of which writer, and its how manyeth.
pub type Number = (u32, u64);

/// A record of that number as a line, its checksum at the end. The line break before it parts it from what a power cut may
/// have left.
pub fn record((run, number): Number) -> String {
    let filling = "abcdefghij".repeat(FILLING / 10);
    let body = format!("{run} {number} {filling}");
    format!("\n{body} {:016x}\n", checksum(body.as_bytes()))
}

/// The records of a file that are whole, and how many lines are none.
pub fn records(text: &str) -> (BTreeSet<Number>, usize) {
    let (mut whole, mut broken) = (BTreeSet::new(), 0);
    for line in text.lines().filter(|line| !line.is_empty()) {
        match parse(line) {
            Some(number) => drop(whole.insert(number)),
            None => broken += 1,
        }
    }
    (whole, broken)
}

fn parse(line: &str) -> Option<Number> {
    let (body, sum) = line.rsplit_once(' ')?;
    let mut words = body.split(' ');
    let number = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (u64::from_str_radix(sum, 16).ok()? == checksum(body.as_bytes())).then_some(number)
}

/// FNV-1a (Fowler, Noll, Vo), which finds any byte that changed.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes for as long as it lives.
#[derive(Debug)]
pub struct Stream {
    file: String,
    acknowledged: Arc<Mutex<Vec<(Number, Instant)>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Begins to write to `file`, which has to be there for that, on every guest.
    pub fn start(guests: &[Arc<Guest>], file: &str) -> Result<Self> {
        let mut stream =
            Self { file: file.to_owned(), acknowledged: Arc::default(), ended: Arc::default(), threads: Vec::new() };
        let runs = Arc::new(AtomicU32::new(0));
        for guest in guests {
            guest.install(&installed::rig_program("rig-writer")?, PROGRAM, 0o755)?;
            let client = Client {
                guest: Arc::clone(guest),
                file: file.to_owned(),
                runs: Arc::clone(&runs),
                acknowledged: Arc::clone(&stream.acknowledged),
                ended: Arc::clone(&stream.ended),
            };
            stream.threads.push(thread::Builder::new().name("stream".into()).spawn(move || client.run())?);
        }
        Ok(stream)
    }

    /// Whether a record was synced since `since`.
    pub fn wrote(&self, since: Instant) -> bool {
        self.lock().last().is_some_and(|(_, at)| *at >= since)
    }

    /// Whether a record was synced between these moments.
    pub fn wrote_between(&self, from: Instant, to: Instant) -> bool {
        self.lock().iter().any(|(_, at)| (from..to).contains(at))
    }

    /// How long ago the last record was synced.
    pub fn silence(&self) -> Duration {
        self.lock().last().map_or(Duration::MAX, |(_, at)| at.elapsed())
    }

    /// The longest time between two synced records after `from`, that before it and now included.
    pub fn outage(&self, from: Instant) -> Duration {
        let records = self.lock();
        let first = records.partition_point(|(_, at)| *at < from).saturating_sub(1);
        let times: Vec<_> =
            records[first.min(records.len())..].iter().map(|(_, at)| *at).chain([Instant::now()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Every record that was synced before the call has to be in the file as `guest` reads it. Says how many there are.
    pub fn nothing_lost(&self, guest: &Guest) -> Result<String> {
        let synced: BTreeSet<Number> = self.lock().iter().map(|(number, _)| *number).collect();
        let (there, broken) = records(&guest.read_file(&self.file)?);
        let lost: Vec<_> = synced.difference(&there).take(10).collect();
        let count = synced.difference(&there).count();
        ensure!(!synced.is_empty(), "no record was written, so none could be lost");
        ensure!(count == 0, "{count} of {} synced records are lost: {lost:?}, …", synced.len());
        Ok(format!("{} records synced, {} there, {broken} broken lines", synced.len(), there.len()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Number, Instant)>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// The writer of one guest.
struct Client {
    guest: Arc<Guest>,
    file: String,
    runs: Arc<AtomicU32>,
    acknowledged: Arc<Mutex<Vec<(Number, Instant)>>>,
    ended: Arc<AtomicBool>,
}

impl Client {
    fn run(&self) {
        while !self.ended.load(Ordering::Relaxed) {
            // A guest that is off is tried again, and so is one whose writer was killed.
            let _ended = self.session();
            thread::sleep(PAUSE);
        }
    }

    fn session(&self) -> Result<()> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let lines = self.guest.watch(&[PROGRAM, &self.file, &run.to_string()])?;
        while !self.ended.load(Ordering::Relaxed) {
            let line = match lines.recv_timeout(PAUSE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if line.word != message::LINE {
                break;
            }
            let number = line.text(0)?.parse().context("the writer printed no number")?;
            self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(((run, number), Instant::now()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{record, records};

    #[test]
    fn a_record_is_read_and_a_broken_one_is_not() {
        let (good, other) = (record((1, 17)), record((2, 3)));
        let torn = &good[..good.len() / 2];
        let changed = good.replacen('a', "b", 1);
        let (whole, broken) = records(&[&good, torn, &other, &changed].concat());
        assert_eq!(whole.into_iter().collect::<Vec<_>>(), [(1, 17), (2, 3)]);
        assert_eq!(broken, 2);
    }
}
