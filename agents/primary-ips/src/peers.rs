//! Whether the other nodes have the same list: asked before a failover needs it.

use std::time::Duration;

use ocf::{Run, uptime};

use crate::list::List;

/// How old another node's word about its list may be. Asking costs a process, a monitor otherwise starts none.
const WORD_OF_PEERS: Duration = Duration::from_secs(60);
/// The same once the lists differ: who copies the file wants to see that it helped.
const WORD_OF_DIFFERING_PEERS: Duration = Duration::from_secs(10);
/// How long lists may differ before that is worth a word: an edit of the file on all nodes takes a person some seconds,
/// and the nodes' monitors see it one after the other.
const EDIT_GOES_ROUND: Duration = Duration::from_secs(30);
/// When the lists were first seen to differ.
const SINCE: &str = "differs";

/// The node attribute that holds the digest of a node's list.
pub(crate) fn list_attribute(run: &Run) -> String {
    format!("{}-ip-list", run.environment.resource())
}

/// How another node's list differs from this one's, if one does for longer than an edit takes to go round.
pub(crate) fn difference(run: &Run, own: &List) -> Option<String> {
    if own.fault.is_some() {
        return None;
    }
    let differing = |age| {
        let told = run.cluster().attribute_of_all(&list_attribute(run), age);
        told.into_iter().find(|(node, digest)| {
            Some(node.as_str()) != run.environment.node() && !digest.is_empty() && *digest != own.id.digest
        })
    };
    let Some((node, digest)) = differing(WORD_OF_PEERS).and_then(|_| differing(WORD_OF_DIFFERING_PEERS)) else {
        let _ = run.store.remove(SINCE);
        return None;
    };
    let theirs = digest.split_once(':').map_or(digest.as_str(), |(count, _)| count);
    let own = own.entries.len();
    run.log.debug(&format!("the list of {node} is another one"));
    lasting(run).then(|| {
        format!("the list of {node} is another one, {theirs} addresses against {own} here: copy the right one")
    })
}

/// Whether the lists have differed for long enough; begins to count if they did not before.
fn lasting(run: &Run) -> bool {
    let since = run.store.read(SINCE).ok().flatten().and_then(|since| since.parse().ok()).map(Duration::from_secs);
    if let Some(age) = since.and_then(|since| uptime().checked_sub(since)) {
        return age >= EDIT_GOES_ROUND;
    }
    if let Err(error) = run.store.write(SINCE, &uptime().as_secs().to_string()) {
        run.log.warning(&format!("{error:#}"));
    }
    false
}
