//! Logs from a time on. They are cut when their secrets are out: a word that an earlier line calls a password is one in the
//! later lines too.

use anyhow::{Result, bail};
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{Span, ToSpan, Zoned};

/// Pieces whose lines begin with a time.
const LOGS: [&str; 3] = ["pacemaker.log", "corosync.log", "journal.txt"];
/// Characters of `Nov 26 15:42:31`, which is how all of them write it, without a year and in local time.
const STAMP: usize = 15;

/// A time, or so long ago: `2026-11-26 15:00`, `2h`, `3 days`.
pub(super) fn parse(text: &str, now: &Zoned) -> Result<Zoned> {
    let text = text.trim();
    let since = match (text.parse::<DateTime>(), text.parse::<Span>()) {
        (Ok(at), _) => at.to_zoned(now.time_zone().clone())?,
        (_, Ok(span)) => now.checked_sub(span.abs())?,
        _ => bail!("{text:?} is no time: 2026-11-26 15:00 and 2h, which is so long ago, are"),
    };
    if since > *now {
        bail!("{text:?} has not come yet");
    }
    Ok(since)
}

/// The present, where the logs are written.
pub(super) fn now() -> Zoned {
    Zoned::now().with_time_zone(TimeZone::system())
}

/// Of a log what is later; anything else as it is.
pub(super) fn cut(name: &str, mut text: Vec<u8>, since: &Zoned, now: &Zoned) -> Vec<u8> {
    if !LOGS.iter().any(|log| name.ends_with(log)) {
        return text;
    }
    let mut start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        // A line without a time goes on with what the one before said.
        if stamp(line, now).is_some_and(|at| at >= *since) {
            break;
        }
        start += line.len();
    }
    text.drain(..start);
    text
}

/// The time of a line: of this year, or the last where that would not have come yet. A clock may be ahead by some hours.
fn stamp(line: &[u8], now: &Zoned) -> Option<Zoned> {
    let text = std::str::from_utf8(line.get(..STAMP)?).ok()?;
    let of = |year: i16| {
        let broken = BrokenDownTime::parse("%Y %b %d %H:%M:%S", format!("{year} {text}")).ok()?;
        broken.to_datetime().ok()?.to_zoned(now.time_zone().clone()).ok()
    };
    let limit = now.checked_add(1.day()).ok()?;
    of(now.year()).filter(|at| *at <= limit).or_else(|| of(now.year() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse::<DateTime>().unwrap().to_zoned(TimeZone::UTC).unwrap()
    }

    #[test]
    fn a_time_is_told_or_counted_back() {
        let now = at("2026-01-02T12:00");
        for (text, expected) in [
            ("2h", "2026-01-02T10:00"),
            ("90min", "2026-01-02T10:30"),
            ("3 days", "2025-12-30T12:00"),
            ("2026-01-01 23:30", "2026-01-01T23:30"),
            ("2026-01-01 23:30:15", "2026-01-01T23:30:15"),
            ("2026-01-01", "2026-01-01T00:00"),
        ] {
            assert_eq!(parse(text, &now).unwrap(), at(expected), "{text}");
        }
        for text in ["", "soon", "2", "2026-01-03 00:00", "25:00"] {
            assert!(parse(text, &now).is_err(), "{text}");
        }
    }

    #[test]
    fn a_log_begins_with_the_first_line_that_is_late_enough() {
        let (now, log) =
            (at("2026-01-02T12:00"), b"half a line\nDec 31 23:59:59.1 n1 a\n more\nJan  1 00:00:00 n1 b\n c\n");
        let after =
            |since: &str| String::from_utf8(cut("var/log/pacemaker.log", log.to_vec(), &at(since), &now)).unwrap();
        assert_eq!(after("2026-01-01T00:00"), "Jan  1 00:00:00 n1 b\n c\n");
        assert_eq!(after("2025-12-31T12:00"), "Dec 31 23:59:59.1 n1 a\n more\nJan  1 00:00:00 n1 b\n c\n");
        assert_eq!(after("2026-01-02T00:00"), "");
        assert_eq!(cut("cib.xml", b"Dec 31 23:59:59".to_vec(), &now, &now), b"Dec 31 23:59:59");
    }
}
