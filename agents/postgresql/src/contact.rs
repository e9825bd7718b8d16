//! A connection to the local server, and what it means when there is none.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ocf::Deadline;

use crate::installation;
use crate::parameters::Settings;
use crate::postmaster::PidFile;
use crate::session::{Session, Trouble};

/// How long between two tries to get into a queue that is full.
const QUEUE: Duration = Duration::from_millis(20);

/// What came of an attempt to connect.
#[derive(Debug)]
pub(crate) enum Contact {
    /// The server answers questions.
    Answering(Session),
    /// It lives, and lets this connection not in.
    Closed(Closed, String),
    /// It accepts connections and says nothing, or its socket is gone: nobody can tell whether it serves.
    Mute(String),
}

/// Why a living server lets nobody in, or not this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// All connections are taken, or memory or another resource is.
    Full,
    /// It is starting up, or recovers from the crash of one of its processes.
    Starting,
    /// It is shutting down.
    Stopping,
    /// It does not want this user, or not without a password.
    Refused,
}

/// Connects as the server's user to the server whose pid file this is.
pub(crate) fn contact(settings: &Settings, data: &Path, file: &PidFile, deadline: Deadline) -> Contact {
    let user = match installation::user(settings, data) {
        Ok(user) => user,
        Err(error) => return Contact::Closed(Closed::Refused, format!("{error:#}")),
    };
    let (directory, port) = socket(settings, data, file);
    let role = settings.monitor_user.as_deref().unwrap_or(&user.name);
    loop {
        match Session::open(&directory, port, user.uid, role, &settings.database, deadline) {
            Ok(session) => return Contact::Answering(session),
            Err(Trouble::Queued) if deadline.sleep(QUEUE) => {}
            Err(trouble) => return explained(trouble, file, role, deadline),
        }
    }
}

/// A server that has not said yet where its socket is has only begun (the line is written when it is there).
fn without_socket(file: &PidFile, words: &str) -> Contact {
    if file.socket_directory.is_none() {
        return Contact::Closed(Closed::Starting, "the server is starting and does not listen yet".to_owned());
    }
    if file.stopping {
        return Contact::Closed(Closed::Stopping, "the server is shutting down and listens no more".to_owned());
    }
    Contact::Mute(format!(
        "{words}; the server lives and cannot be reached: if its socket was removed, restart it, and keep what cleans that \
         directory off it"
    ))
}

fn explained(trouble: Trouble, file: &PidFile, role: &str, deadline: Deadline) -> Contact {
    match trouble {
        Trouble::Said { sqlstate, words } if reads_not(&sqlstate) => Contact::Mute(format!(
            "the server says {words:?} ({sqlstate}) to whoever connects: it cannot read its own files; look at its disk and log"
        )),
        Trouble::Said { sqlstate, words } => {
            let closed = closed_by(&sqlstate, file.stopping);
            let remedy = if closed == Closed::Refused {
                format!("; let pg_hba.conf have \"local all {role} peer\", or set monitor_user and monitor_db")
            } else {
                String::new()
            };
            Contact::Closed(closed, format!("the server says {words:?} ({sqlstate}){remedy}"))
        }
        Trouble::WantsAuthentication(words) => Contact::Closed(
            Closed::Refused,
            format!(
                "the server asks over its Unix socket for what the agent does not have ({words}); let pg_hba.conf have \
                 \"local all {role} peer\" first"
            ),
        ),
        Trouble::Queued => Contact::Mute(format!(
            "the queue of its socket is full, and the server takes nobody out of it for {:.0} s",
            deadline.budget().as_secs_f32()
        )),
        Trouble::Silent => Contact::Mute(format!(
            "the server accepts connections and says nothing for {:.0} s",
            deadline.budget().as_secs_f32()
        )),
        Trouble::Broken(words) if file.stopping => Contact::Closed(Closed::Stopping, words),
        Trouble::Unreachable(words) => without_socket(file, &words),
        // A postmaster that forks and fails, or that has just died: the next look will tell.
        Trouble::Broken(words) => Contact::Mute(format!("the server took the connection and did not speak: {words}")),
    }
}

/// An I/O error, or data that is corrupted: a disk that is gone leaves a postmaster that lives. 58P01 is not among them, which
/// is also said of a library that somebody has a role load.
fn reads_not(sqlstate: &str) -> bool {
    matches!(sqlstate, "58030" | "XX001")
}

/// By the SQLSTATE, which is the same in every language: the words are not.
fn closed_by(sqlstate: &str, stopping: bool) -> Closed {
    match sqlstate {
        // cannot_connect_now says all three: starting up, in recovery, shutting down.
        "57P03" | "57P01" | "57P02" if stopping => Closed::Stopping,
        "57P03" | "57P02" => Closed::Starting,
        "57P01" => Closed::Stopping,
        // Class 53, insufficient resources: too_many_connections among them; 55006 is a database that is being worked on.
        _ if sqlstate.starts_with("53") || sqlstate == "55006" => Closed::Full,
        _ => Closed::Refused,
    }
}

/// Its directory and its port, which are its name.
fn socket(settings: &Settings, data: &Path, file: &PidFile) -> (PathBuf, u16) {
    // A relative directory is one below the data directory, where the server stands.
    let directory =
        file.socket_directory.as_ref().map_or_else(|| settings.socket_directory.clone(), |own| data.join(own));
    (directory, file.port.unwrap_or(settings.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_server_lets_nobody_in_is_told_by_its_code() {
        for (sqlstate, stopping, expected) in [
            ("53300", false, Closed::Full),
            ("53200", false, Closed::Full),
            ("57P03", false, Closed::Starting),
            ("57P03", true, Closed::Stopping),
            ("57P01", false, Closed::Stopping),
            ("28000", false, Closed::Refused),
            ("3D000", false, Closed::Refused),
            ("28P01", true, Closed::Refused),
        ] {
            assert_eq!(closed_by(sqlstate, stopping), expected, "{sqlstate} {stopping}");
        }
    }

    #[test]
    fn a_server_that_cannot_read_its_files_serves_nobody() {
        let said = |sqlstate: &str| Trouble::Said { sqlstate: sqlstate.into(), words: "x".into() };
        let seen = |sqlstate| explained(said(sqlstate), &PidFile::default(), "postgres", Deadline::after(QUEUE));
        assert!(["58030", "XX001"].iter().all(|code| matches!(seen(code), Contact::Mute(_))));
        assert!(matches!(seen("28000"), Contact::Closed(Closed::Refused, _)));
    }

    #[test]
    fn a_server_without_a_socket_is_starting_stopping_or_mute() {
        let young = PidFile::default();
        assert!(matches!(without_socket(&young, "x"), Contact::Closed(Closed::Starting, _)));
        let grown = PidFile { socket_directory: Some("/tmp".into()), ..PidFile::default() };
        assert!(matches!(without_socket(&grown, "x"), Contact::Mute(_)));
        assert!(matches!(
            without_socket(&PidFile { stopping: true, ..grown }, "x"),
            Contact::Closed(Closed::Stopping, _)
        ));
    }
}
