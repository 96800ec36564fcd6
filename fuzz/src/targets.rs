//! The table of targets.

mod coordinator;
mod login;
mod metadata;
mod record;
pub(crate) mod storage;
mod wire;

/// One decoder under test.
#[derive(Debug)]
pub struct Target {
    /// Name on the command line and of the corpus folder.
    pub name: &'static str,
    /// Where such bytes come from, and what is claimed of them.
    pub about: &'static str,
    /// Panics when a claim does not hold for `input`.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "wire_request",
        about: "a frame from a client: header, then the body of any key and version; what decodes encodes to the same meaning",
        run: wire::request,
    },
    Target {
        name: "wire_response",
        about: "a frame from a broker to our client, of any key and version",
        run: wire::response,
    },
    Target {
        name: "consumer_protocol",
        about: "subscriptions and assignments that members hand each other through the coordinator",
        run: wire::consumer_protocol,
    },
    Target {
        name: "record_batch",
        about: "record sets from producers and brokers, with the checksum made to fit so that what lies behind it is reached",
        run: record::batches,
    },
    Target {
        name: "record_decompression",
        about: "compressed bodies of each codec: output stays within the limits",
        run: record::decompression,
    },
    Target {
        name: "storage_files",
        about: "segments, indexes, snapshots and checkpoints found on disk: opened or refused; what opens takes writes and reads them back",
        run: storage::files,
    },
    Target {
        name: "coordinator_records",
        about: "keys and values of __consumer_offsets: replayed or refused, and the shard serves on",
        run: coordinator::records,
    },
    Target {
        name: "coordinator_requests",
        about: "sequences of well-formed group requests with any content, and the clock: replies come once, records replay",
        run: coordinator::requests,
    },
    Target {
        name: "login_messages",
        about: "messages of PLAIN, SCRAM and OAUTHBEARER, tokens, key sets and subjects of certificates: refused, or meant as they stand; nobody gets in without a proof",
        run: login::messages,
    },
    Target {
        name: "metadata_records",
        about: "records of the metadata log: refused, or applied to the image",
        run: metadata::records,
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Takes pieces off the front of an input; at its end everything is zero or empty.
struct Pieces<'a> {
    rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (piece, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        piece
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A piece that says its own length in two bytes.
    fn sized(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16());
        self.take(length)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }
}
