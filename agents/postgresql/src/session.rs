//! A session with the local server: the crate postgres, and the deadlines that it has not.
//!
//! Its own timeouts end with the connection and not with the answer, so that a server that accepts and then says nothing
//! would hold whoever asks for ever. A thread of its own speaks with the server here; whoever asks waits for that thread
//! until the deadline and no longer. The thread is also what the server is shown the credentials of: they are those of the
//! moment of connect(2) (unix(7), SO_PEERCRED), and in Linux each thread has its own (credentials(7)), so that the agent
//! itself stays root. A thread that is left waiting ends with the process.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use nix::errno::Errno;
use nix::unistd::{Uid, geteuid};
use ocf::Deadline;
use postgres::{Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};

/// Rows of an answer; None is SQL's NULL.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The server said why: SQLSTATE (documentation, appendix "PostgreSQL Error Codes") and its words, in its language.
    Said { sqlstate: String, words: String },
    /// It asks for a password, or something else that is not here.
    WantsAuthentication(String),
    /// The queue of those who want to connect is full (`unix_stream_connect`, af_unix.c): a stopped postmaster takes
    /// nobody out of it.
    Queued,
    /// There is nobody behind the socket, or no socket.
    Unreachable(String),
    /// Nothing came before the deadline.
    Silent,
    /// The connection ended, or what came was not the protocol.
    Broken(String),
}

type Answer = Result<Rows, Trouble>;

/// A server that has let this agent in.
#[derive(Debug)]
pub(crate) struct Session {
    questions: Sender<String>,
    answers: Receiver<Answer>,
    deadline: Deadline,
    /// An answer is still to come for a question that nobody waits for any more; it would be taken for that to the next.
    out_of_step: bool,
}

impl Session {
    /// Connects with the user id of `user` to the socket in `directory`, and waits until the server listens.
    pub(crate) fn open(
        directory: &Path,
        port: u16,
        user: Uid,
        role: &str,
        database: &str,
        deadline: Deadline,
    ) -> Result<Self, Trouble> {
        let mut config = Config::new();
        config.host_path(directory).port(port).user(role).dbname(database).application_name("ocf");
        // What the role or the database has set otherwise must not decide over an answer.
        config.options("-c statement_timeout=0 -c search_path=pg_catalog");
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        let speaker = thread::Builder::new().name("server".to_owned());
        let speaks = move || speak(&config, user, &asked, &answer);
        speaker.spawn(speaks).map_err(|error| Trouble::Broken(format!("cannot start a thread: {error}")))?;
        let mut session = Self { questions, answers, deadline, out_of_step: false };
        match session.answer() {
            Ok(_) => Ok(session),
            Err(Trouble::Unreachable(words)) => {
                let socket = directory.join(format!(".s.PGSQL.{port}"));
                Err(Trouble::Unreachable(format!("cannot connect to {}: {words}", socket.display())))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Asks one question and gives back all rows of the answer.
    pub(crate) fn ask(&mut self, sql: &str) -> Answer {
        if self.out_of_step {
            return Err(Trouble::Silent);
        }
        // A thread that has ended has left its reason, or is known by the end of its answers.
        let _ = self.questions.send(sql.to_owned());
        self.answer()
    }

    /// For a question that may take another time than the one before.
    pub(crate) fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    fn answer(&mut self) -> Answer {
        match self.answers.recv_timeout(self.deadline.remaining()) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.out_of_step = true;
                Err(Trouble::Silent)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Trouble::Broken("the session has ended".to_owned())),
        }
    }
}

/// What the thread does: it connects, and answers as long as somebody asks.
fn speak(config: &Config, user: Uid, asked: &Receiver<String>, answer: &Sender<Answer>) {
    let mut client = match connect(config, user) {
        Ok(client) => client,
        Err(trouble) => return drop(answer.send(Err(trouble))),
    };
    let mut said = answer.send(Ok(Rows::new()));
    while said.is_ok() {
        let Ok(sql) = asked.recv() else { return };
        said = answer.send(client.simple_query(&sql).map_err(|error| Trouble::of(&error)).and_then(|said| rows(&said)));
    }
}

fn connect(config: &Config, user: Uid) -> Result<Client, Trouble> {
    if geteuid() != user {
        // glibc's seteuid would change every thread of the process (nptl(7)).
        let id = rustix::thread::Uid::from_raw(user.as_raw());
        rustix::thread::set_thread_res_uid(None, id, None)
            .map_err(|error| Trouble::Unreachable(format!("cannot take the user id {user}: {error}")))?;
    }
    config.connect(NoTls).map_err(|error| Trouble::of(&error))
}

fn rows(messages: &[SimpleQueryMessage]) -> Answer {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(columns).collect()
}

fn columns(row: &SimpleQueryRow) -> Result<Vec<Option<String>>, Trouble> {
    let text = |index| row.try_get(index).map(|text| text.map(str::to_owned));
    let columns: Result<_, postgres::Error> = (0..row.len()).map(text).collect();
    columns.map_err(|error| Trouble::Broken(format!("what it answers is not UTF-8: {error}")))
}

impl Trouble {
    /// The crate does not say of what kind an error is; where it comes from tells.
    fn of(error: &postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::Said { sqlstate: said.code().code().to_owned(), words: said.message().to_owned() };
        }
        let Some(source) = error.source() else { return Self::Broken(error.to_string()) };
        let Some(failure) = source.downcast_ref::<io::Error>() else {
            return Self::WantsAuthentication(source.to_string());
        };
        let words = failure.to_string();
        match failure.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => Self::Queued,
            None | Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ENOTCONN) => Self::Broken(words),
            Some(_) => Self::Unreachable(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    const PORT: u16 = 5432;

    /// A directory with a socket behind which somebody takes one connection and does this with it.
    fn server(name: &str, deed: impl FnOnce(UnixStream) + Send + 'static) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("ocf-session-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!(".s.PGSQL.{PORT}"));
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || deed(listener.accept().unwrap().0));
        directory
    }

    fn open(directory: &Path, budget: Duration) -> Result<Session, Trouble> {
        Session::open(directory, PORT, geteuid(), "postgres", "postgres", Deadline::after(budget))
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    /// What lets in, as a server sends it (documentation, "Message Flow", start-up).
    fn welcome() -> Vec<u8> {
        [message(b'R', &[0; 4]), message(b'K', &[0; 8]), message(b'Z', b"I")].concat()
    }

    fn listen_to(stream: &mut UnixStream) {
        let _ = stream.read(&mut [0; 1024]).unwrap();
    }

    #[test]
    fn a_server_that_says_nothing_is_silent_at_the_deadline() {
        let begun = Instant::now();
        let mute = server("mute", |stream| {
            thread::sleep(Duration::from_secs(10));
            drop(stream);
        });
        assert_eq!(open(&mute, Duration::from_millis(100)).err(), Some(Trouble::Silent));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn an_answer_that_comes_too_late_is_none_to_the_next_question() {
        let late = server("late", |mut stream| {
            listen_to(&mut stream);
            stream.write_all(&welcome()).unwrap();
            listen_to(&mut stream);
            thread::sleep(Duration::from_millis(300));
            let answer = [message(b'C', b"SELECT 0\0"), message(b'Z', b"I")].concat();
            stream.write_all(&answer).unwrap();
            thread::sleep(Duration::from_secs(1));
        });
        let mut session = open(&late, Duration::from_secs(5)).unwrap();
        session.set_deadline(Deadline::after(Duration::from_millis(100)));
        assert_eq!(session.ask("SELECT 1"), Err(Trouble::Silent));
        thread::sleep(Duration::from_millis(400));
        session.set_deadline(Deadline::after(Duration::from_secs(5)));
        assert_eq!(session.ask("SELECT 2"), Err(Trouble::Silent));
    }

    #[test]
    fn what_is_not_the_protocol_and_an_end_are_a_broken_session() {
        let talks = |name, bytes: &'static [u8]| {
            let directory = server(name, |mut stream| {
                listen_to(&mut stream);
                stream.write_all(bytes).unwrap();
            });
            open(&directory, Duration::from_secs(5)).err().unwrap()
        };
        for (name, bytes) in [("http", &b"HTTP/1.1 200 OK\r\n\r\n"[..]), ("short", b"R\0\0\0\x03"), ("end", b"")] {
            assert!(matches!(talks(name, bytes), Trouble::Broken(_)), "{name}");
        }
        let wants = talks("password", b"R\0\0\0\x08\0\0\0\x03");
        assert_eq!(wants, Trouble::WantsAuthentication("password missing".to_owned()));
        // Words in Latin-1: the code is what counts.
        let said = Trouble::Said { sqlstate: "57P03".into(), words: "d\u{fffd}marre".into() };
        assert_eq!(talks("starting", b"E\0\0\0\x1cSFATAL\0C57P03\0Md\xe9marre\0\0"), said);
    }

    #[test]
    fn nobody_behind_a_socket_and_no_socket_are_told_from_a_broken_session() {
        let gone = server("gone", drop);
        drop(open(&gone, Duration::from_secs(5)));
        // The listener is closed with its thread.
        thread::sleep(Duration::from_millis(50));
        for directory in [gone.as_path(), Path::new("/nonexistent")] {
            assert!(matches!(open(directory, Duration::from_secs(5)), Err(Trouble::Unreachable(_))), "{directory:?}");
        }
    }
}
