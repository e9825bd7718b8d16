//! The table of an agent's parameters: what is parsed, checked, described in XML, in the man page and in the help.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::outcome::{Failure, Kind};

/// One parameter. Written as a constant: `Parameter { name: "nic", …, ..Parameter::TEXT }`.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name; Pacemaker hands the value over as `OCF_RESKEY_name`.
    pub name: &'static str,
    /// Earlier names that are still understood; the first that is set counts, after `name` itself.
    pub deprecated: &'static [&'static str],
    /// What its values may be.
    pub content: Content,
    /// The value when none is set. None: there is no value then.
    pub default: Option<&'static str>,
    /// Whether it must be set.
    pub required: bool,
    /// Parameters of one group must, taken together, differ between any two resources.
    pub unique_group: Option<&'static str>,
    /// Whether a change can be taken up by reload-agent, without a restart.
    pub reloadable: bool,
    /// A few words.
    pub short: &'static str,
    /// Whole sentences; a blank line begins a new paragraph.
    pub long: &'static str,
}

/// What a parameter's values may be.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// Any text.
    Text,
    /// An absolute path.
    Path,
    /// A whole number within these bounds.
    Integer(i64, i64),
    /// A time as Pacemaker writes it (`200ms`, `2s`, `1min`, a bare number of seconds), within bounds in milliseconds.
    Time(u64, u64),
    /// One of the words that OCF agents take for yes or no.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Text that this function accepts; otherwise it says what is expected.
    Checked(fn(&str) -> Result<(), String>),
}

impl Parameter {
    /// A text without default, optional, not reloadable: what a table line starts from.
    pub const TEXT: Self = Self {
        name: "",
        deprecated: &[],
        content: Content::Text,
        default: None,
        required: false,
        unique_group: None,
        reloadable: false,
        short: "",
        long: "",
    };
}

/// What every agent of this library understands besides its own parameters.
pub(crate) const FOR_ALL_AGENTS: &[Parameter] = &[
    Parameter {
        name: "trace_ra",
        content: Content::Boolean,
        default: Some("false"),
        reloadable: true,
        short: "Write a trace of each action",
        long: "Whether each action writes its steps, with their times, into a file of its own below \
               /var/lib/heartbeat/trace_ra. For looking into a fault; the files are never removed by the agent.",
        ..Parameter::TEXT
    },
    Parameter {
        name: "trace_file",
        content: Content::Path,
        reloadable: true,
        short: "File of the trace",
        long: "With trace_ra, the file that every action appends its steps to, instead of a file for each action.",
        ..Parameter::TEXT
    },
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    Integer(i64),
    Time(Duration),
    Boolean(bool),
}

/// The checked values of an agent's parameters.
#[derive(Debug, Default)]
pub struct Values {
    known: BTreeMap<&'static str, Value>,
    set: Vec<&'static str>,
    wrong: Vec<(&'static str, String)>,
}

impl Values {
    /// Checks `given` (name and value as they came) against the table. Every wrong value is named, not only the first.
    pub fn check(table: &[Parameter], given: &BTreeMap<String, String>) -> Result<Self, Failure> {
        let values = Self::forgive(table, given);
        match values.wrong() {
            None => Ok(values),
            Some(wrong) => Err(Failure::new(Kind::Configured, wrong)),
        }
    }

    /// The same with the default in place of each wrong value; [`Self::wrong`] names them.
    pub fn forgive(table: &[Parameter], given: &BTreeMap<String, String>) -> Self {
        let mut values = Self::default();
        let mut wrong = Vec::new();
        for parameter in FOR_ALL_AGENTS.iter().chain(table) {
            let names = std::iter::once(&parameter.name).chain(parameter.deprecated);
            let found = names.filter_map(|name| Some((*name, given.get(*name)?))).find(|(_, text)| !text.is_empty());
            if found.is_some() {
                values.set.push(parameter.name);
            } else if parameter.required {
                let reason = format!("parameter {} is not set; it is required: {}", parameter.name, parameter.short);
                wrong.push((parameter.name, reason));
            }
            let mut take = |name: &str, text: &str| match parameter.content.parse(text) {
                Ok(value) => {
                    values.known.insert(parameter.name, value);
                    true
                }
                Err(expected) => {
                    wrong.push((parameter.name, format!("parameter {name}={text:?} is wrong: {expected}")));
                    false
                }
            };
            if !found.is_some_and(|(name, text)| take(name, text)) {
                parameter.default.map(|text| take(parameter.name, text));
            }
        }
        Self { wrong, ..values }
    }

    /// What is wrong with the parameters, if anything is. An action that makes something active never sees this; one
    /// that looks at what is active, or takes it down, must get by with what is right.
    pub fn wrong(&self) -> Option<String> {
        let reasons: Vec<&str> = self.wrong.iter().map(|(_, reason)| reason.as_str()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Whether the parameter's value is wrong, so that its default stands in its place.
    pub fn is_wrong(&self, name: &str) -> bool {
        self.wrong.iter().any(|(wrong, _)| *wrong == name)
    }

    /// Whether the parameter was given a value, be it that of its default.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains(&name)
    }

    /// The value of a text, path or choice that has a default or was set.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.known.get(name)? {
            Value::Text(text) => Some(text),
            other => unreachable!("{name} is declared as another content than text: {other:?}"),
        }
    }

    /// The value of an integer with a default.
    ///
    /// # Panics
    /// When the table declares no such integer: a mistake in the agent, found by its first test.
    pub fn integer(&self, name: &str) -> i64 {
        match self.known.get(name) {
            Some(Value::Integer(number)) => *number,
            other => unreachable!("{name} is not declared as an integer with a default: {other:?}"),
        }
    }

    /// The value of a time with a default.
    ///
    /// # Panics
    /// When the table declares no such time.
    pub fn time(&self, name: &str) -> Duration {
        match self.known.get(name) {
            Some(Value::Time(time)) => *time,
            other => unreachable!("{name} is not declared as a time with a default: {other:?}"),
        }
    }

    /// The value of a boolean with a default.
    ///
    /// # Panics
    /// When the table declares no such boolean.
    pub fn boolean(&self, name: &str) -> bool {
        match self.known.get(name) {
            Some(Value::Boolean(yes)) => *yes,
            other => unreachable!("{name} is not declared as a boolean with a default: {other:?}"),
        }
    }
}

impl Content {
    /// The value, or what was expected instead.
    fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        match self {
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Checked(check) => check(text).map(|()| Value::Text(text.to_owned())),
            Self::Path if text.starts_with('/') => Ok(Value::Text(text.to_owned())),
            Self::Path => Err("an absolute path is expected, one that begins with /".to_owned()),
            Self::Integer(least, most) => match text.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(Value::Integer(number)),
                _ => Err(format!("a whole number from {least} to {most} is expected")),
            },
            Self::Time(least, most) => match parse_time(text) {
                Some(time) if (least..=most).contains(&time) => Ok(Value::Time(Duration::from_millis(time))),
                _ => {
                    let (least, most) = (shown_time(least), shown_time(most));
                    Err(format!("a time from {least} to {most} is expected, such as 200ms or 2s"))
                }
            },
            Self::Boolean => match parse_boolean(text) {
                Some(yes) => Ok(Value::Boolean(yes)),
                None => Err("true or false is expected".to_owned()),
            },
            Self::Choice(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(text)) {
                Some(word) => Ok(Value::Text((*word).to_owned())),
                None => Err(format!("one of {} is expected", words.join(", "))),
            },
        }
    }

    /// The content type in the meta-data. The DTD's `time` is not in the OCF 1.1 RNG, the RNG's `select` not in the DTD.
    pub(crate) fn xml_type(self) -> &'static str {
        match self {
            Self::Text | Self::Path | Self::Time(..) | Self::Choice(_) | Self::Checked(_) => "string",
            Self::Integer(..) => "integer",
            Self::Boolean => "boolean",
        }
    }

    /// Which values there are, as far as the content type does not say it.
    pub(crate) fn values(self) -> Option<String> {
        match self {
            Self::Text | Self::Path | Self::Boolean | Self::Checked(_) => None,
            Self::Integer(least, most) => Some(format!("{least} to {most}")),
            Self::Time(least, most) => Some(format!("{} to {}", shown_time(least), shown_time(most))),
            Self::Choice(words) => Some(words.join(", ")),
        }
    }
}

/// Milliseconds as [`parse_time`] reads them.
fn shown_time(millis: u64) -> String {
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

/// The words of `ocf_is_true` in resource-agents and of `crm_str_to_boolean` in Pacemaker.
pub(crate) fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" | "y" | "ja" => Some(true),
        "false" | "no" | "off" | "0" | "n" | "nein" => Some(false),
        _ => None,
    }
}

/// Milliseconds of a time as Pacemaker writes it; the units are those of its `crm_get_msec`.
pub fn parse_time(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let factor = match text[digits..].trim() {
        "ms" | "msec" => 1,
        "" | "s" | "sec" => 1000,
        "m" | "min" => 60_000,
        "h" | "hr" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Parameter] = &[
        Parameter { name: "file", content: Content::Path, default: Some("/etc/x"), ..Parameter::TEXT },
        Parameter { name: "count", content: Content::Integer(1, 9), default: Some("5"), ..Parameter::TEXT },
        Parameter { name: "pause", content: Content::Time(10, 60_000), default: Some("1s"), ..Parameter::TEXT },
        Parameter {
            name: "mode",
            deprecated: &["old_mode", "older_mode"],
            content: Content::Choice(&["fail", "off"]),
            default: Some("fail"),
            ..Parameter::TEXT
        },
        Parameter { name: "flag", content: Content::Boolean, default: Some("no"), ..Parameter::TEXT },
        Parameter { name: "node", required: true, short: "which node", ..Parameter::TEXT },
        Parameter { name: "nic", ..Parameter::TEXT },
        Parameter { name: "even", content: Content::Checked(even), ..Parameter::TEXT },
    ];

    fn even(text: &str) -> Result<(), String> {
        if text.len().is_multiple_of(2) { Ok(()) } else { Err("an even number of letters is expected".to_owned()) }
    }

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn defaults_stand_where_nothing_is_set() {
        let values = Values::check(TABLE, &given(&[("node", "a")])).unwrap();
        assert_eq!(values.text("file"), Some("/etc/x"));
        assert_eq!(values.integer("count"), 5);
        assert_eq!(values.time("pause"), Duration::from_secs(1));
        assert_eq!(values.text("nic"), None);
        assert!(!values.boolean("flag") && !values.is_set("flag") && values.is_set("node"));
    }

    #[test]
    fn a_checked_text_says_itself_what_is_expected() {
        let failure = Values::check(TABLE, &given(&[("node", "a"), ("even", "odd")])).unwrap_err();
        assert!(failure.reason().contains("even=\"odd\" is wrong: an even number of letters"), "{failure}");
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let values = Values::check(TABLE, &given(&[("node", "a"), ("count", "")])).unwrap();
        assert_eq!(values.integer("count"), 5);
        assert!(!values.is_set("count"));
    }

    #[test]
    fn every_wrong_value_is_named_at_once() {
        let failure =
            Values::check(TABLE, &given(&[("file", "etc/x"), ("count", "10"), ("mode", "maybe")])).unwrap_err();
        assert_eq!(failure.kind(), Kind::Configured);
        for part in
            ["file=\"etc/x\"", "begins with /", "from 1 to 9", "one of fail, off", "node is not set", "which node"]
        {
            assert!(failure.reason().contains(part), "{part} not in {}", failure.reason());
        }
    }

    #[test]
    fn a_forgiving_action_goes_on_with_the_defaults() {
        let values = Values::forgive(TABLE, &given(&[("count", "many")]));
        assert_eq!(values.integer("count"), 5);
        assert!(values.is_wrong("count") && values.is_wrong("node") && !values.is_wrong("mode"));
        assert!(values.wrong().unwrap().contains("count=\"many\""));
    }

    #[test]
    fn a_deprecated_name_is_understood_and_yields_to_the_real_one() {
        let values = Values::check(TABLE, &given(&[("node", "a"), ("old_mode", "OFF")])).unwrap();
        assert_eq!(values.text("mode"), Some("off"));
        let values = Values::check(TABLE, &given(&[("node", "a"), ("older_mode", "off"), ("mode", "fail")])).unwrap();
        assert_eq!(values.text("mode"), Some("fail"));
    }

    #[test]
    fn times_and_booleans_are_those_of_pacemaker() {
        for (text, millis) in [("200ms", 200), ("2", 2000), ("2s", 2000), ("1min", 60_000), ("1 h", 3_600_000)] {
            assert_eq!(parse_time(text), Some(millis), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "99999999999999999999s", "9999999999999999h"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_boolean("Yes"), Some(true));
        assert_eq!(parse_boolean("0"), Some(false));
        assert_eq!(parse_boolean("maybe"), None);
    }
}
