//! Netlink datagrams taken apart: pure functions from bytes, which may be any bytes.

use std::fmt;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_ALIGNTO, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
    NetlinkBuffer, NlasIterator,
};

/// `struct nlmsghdr` (linux/netlink.h): also what an error repeats of the request it answers.
const HEADER_LENGTH: usize = 16;
/// The kernel's own sentence in an error (linux/netlink.h, `enum nlmsgerr_attrs`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel's no to a request: the error number and, where the kernel gave one, its own sentence (NETLINK_EXT_ACK).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What the kernel answered.
    pub(crate) errno: Errno,
    /// The kernel's explanation, for instance "ipv4: Address already assigned".
    pub(crate) said: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.errno.desc(), self.errno)?;
        self.said.iter().try_for_each(|said| write!(f, ", kernel: \"{said}\""))
    }
}

impl std::error::Error for Refusal {}

/// One message of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The sequence number of the request that this answers.
    pub(crate) sequence: u32,
    /// The list changed while the kernel was writing it: entries may be missing or doubled (`nl_dump_check_consistent`
    /// in include/net/netlink.h).
    pub(crate) interrupted: bool,
    /// What it says.
    pub(crate) content: Content<'a>,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// An object of the protocol: its message type and its bytes.
    Entry {
        /// For instance RTM_NEWADDR.
        kind: u16,
        /// The family's header and the attributes.
        payload: &'a [u8],
    },
    /// Nothing more will follow for this request.
    End(Result<(), Refusal>),
    /// The kernel says that it has lost answers.
    Overrun,
    /// Filler.
    Nothing,
}

/// The messages of a datagram, in order. A message that is not whole ends the iteration with an error.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (message, length) = match first_message(rest) {
            Ok(whole) => whole,
            Err(error) => {
                rest = &[];
                return Some(Err(error));
            }
        };
        rest = rest.get(length.next_multiple_of(usize::from(NLMSG_ALIGNTO))..).unwrap_or_default();
        Some(Ok(message))
    })
}

fn first_message(bytes: &[u8]) -> Result<(Message<'_>, usize)> {
    let packet = NetlinkBuffer::new_checked(bytes)?;
    let (flags, payload) = (packet.flags(), packet.payload());
    let content = match packet.message_type() {
        NLMSG_NOOP => Content::Nothing,
        NLMSG_OVERRUN => Content::Overrun,
        NLMSG_DONE => Content::End(verdict(payload, flags, 0)?),
        NLMSG_ERROR => Content::End(verdict(payload, flags, repeated_request(payload, flags)?)?),
        kind => Content::Entry { kind, payload },
    };
    let message = Message { sequence: packet.sequence_number(), interrupted: flags & NLM_F_DUMP_INTR != 0, content };
    Ok((message, HEADER_LENGTH + payload.len()))
}

/// How many bytes of the request an NLMSG_ERROR repeats after the error number: the header, or all of it where the
/// kernel does not know NETLINK_CAP_ACK (`netlink_ack` in net/netlink/af_netlink.c).
fn repeated_request(payload: &[u8], flags: u16) -> Result<usize> {
    if flags & NLM_F_CAPPED != 0 {
        return Ok(HEADER_LENGTH);
    }
    let length = number(payload.get(4..8).context("netlink error without the request it answers")?)?;
    Ok(usize::try_from(length)?.max(HEADER_LENGTH))
}

/// The error number that NLMSG_ERROR and NLMSG_DONE begin with, and the kernel's sentence behind `skipped` bytes.
fn verdict(payload: &[u8], flags: u16, skipped: usize) -> Result<Result<(), Refusal>> {
    // Kernels before 2.6.36 ended a dump with an empty NLMSG_DONE.
    let Some(code) = payload.get(..4) else { return Ok(Ok(())) };
    let code = number(code)?.cast_signed();
    if code == 0 {
        return Ok(Ok(()));
    }
    let mut said = None;
    if flags & NLM_F_ACK_TLVS != 0 {
        let start = (4 + skipped).next_multiple_of(usize::from(NLMSG_ALIGNTO));
        for attribute in attributes(payload.get(start..).unwrap_or_default()) {
            if let (NLMSGERR_ATTR_MSG, text) = attribute? {
                said = Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
            }
        }
    }
    Ok(Err(Refusal { errno: Errno::from_raw(code.saturating_neg()), said }))
}

/// The attributes behind a family's header, as type and value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8])>> {
    NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        // NlasIterator has checked that the length lies within the bytes.
        Ok((kind, &attribute.into_inner()[4..length]))
    })
}

/// A `u32` attribute, which the kernel writes in its own byte order.
pub(crate) fn number(value: &[u8]) -> Result<u32> {
    let bytes = value.try_into().map_err(|_| anyhow!("{} bytes where the kernel writes a number of 4", value.len()))?;
    Ok(u32::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel writes it on a machine of this byte order.
    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_LENGTH + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn refused(code: i32, request: &[u8], sentence: &str) -> Vec<u8> {
        let mut payload = (-code).to_ne_bytes().to_vec();
        payload.extend(request);
        payload.extend(u16::try_from(4 + sentence.len() + 1).unwrap().to_ne_bytes());
        payload.extend(NLMSGERR_ATTR_MSG.to_ne_bytes());
        payload.extend(sentence.as_bytes());
        payload.push(0);
        payload
    }

    #[test]
    fn a_datagram_of_several_messages_comes_apart_in_order() {
        let mut datagram = message(20, 2, 7, &[1, 2, 3]);
        datagram.extend(message(20, 2 | NLM_F_DUMP_INTR, 7, &[4, 5, 6, 7]));
        datagram.extend(message(NLMSG_DONE, 2, 7, &0i32.to_ne_bytes()));
        let found: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        let expected = [
            Message { sequence: 7, interrupted: false, content: Content::Entry { kind: 20, payload: &[1, 2, 3] } },
            Message { sequence: 7, interrupted: true, content: Content::Entry { kind: 20, payload: &[4, 5, 6, 7] } },
            Message { sequence: 7, interrupted: false, content: Content::End(Ok(())) },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_kernels_sentence_is_found_behind_a_capped_and_behind_a_whole_request() {
        let sentence = "ipv4: Address already assigned";
        let header = message(20, 0, 9, &[])[..HEADER_LENGTH].to_vec();
        let whole = message(20, 0, 9, &[0; 24]);
        let expected = Err(Refusal { errno: Errno::EEXIST, said: Some(sentence.to_owned()) });
        for (request, capped) in [(header, NLM_F_CAPPED), (whole, 0)] {
            let payload = refused(Errno::EEXIST as i32, &request, sentence);
            let datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS | capped, 9, &payload);
            let found = messages(&datagram).next().unwrap().unwrap();
            assert_eq!(found.content, Content::End(expected.clone()), "capped: {capped:#x}");
        }
    }

    #[test]
    fn a_message_cut_off_is_an_error_and_the_last_item() {
        let mut datagram = message(20, 2, 7, &[0; 8]);
        let whole = datagram.len();
        datagram.extend(message(20, 2, 7, &[0; 8]));
        datagram.truncate(whole + 17);
        let found: Vec<_> = messages(&datagram).collect();
        assert_eq!(found.len(), 2);
        assert!(found[0].is_ok() && found[1].is_err());
    }

    #[test]
    fn no_bytes_at_all_panic() {
        let mut seed = 1u32;
        for length in 0..2000usize {
            let mut bytes: Vec<u8> = Vec::with_capacity(length % 150);
            for _ in 0..length % 150 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.push((seed >> 24).to_le_bytes()[0]);
            }
            // A plausible length and each special type, so that the walk gets past the header.
            if let Some(head) = bytes.get_mut(..6) {
                head[0..4].copy_from_slice(&u32::try_from(length % 150).unwrap().to_ne_bytes());
                head[4..6].copy_from_slice(&u16::try_from(length % 5).unwrap().to_ne_bytes());
            }
            assert!(messages(&bytes).count() <= bytes.len());
            assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
