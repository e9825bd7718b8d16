//! What a client of one server sees: a thread that connects again and again, reads the line the server greets with, and
//! remembers when who answered.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::observer::longest_silence;

/// How long a connection, and then its first line, may take. Below the second after which the kernel repeats a SYN that
/// nobody answered: the next attempt comes sooner.
const PATIENCE: Duration = Duration::from_millis(250);

/// No greeting is longer.
const LINE: u64 = 1000;

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it had ended.
    pub at: Instant,
    /// The line without its end; none without a connection or a line on it.
    pub banner: Option<String>,
}

/// Connects to a port for as long as it lives.
#[derive(Debug)]
pub struct PortWatch {
    began: Instant,
    answers: Arc<Mutex<Vec<Answer>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Two servers that were there at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Both {
    /// The banner that came before and after the other's.
    pub around: String,
    /// The other's.
    pub between: String,
    /// When the first of them answered again.
    pub at: Instant,
}

impl PortWatch {
    /// Begins to connect to `server` every `interval`.
    pub fn start(server: SocketAddr, interval: Duration) -> Result<Self> {
        let (answers, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, end, began) = (Arc::clone(&answers), Arc::clone(&ended), Instant::now());
        let work = move || {
            while !end.load(Ordering::Relaxed) {
                let next = Instant::now() + interval;
                let banner = greeting(server);
                let answer = Answer { at: Instant::now(), banner };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        };
        let thread = Some(thread::Builder::new().name("port-watch".into()).spawn(work)?);
        Ok(Self { began, answers, ended, thread })
    }

    /// The longest time without a banner between `from` and `to`, as [`crate::observer::Observer::outage`] counts it.
    pub fn outage(&self, from: Instant, to: Instant) -> Duration {
        let offset = |instant: Instant| instant.saturating_duration_since(self.began);
        let times: Vec<_> = self.banners().iter().map(|(at, _)| offset(*at)).collect();
        longest_silence(&times, offset(from), offset(to))
    }

    /// The newest banner and when it came.
    pub fn last(&self) -> Option<(Instant, String)> {
        self.banners().pop()
    }

    /// The first banner after `since`.
    pub fn answered_since(&self, since: Instant) -> Option<(Instant, String)> {
        self.banners().into_iter().find(|(at, _)| *at > since)
    }

    /// Whether an attempt that was made after `since` brought no banner.
    pub fn refused_since(&self, since: Instant) -> bool {
        let limit = since + PATIENCE * 2;
        self.answers().iter().any(|answer| answer.banner.is_none() && answer.at > limit)
    }

    /// Every attempt so far.
    pub fn answers(&self) -> Vec<Answer> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn banners(&self) -> Vec<(Instant, String)> {
        self.answers().into_iter().filter_map(|answer| Some((answer.at, answer.banner?))).collect()
    }
}

impl Drop for PortWatch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the port watch died: {panic:?}");
        }
    }
}

/// Whether two servers with different banners were there at once between `from` and `to`: one answered, then the other,
/// then the first again. (A service that was moved forth and back looks like it: the window has to end before it is moved
/// back.) With the watches of several addresses, one at each node for instance, both need not answer at the same one.
pub fn both(watches: &[&PortWatch], from: Instant, to: Instant) -> Option<Both> {
    let mut all: Vec<_> = watches.iter().flat_map(|watch| watch.banners()).collect();
    all.retain(|(at, _)| *at > from && *at <= to);
    all.sort();
    came_back(&all)
}

/// `banners` ascend in time.
fn came_back(banners: &[(Instant, String)]) -> Option<Both> {
    let mut left: Vec<&str> = Vec::new();
    for pair in banners.windows(2) {
        let [(_, before), (at, now)] = pair else { continue };
        if before == now {
            continue;
        }
        left.push(before);
        if left.contains(&now.as_str()) {
            return Some(Both { around: now.clone(), between: before.clone(), at: *at });
        }
    }
    None
}

/// Whatever goes wrong means: no greeting.
fn greeting(server: SocketAddr) -> Option<String> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut line).ok()?;
    line.strip_suffix('\n').map(|line| line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{PortWatch, both, came_back};
    use crate::wait;
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};
    use std::thread;
    use std::time::{Duration, Instant};

    const SOON: Duration = Duration::from_secs(5);

    /// Greets one client after the other with each of these, then closes the port.
    fn server(address: &str, banners: &'static [&'static str]) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            for banner in banners {
                listener.accept().unwrap().0.write_all(banner.as_bytes()).unwrap();
            }
        };
        (address, thread::spawn(serve))
    }

    #[test]
    fn an_outage_ends_with_another_servers_banner() {
        let began = Instant::now();
        let (address, first) = server("127.0.0.1:0", &["220 n1 ESMTP\r\n"; 5]);
        let watch = PortWatch::start(address, Duration::from_millis(5)).unwrap();
        first.join().unwrap();
        let closed = Instant::now();
        thread::sleep(Duration::from_millis(600));
        assert!(watch.refused_since(closed) && watch.answered_since(closed + Duration::from_millis(300)).is_none());
        let (_, second) = server(&address.to_string(), &["220 n2 ESMTP\r\n"; 5]);
        second.join().unwrap();
        let answered = || Ok(watch.last().is_some_and(|(_, banner)| banner == "220 n2 ESMTP"));
        wait::until("the second server's banner", SOON, wait::QUICK, answered).unwrap();
        let outage = watch.outage(closed, Instant::now());
        assert!(outage >= Duration::from_millis(590) && outage < SOON, "{outage:?}");
        assert_eq!(watch.answers().iter().find_map(|answer| answer.banner.clone()).as_deref(), Some("220 n1 ESMTP"));
        assert_eq!(both(&[&watch], began, Instant::now()), None);
    }

    #[test]
    fn two_servers_at_once_are_told_from_one_after_the_other() {
        let began = Instant::now();
        let seen = |order: &str| {
            let banners =
                order.chars().zip(1..).map(|(name, ms)| (began + Duration::from_millis(ms), name.to_string()));
            came_back(&banners.collect::<Vec<_>>()).map(|both| both.around + &both.between)
        };
        assert_eq!(seen(""), None);
        assert_eq!(seen("aaabbb"), None);
        assert_eq!(seen("aabaa"), Some("ab".to_owned()));
        assert_eq!(seen("abcb"), Some("bc".to_owned()));
    }
}
