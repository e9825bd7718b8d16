//! What the three forms have in common: the words above the configuration, and how a value is quoted.

use crate::configure::agents::Operation;
use crate::configure::model::{Model, Pair};

/// sh and crm go on in the next line after a backslash.
pub(crate) const NEXT: &str = " \\\n    ";

/// Columns of what is shown on a terminal.
pub(crate) const NARROW: usize = 80;
/// Columns of a printed configuration.
const WIDTH: usize = 109;

/// Above the configuration, line by line: what it is, and what breaks without fencing. In no line are there two hyphens in a
/// row: a comment of XML has none (XML 1.0, 2.5), and crmsh makes one of each of its own.
pub(crate) fn heading(model: &Model, apply: &[&str]) -> Vec<String> {
    let mut lines =
        vec![format!("Printed by hvmail_ha configure, version {}. Nothing was applied.", env!("CARGO_PKG_VERSION"))];
    lines.extend(apply.iter().map(|line| (*line).to_owned()));
    if model.chain.iter().any(|member| member.primitive.kind == "services") {
        lines.push("On every node before that: systemctl disable greenarrow".to_owned());
    }
    if model.fences.iter().any(|fence| !fence.parameters.is_empty()) {
        lines.push("There may be passwords in here: keep it from others.".to_owned());
    }
    if !model.fencing {
        lines.push(String::new());
        lines.push("WITHOUT FENCING (stonith-enabled=false). What will break:".to_owned());
        lines.extend(model.breaks.iter().flat_map(|what| wrapped(what, WIDTH)));
        lines.push("Add a device for each node, and stonith-enabled=true, before anybody relies on this.".to_owned());
    }
    lines
}

/// An item of a list within so many columns.
pub(crate) fn wrapped(item: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![" -".to_owned()];
    for word in item.split_whitespace() {
        if lines.last().is_some_and(|line| line.chars().count() + word.chars().count() + 1 > columns) {
            lines.push("  ".to_owned());
        }
        lines.last_mut().into_iter().for_each(|line| line.extend([" ", word]));
    }
    lines
}

/// A word for sh, and for crm, which splits its lines by the same rules (Python's shlex, in POSIX mode).
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `NAME=VALUE`, the value quoted.
pub(crate) fn assigned(name: &str, value: &str) -> String {
    format!("{name}={}", quoted(value))
}

pub(crate) fn listed(pairs: &[Pair]) -> String {
    pairs.iter().flat_map(|(name, value)| [" ".to_owned(), assigned(name, value)]).collect()
}

/// An operation in the words of crm and of pcs. The check level is an instance attribute, which has to be the last.
pub(crate) fn operation(one: &Operation) -> String {
    let Operation { name, interval, timeout, .. } = one;
    let role = one.role.as_ref().map_or_else(String::new, |role| format!(" role={role}"));
    let level = one.level.as_ref().map_or_else(String::new, |level| format!(" OCF_CHECK_LEVEL={level}"));
    format!("{name} interval={interval} timeout={timeout}{role}{level}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_word_again() {
        for (value, word) in [
            ("60s", "60s"),
            ("n1:192.0.2.1 n2:192.0.2.2", "'n1:192.0.2.1 n2:192.0.2.2'"),
            ("", "''"),
            ("hvmail-*", "'hvmail-*'"),
            ("a'b\"c\\$d`e#", "'a'\\''b\"c\\$d`e#'"),
        ] {
            assert_eq!(quoted(value), word);
        }
        assert_eq!(assigned("password", "it's"), "password='it'\\''s'");
    }

    #[test]
    fn a_list_is_wrapped_below_its_dash() {
        let lines = wrapped(&"word ".repeat(60), WIDTH);
        assert!(lines.len() == 3 && lines[0].starts_with(" - word") && lines[1].starts_with("   word"), "{lines:?}");
        assert!(lines.iter().all(|line| line.len() <= 110));
    }
}
