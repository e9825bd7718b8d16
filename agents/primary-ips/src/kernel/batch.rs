//! Many requests in one send, and the kernel's answer to each.

use anyhow::{Context, Result};
use rtnetlink::packet_core::{NLM_F_ACK, NetlinkSerializable};

use super::datagram::{Content, Refusal, messages};
use super::socket::{Netlink, Received, append};

/// Requests in one send. The kernel queues all acknowledgements before send(2) returns. Each occupies some 840 bytes of
/// the receive buffer (Linux 6.18), so that this many fill half of the kernel's default one of 212,992 bytes
/// (net.core.rmem_default). It also bounds what is done between two looks at the deadline.
const BATCH: usize = 128;

/// A request's outcome, as far as it is known.
type Answer = Option<Result<(), Refusal>>;

impl Netlink {
    /// Carries out one request for each of `items`, in this order; the answers are in the same order. A request whose
    /// answer was lost is repeated: only for requests that do no harm when they are.
    ///
    /// # Errors
    /// The socket fails or the deadline passes; some of the requests are then carried out.
    pub(super) fn carry_out<T, P: NetlinkSerializable>(
        &mut self,
        items: &[T],
        flags: u16,
        what: &str,
        request: impl Fn(&T) -> P,
    ) -> Result<Vec<Result<(), Refusal>>> {
        let mut answers: Vec<Answer> = vec![None; items.len()];
        let mut unanswered: Vec<usize> = (0..items.len()).collect();
        let mut batch = BATCH;
        while !unanswered.is_empty() {
            let mut lost = false;
            for indices in unanswered.chunks(batch) {
                let requests = indices.iter().map(|&index| request(&items[index]));
                lost |= self.carry_out_batch(requests, flags, what, |position, answer| {
                    answers[indices[position]] = Some(answer);
                })?;
            }
            unanswered.retain(|&index| answers[index].is_none());
            if lost {
                batch = (batch / 2).max(1);
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Sends one batch and hands over the answers with their positions in it. True if some answers were lost.
    fn carry_out_batch<P: NetlinkSerializable>(
        &mut self,
        requests: impl ExactSizeIterator<Item = P>,
        flags: u16,
        what: &str,
        mut answered: impl FnMut(usize, Result<(), Refusal>),
    ) -> Result<bool> {
        let count = u32::try_from(requests.len())?;
        let first = self.number_requests(count);
        let mut bytes = Vec::new();
        for (request, position) in requests.zip(0..) {
            append(&mut bytes, request, NLM_F_ACK | flags, first.wrapping_add(position));
        }
        self.send(&bytes, what)?;
        let (mut missing, mut lost) = (count, false);
        while missing > 0 {
            match self.receive(what)? {
                Received::Datagram => {
                    for answer in messages(self.datagram()) {
                        let answer = answer.with_context(|| format!("the kernel's answer about {what}"))?;
                        let position = answer.sequence.wrapping_sub(first);
                        match answer.content {
                            Content::End(verdict) if position < count => {
                                answered(usize::try_from(position)?, verdict);
                                missing -= 1;
                            }
                            Content::Overrun => lost = true,
                            _ => {}
                        }
                    }
                }
                Received::Lost => lost = true,
                // The kernel acts within send(2): what is not in the socket by then was thrown away.
                Received::Empty if lost => break,
                Received::Empty => self.wait(what)?,
            }
        }
        Ok(lost)
    }
}
