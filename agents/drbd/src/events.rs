//! What `drbdsetup events2 --now --statistics RESOURCE` prints (drbdsetup-events2(8)): a line an object, `exists -` last.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::model::{Connection, Disk, Peer, PeerVolume, Replication, Resource, Role, Volume, shown};

/// More volumes or peers than DRBD has (65536 minors, 32 peers) are not read.
const MOST: usize = 65_536;

/// The resource of that name; None when it is not up. An error when the output is not whole: nobody knows then.
pub(crate) fn read(text: &str, name: &str) -> Result<Option<Resource>> {
    let mut resource: Option<Resource> = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("exists") {
            continue;
        }
        let kind = words.next().unwrap_or_default();
        if kind == "-" {
            return Ok(resource);
        }
        let fields: Fields = words.filter_map(|word| word.split_once(':')).collect();
        if fields.get("name") == Some(&name) {
            take(&mut resource, kind, &fields);
        }
    }
    bail!("drbdsetup events2 did not end with \"exists -\": what it said is not whole")
}

type Fields<'a> = BTreeMap<&'a str, &'a str>;

fn take(resource: &mut Option<Resource>, kind: &str, fields: &Fields) {
    let word = |name| fields.get(name).copied().unwrap_or_default();
    let number = |name: &str| fields.get(name).and_then(|text| text.parse().ok());
    let yes = |name| word(name) == "yes";
    let (volume, peer) = (number("volume"), number("peer-node-id"));
    if kind == "resource" {
        let (suspended, failing_io) = (reasons(word("suspended")), yes("force-io-failures"));
        let (volumes, peers) = (BTreeMap::new(), BTreeMap::new());
        *resource = Some(Resource { role: Role::parse(word("role")), suspended, failing_io, volumes, peers });
    }
    let Some(resource) = resource else { return };
    match (kind, volume, peer) {
        ("device", Some(volume), _) if resource.volumes.len() < MOST => {
            let disk = Disk::parse(word("disk"));
            let one = Volume { minor: number("minor"), disk, client: yes("client"), quorum: word("quorum") != "no" };
            resource.volumes.insert(volume, one);
        }
        ("connection", _, Some(peer)) if resource.peers.len() < MOST => {
            let name = fields.get("conn-name").map(|name| shown(name));
            let (connection, role) = (Connection::parse(word("connection")), Role::parse(word("role")));
            resource.peers.insert(peer, Peer { name, connection, role, volumes: BTreeMap::new() });
        }
        ("peer-device", Some(volume), Some(peer)) => {
            let Some(peer) = resource.peers.get_mut(&peer) else { return };
            let one = PeerVolume {
                replication: Replication::parse(word("replication")),
                disk: Disk::parse(word("peer-disk")),
                client: yes("peer-client"),
                resync_suspended: reasons(word("resync-suspended")),
                out_of_sync: fields.get("out-of-sync").and_then(|kib| kib.parse().ok()),
                done: fields.get("done").map(|done| shown(done)),
                eta: fields.get("eta").and_then(|seconds| seconds.parse().ok()),
            };
            if peer.volumes.len() < MOST {
                peer.volumes.insert(volume, one);
            }
        }
        // Paths, and what a later DRBD may add.
        _ => {}
    }
}

/// `no`, or why, divided by commas.
fn reasons(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !matches!(*word, "" | "no")).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drbd_9_with_three_nodes_is_read() {
        let text = "\
exists resource name:mail role:Primary suspended:quorum,user force-io-failures:no may_promote:no promotion_score:10103\n\
exists connection name:mail peer-node-id:1 conn-name:n2 connection:Connected role:Secondary tls:no\n\
exists connection name:mail peer-node-id:2 conn-name:n3 connection:Connecting role:Unknown\n\
exists device name:mail volume:0 minor:1000 backing_dev:/dev/vg/mail disk:UpToDate client:no open:yes quorum:no\n\
exists path name:mail peer-node-id:1 conn-name:n2 local:ipv4:10.0.0.1:7000 peer:ipv4:10.0.0.2:7000 established:yes\n\
exists peer-device name:mail peer-node-id:1 conn-name:n2 volume:0 replication:SyncSource peer-disk:Inconsistent \
peer-client:no resync-suspended:user done:12.50 out-of-sync:100 eta:33\n\
exists peer-device name:mail peer-node-id:2 conn-name:n3 volume:0 replication:Off peer-disk:DUnknown peer-client:no \
resync-suspended:no\nexists -\n";
        let mail = read(text, "mail").unwrap().unwrap();
        assert_eq!((mail.role, mail.suspended), (Role::Primary, vec!["quorum".to_owned(), "user".into()]));
        assert_eq!(mail.volumes[&0].minor, Some(1000));
        assert!(!mail.volumes[&0].quorum && !mail.volumes[&0].client);
        let syncing = &mail.peers[&1].volumes[&0];
        assert_eq!((syncing.done.as_deref(), syncing.eta, syncing.out_of_sync), (Some("12.50"), Some(33), Some(100)));
        assert_eq!(mail.peers[&2].called(), "peer n3");
        assert_eq!(mail.peers[&2].connection, Connection::Connecting);
    }

    #[test]
    fn an_output_that_is_not_whole_is_no_answer() {
        assert!(read("", "r0").is_err());
        assert!(read("exists resource name:r0 role:Primary suspended:no\n", "r0").is_err());
        assert_eq!(read("exists -\n", "r0").unwrap(), None);
    }

    #[test]
    fn other_resources_are_none_of_ours() {
        let text = "exists resource name:r1 role:Primary suspended:no\nexists -\n";
        assert_eq!(read(text, "r0").unwrap(), None);
    }

    #[test]
    fn a_word_of_a_later_drbd_is_kept() {
        let text = "exists resource name:r0 role:Tertiary suspended:no\n\
                    exists device name:r0 volume:0 minor:0 disk:Quantum\nexists -\n";
        assert_eq!(read(text, "r0").unwrap().unwrap().foreign(), ["Tertiary", "Quantum"]);
    }
}
