//! Requests to rtnetlink: a family's header and the few attributes that are ever sent.

use rtnetlink::packet_core::{DefaultNla, Emitable, NetlinkSerializable};

/// One request.
///
/// RouteNetlinkMessage would do as well, but brings the writers of every message and attribute that there is: a sixth of
/// the program, and a fifth of what the dynamic linker has to put right each time a monitor starts.
#[derive(Debug, Clone)]
pub(super) struct Request<H> {
    /// For instance RTM_GETADDR.
    kind: u16,
    /// For instance `struct ifaddrmsg`.
    header: H,
    attributes: Vec<DefaultNla>,
}

impl<H: Emitable> Request<H> {
    /// A request without attributes.
    pub(super) fn new(kind: u16, header: H) -> Self {
        Self { kind, header, attributes: Vec::new() }
    }

    /// Adds an attribute.
    #[must_use]
    pub(super) fn with(mut self, kind: u16, value: impl Into<Vec<u8>>) -> Self {
        self.attributes.push(DefaultNla::new(kind, value.into()));
        self
    }
}

impl<H: Emitable> NetlinkSerializable for Request<H> {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.header.buffer_len() + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(self.header.buffer_len());
        self.header.emit(header);
        self.attributes.as_slice().emit(attributes);
    }
}
