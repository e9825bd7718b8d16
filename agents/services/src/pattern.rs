//! Names of services with wild cards, as a shell has them: `*` any characters, `?` one.

/// A list of patterns, divided by blanks or commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Patterns(Vec<String>);

impl Patterns {
    pub(crate) fn parse(text: &str) -> Self {
        let words = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty());
        Self(words.map(str::to_owned).collect())
    }

    /// Whether one of them matches the whole of `name`.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| glob(pattern.as_bytes(), name.as_bytes()))
    }
}

/// A name in the scan directory has no slash, and svscan passes over those that begin with a dot.
pub(crate) fn is_patterns(text: &str) -> Result<(), String> {
    match Patterns::parse(text).0.iter().find(|pattern| pattern.contains('/') || pattern.starts_with('.')) {
        Some(wrong) => Err(format!("{wrong:?} matches no service: names have no slash and do not begin with a dot")),
        None => Ok(()),
    }
}

/// Goes back to the last `*` only: what an earlier one could match, the last can match too.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, matched) in [
            ("hvmail-*", "hvmail-httpd", true),
            ("hvmail-*", "hvmail-", true),
            ("hvmail-*", "xhvmail-httpd", false),
            ("hvmail-httpd", "hvmail-httpd", true),
            ("hvmail-httpd", "hvmail-httpd2", false),
            ("*smtpd?", "hvmail-qmail-smtpd2", true),
            ("*smtpd?", "hvmail-qmail-smtpd", false),
            ("*a*b*", "xxaybzb", true),
            ("*a*b", "xxaybz", false),
            ("*", "", true),
            ("?", "", false),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn a_list_matches_when_one_of_it_does() {
        let patterns = Patterns::parse(" hvmail-a, hvmail-b*\n");
        assert!(patterns.matches("hvmail-a") && patterns.matches("hvmail-bc") && !patterns.matches("hvmail-c"));
        assert!(!Patterns::parse("").matches("hvmail-a"));
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused() {
        assert!(is_patterns("hvmail-* other").is_ok());
        assert!(is_patterns("/service/hvmail-*").is_err() && is_patterns(".x").is_err());
    }
}
