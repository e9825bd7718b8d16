//! A client that writes numbered rows all the time, and remembers which of them the database acknowledged, and when.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::command::{Running, command};
use crate::postgres::{DIRECTORY, USER};

/// A row that is not acknowledged within this time may be there or not; the client gives the connection up, and goes on
/// with the next row.
const PATIENCE: Duration = Duration::from_secs(1);

/// About a hundred rows a second, and as many tries to connect while nobody answers.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes for as long as it lives.
#[derive(Debug)]
pub struct Writer {
    patience: Arc<Mutex<Duration>>,
    acknowledged: Arc<Mutex<Vec<(u64, Instant)>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Begins to write into table `audit` of whatever server answers at `address`.
    pub fn start(address: IpAddr) -> Result<Self> {
        let (acknowledged, ended) = (Arc::new(Mutex::default()), Arc::new(AtomicBool::new(false)));
        let patience = Arc::new(Mutex::new(PATIENCE));
        let client = Client {
            address,
            patience: Arc::clone(&patience),
            acknowledged: Arc::clone(&acknowledged),
            ended: Arc::clone(&ended),
        };
        let thread = Some(thread::Builder::new().name("writer".into()).spawn(move || client.run())?);
        Ok(Self { patience, acknowledged, ended, thread })
    }

    /// Gives a connection up after that time from now on. A connection that was begun while nobody was there may be answered
    /// a second later only (TCP's first retransmission), so an outage is seen no more finely than this.
    pub fn patience(&self, patience: Duration) {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner) = patience;
    }

    /// The rows acknowledged so far.
    pub fn acknowledged(&self) -> BTreeSet<u64> {
        self.lock().iter().map(|(row, _)| *row).collect()
    }

    /// Those acknowledged from then on.
    pub fn acknowledged_since(&self, since: Instant) -> BTreeSet<u64> {
        self.lock().iter().filter(|(_, at)| *at >= since).map(|(row, _)| *row).collect()
    }

    /// Whether a row was acknowledged since `since`.
    pub fn wrote(&self, since: Instant) -> bool {
        self.lock().last().is_some_and(|(_, at)| *at >= since)
    }

    /// When the first row after `since` was acknowledged.
    pub fn first_after(&self, since: Instant) -> Option<Instant> {
        self.lock().iter().map(|(_, at)| *at).find(|at| *at >= since)
    }

    /// How long ago the last row was acknowledged.
    pub fn silence(&self) -> Duration {
        self.lock().last().map_or(Duration::MAX, |(_, at)| at.elapsed())
    }

    /// The longest time between two acknowledgements after `from`, that before it and now included.
    pub fn outage(&self, from: Instant) -> Duration {
        let rows = self.lock();
        let first = rows.partition_point(|(_, at)| *at < from).saturating_sub(1);
        let times: Vec<_> = rows[first.min(rows.len())..].iter().map(|(_, at)| *at).chain([Instant::now()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Instant)>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ended = self.thread.take().map(JoinHandle::join);
    }
}

struct Client {
    address: IpAddr,
    patience: Arc<Mutex<Duration>>,
    acknowledged: Arc<Mutex<Vec<(u64, Instant)>>>,
    ended: Arc<AtomicBool>,
}

impl Client {
    fn run(&self) {
        let mut row = 0;
        while !self.ended.load(Ordering::Relaxed) {
            // Why a session ended does not matter to a client: it connects again.
            let _lost = self.session(&mut row);
            thread::sleep(PAUSE);
        }
    }

    fn session(&self, row: &mut u64) -> Result<()> {
        let conninfo =
            format!("host={} user={USER} dbname=postgres application_name=writer connect_timeout=2", self.address);
        let psql = format!("{DIRECTORY}/bin/psql");
        let mut psql = command([psql.as_str(), "-XAtq", "-v", "ON_ERROR_STOP=1", &conninfo])
            .bare_environment()
            .start(Stdio::null())?;
        let mut answers = psql.stdout()?;
        while !self.ended.load(Ordering::Relaxed) {
            *row += 1;
            writeln!(psql.stdin()?, "INSERT INTO audit VALUES ({row}) RETURNING id;")?;
            let patience = *self.patience.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = line(&mut psql, &mut answers, patience)?;
            ensure!(answer == row.to_string(), "psql answered {answer:?}");
            self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((*row, Instant::now()));
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// A line that psql prints within the client's patience.
fn line(psql: &mut Running, answers: &mut std::process::ChildStdout, patience: Duration) -> Result<String> {
    let (deadline, mut text, mut byte) = (Instant::now() + patience, Vec::new(), [0]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::try_from(left).context("a longer patience than poll has")?;
        if poll(&mut [PollFd::new(answers.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            bail!("no answer within {patience:?} of process {}", psql.pid());
        }
        ensure!(answers.read(&mut byte)? == 1, "psql ended");
        if byte == *b"\n" {
            return Ok(String::from_utf8(text)?);
        }
        text.extend(byte);
    }
}
