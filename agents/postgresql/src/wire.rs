//! As much of PostgreSQL's protocol (version 3.0; documentation, "Frontend/Backend Protocol") as a question to the local
//! server needs: start-up without a password, and the simple query.
//!
//! Not the postgres crate: it cannot be given a socket that is connected already, its timeouts end with the connection and
//! not with the answer, so that a server that accepts and then says nothing would hold a monitor for ever, and what it
//! brings (an asynchronous runtime, SCRAM with Unicode's tables under a licence of their own) is of no use here.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use ocf::Deadline;

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;
/// More than any answer that is asked for here; a longer message is none of PostgreSQL's.
const LONGEST: usize = 16 << 20;

/// Rows of an answer; None is SQL's NULL.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The server said why: SQLSTATE (documentation, appendix "PostgreSQL Error Codes") and its words, in its language.
    Said { sqlstate: String, words: String },
    /// It asks for a password, or something else that is not here.
    WantsAuthentication(&'static str),
    /// Nothing came before the deadline.
    Silent,
    /// The connection ended, or what came was not the protocol.
    Broken(String),
}

/// A message from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Let in.
    Authenticated,
    /// Something is asked for first.
    Wants(&'static str),
    /// It waits for a query.
    Ready,
    Row(Vec<Option<String>>),
    Error {
        sqlstate: String,
        words: String,
    },
    /// Anything that needs no answer.
    Other,
}

impl Message {
    /// The message at the beginning of `bytes` and its length; None when it is not whole yet.
    pub(crate) fn first(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let Some((head, rest)) = bytes.split_at_checked(5) else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..=LONGEST).contains(&length) {
            return Err(format!("a message of {length} bytes came, which is not PostgreSQL's protocol"));
        }
        let Some(body) = rest.get(..length - 4) else { return Ok(None) };
        let message = match head[0] {
            b'R' => authentication(body)?,
            b'Z' => Self::Ready,
            b'D' => Self::Row(row(body).ok_or("a row came whose columns do not fit into it")?),
            b'E' => error(body),
            _ => Self::Other,
        };
        Ok(Some((message, length + 1)))
    }
}

fn authentication(body: &[u8]) -> Result<Message, String> {
    let Some(kind) = body.first_chunk().map(|kind| u32::from_be_bytes(*kind)) else {
        return Err("an authentication request of no kind came".to_owned());
    };
    Ok(match kind {
        0 => Message::Authenticated,
        3 | 5 | 10 => Message::Wants("a password"),
        7..=9 => Message::Wants("Kerberos"),
        // The final words of an exchange that was not begun here.
        _ => Message::Wants("another authentication"),
    })
}

fn row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk()?;
        rest = after;
        // -1 is NULL and has no bytes.
        columns.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => None,
            Ok(length) => {
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            }
        });
    }
    Some(columns)
}

/// Fields, each a letter and a text with a zero behind it; a zero ends them.
fn error(body: &[u8]) -> Message {
    let (mut sqlstate, mut words) = (String::new(), String::new());
    for field in body.split(|byte| *byte == 0) {
        let Some((letter, text)) = field.split_first() else { break };
        let text = String::from_utf8_lossy(text).into_owned();
        match letter {
            b'C' => sqlstate = text,
            b'M' => words = text,
            _ => {}
        }
    }
    Message::Error { sqlstate, words }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: UnixStream,
    deadline: Deadline,
    inbox: Vec<u8>,
}

impl Wire {
    /// Says who wants which database over a connected, non-blocking socket, and waits until the server listens.
    pub(crate) fn open(stream: UnixStream, user: &str, database: &str, deadline: Deadline) -> Result<Self, Trouble> {
        let mut body = VERSION.to_be_bytes().to_vec();
        let settings =
            [("user", user), ("database", database), ("application_name", "ocf"), ("client_encoding", "UTF8")];
        // What the role or the database has set otherwise must not decide over an answer.
        let options = [("options", "-c statement_timeout=0 -c search_path=pg_catalog")];
        for (name, value) in settings.into_iter().chain(options) {
            for text in [name, value] {
                body.extend(text.bytes().filter(|byte| *byte != 0));
                body.push(0);
            }
        }
        body.push(0);
        let mut wire = Self { stream, deadline, inbox: Vec::new() };
        let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
        wire.send(&[&length.to_be_bytes()[..], &body].concat())?;
        wire.until_ready()?;
        Ok(wire)
    }

    /// Asks one question and gives back all rows of the answer.
    pub(crate) fn ask(&mut self, sql: &str) -> Result<Rows, Trouble> {
        let length = u32::try_from(sql.len() + 5).unwrap_or(u32::MAX);
        self.send(&[&b"Q"[..], &length.to_be_bytes(), sql.as_bytes(), &[0]].concat())?;
        self.until_ready()
    }

    /// For a question that may take another time than the one before.
    pub(crate) fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    fn until_ready(&mut self) -> Result<Rows, Trouble> {
        let (mut rows, mut failed) = (Rows::new(), None);
        loop {
            match self.receive() {
                Ok(Message::Row(row)) => rows.push(row),
                Ok(Message::Ready) => return failed.map_or(Ok(rows), Err),
                Ok(Message::Wants(what)) => return Err(Trouble::WantsAuthentication(what)),
                Ok(Message::Error { sqlstate, words }) => failed = Some(Trouble::Said { sqlstate, words }),
                Ok(Message::Authenticated | Message::Other) => {}
                // After a fatal error the server hangs up; what it said first is the reason.
                Err(trouble) => return Err(failed.unwrap_or(trouble)),
            }
        }
    }

    fn receive(&mut self) -> Result<Message, Trouble> {
        loop {
            if let Some((message, length)) = Message::first(&self.inbox).map_err(Trouble::Broken)? {
                self.inbox.drain(..length);
                return Ok(message);
            }
            let mut buffer = [0; 8192];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Trouble::Broken("the server ended the connection".to_owned())),
                Ok(count) => self.inbox.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLIN)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::Broken(error.to_string())),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT)?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The server may have said why before it hung up: that is still to be read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(Trouble::Broken(error.to_string())),
            }
        }
        Ok(())
    }

    fn wait(&self, what: PollFlags) -> Result<(), Trouble> {
        if self.deadline.passed() {
            return Err(Trouble::Silent);
        }
        match poll(&mut [PollFd::new(self.stream.as_fd(), what)], self.deadline.poll_timeout()) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Trouble::Broken(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn parsed(bytes: &[u8]) -> Message {
        Message::first(bytes).unwrap().unwrap().0
    }

    #[test]
    fn messages_are_read_whole_or_not_at_all() {
        let row = message(b'D', b"\0\x03\0\0\0\x011\xff\xff\xff\xff\0\0\0\0");
        assert_eq!(parsed(&row), Message::Row(vec![Some("1".into()), None, Some(String::new())]));
        for length in 0..row.len() {
            assert_eq!(Message::first(&row[..length]), Ok(None));
        }
        assert_eq!(parsed(&message(b'R', &[0, 0, 0, 0])), Message::Authenticated);
        assert_eq!(parsed(&message(b'R', &[0, 0, 0, 10, 1])), Message::Wants("a password"));
        assert_eq!(parsed(&message(b'Z', b"I")), Message::Ready);
        let error = message(b'E', b"SFATAL\0C53300\0Msorry, too many clients already\0\0");
        let words = "sorry, too many clients already".to_owned();
        assert_eq!(parsed(&error), Message::Error { sqlstate: "53300".into(), words });
    }

    #[test]
    fn what_is_not_the_protocol_is_refused() {
        for bytes in [
            &b"HTTP/1.1 200 OK"[..],
            &[b'D', 0, 0, 0, 3],
            &message(b'R', &[0]),
            &message(b'D', b"\0\x01\0\0\0\x09abc"),
            &message(b'D', b"\0"),
        ] {
            assert!(Message::first(bytes).is_err(), "{bytes:?}");
        }
    }

    fn answering(answer: &[u8]) -> (Result<Rows, Trouble>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(answer).unwrap();
        let deadline = Deadline::after(Duration::from_millis(200));
        (Wire::open(ours, "postgres", "postgres", deadline).and_then(|mut wire| wire.ask("SELECT 1")), theirs)
    }

    #[test]
    fn a_server_that_says_nothing_is_silent_at_the_deadline() {
        let begun = std::time::Instant::now();
        assert_eq!(answering(b"").0, Err(Trouble::Silent));
        let half = [message(b'R', &[0, 0, 0, 0]), vec![b'Z', 0, 0]].concat();
        assert_eq!(answering(&half).0, Err(Trouble::Silent));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_question_has_its_rows_or_the_servers_words() {
        let ready = [message(b'R', &[0, 0, 0, 0]), message(b'S', b"a\0b\0"), message(b'Z', b"I")].concat();
        let row = message(b'D', b"\0\x01\0\0\0\x01t");
        let good =
            [&ready[..], &message(b'T', b"\0\0"), &row, &row, &message(b'C', b"SELECT 2\0"), &message(b'Z', b"I")];
        assert_eq!(answering(&good.concat()).0.unwrap(), vec![vec![Some("t".to_owned())]; 2]);
        let said = message(b'E', b"C42883\0Mno such function\0\0");
        let bad = [&ready[..], &said, &message(b'Z', b"I")].concat();
        let trouble = Trouble::Said { sqlstate: "42883".into(), words: "no such function".into() };
        assert_eq!(answering(&bad).0, Err(trouble.clone()));
        // A fatal error, and the end of the connection.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.write_all(&said).unwrap();
        drop(theirs);
        assert_eq!(Wire::open(ours, "a", "b", Deadline::after(Duration::from_secs(1))).err(), Some(trouble));
    }
}
