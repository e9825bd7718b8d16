//! Where the servers of the cluster are: parameter `primary_hosts`.

/// The nodes' addresses, or one that moves with the primary.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// Nobody said.
    #[default]
    Unknown,
    /// One address that moves with the primary.
    Moving(String),
    /// Node name and address of each.
    Each(Vec<(String, String)>),
}

const EXPECTED: &str = "NODE:ADDRESS for each node (n1:192.0.2.1 n2:192.0.2.2), or one address that moves, is expected";

impl Hosts {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split([' ', ',', '\t', '\n']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            [] => Ok(Self::Unknown),
            [one] if one.parse::<std::net::IpAddr>().is_ok() || !one.contains(':') => {
                address(one).map(Self::Moving).ok_or_else(|| format!("{one:?} is no address; {EXPECTED}"))
            }
            _ => words.iter().map(|word| pair(word)).collect::<Result<_, _>>().map(Self::Each),
        }
    }

    /// The addresses where `node` may find a primary that is not itself.
    pub(crate) fn others(&self, node: &str) -> Vec<&str> {
        match self {
            Self::Unknown => Vec::new(),
            Self::Moving(address) => vec![address],
            Self::Each(pairs) => pairs.iter().filter(|(name, _)| name != node).map(|(_, at)| at.as_str()).collect(),
        }
    }

    /// The address of a node, as far as it was given.
    pub(crate) fn of(&self, node: &str) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Moving(address) => Some(address),
            Self::Each(pairs) => pairs.iter().find(|(name, _)| name == node).map(|(_, at)| at.as_str()),
        }
    }

    /// The names of the other nodes, as far as they were given.
    pub(crate) fn other_nodes(&self, node: &str) -> Vec<&str> {
        match self {
            Self::Unknown | Self::Moving(_) => Vec::new(),
            Self::Each(pairs) => pairs.iter().map(|(name, _)| name.as_str()).filter(|name| *name != node).collect(),
        }
    }
}

fn pair(word: &str) -> Result<(String, String), String> {
    let (node, at) = word.split_once(':').ok_or_else(|| format!("{word:?} names no node; {EXPECTED}"))?;
    let at = at.strip_prefix('[').and_then(|at| at.strip_suffix(']')).unwrap_or(at);
    match address(at) {
        Some(at) if !node.is_empty() => Ok((node.to_owned(), at)),
        _ => Err(format!("{word:?} is not NODE:ADDRESS; {EXPECTED}")),
    }
}

/// Nothing that would mean something else in a connection string: no quote, no comma, no port.
fn address(text: &str) -> Option<String> {
    let sound = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    (!text.is_empty() && text.chars().all(sound)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_single_addresses() {
        assert_eq!(Hosts::parse(" ").unwrap(), Hosts::Unknown);
        assert_eq!(Hosts::parse("192.0.2.9").unwrap(), Hosts::Moving("192.0.2.9".into()));
        assert_eq!(Hosts::parse("2001:db8::9").unwrap(), Hosts::Moving("2001:db8::9".into()));
        let hosts = Hosts::parse("n1:192.0.2.1, n2:[2001:db8::2] n3:db3.example").unwrap();
        assert_eq!(hosts.others("n1"), ["2001:db8::2", "db3.example"]);
        assert_eq!(hosts.other_nodes("n3"), ["n1", "n2"]);
        assert_eq!((hosts.of("n1"), hosts.of("stranger")), (Some("192.0.2.1"), None));
        assert_eq!(hosts.others("stranger").len(), 3);
        assert_eq!(Hosts::parse("192.0.2.9").unwrap().others("n1"), ["192.0.2.9"]);
    }

    #[test]
    fn what_could_end_a_connection_string_is_refused() {
        for text in ["n1:", ":192.0.2.1", "n1:a'b n2:c", "n1:192.0.2.1 n2", "a b", "n1:x=y", "it's"] {
            let error = Hosts::parse(text).unwrap_err();
            assert!(error.contains("is expected"), "{text}: {error}");
        }
    }
}
