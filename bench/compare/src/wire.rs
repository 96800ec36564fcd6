//! Just enough of the Kafka protocol, over a plain socket, to ask a server what a client library would hide: whether
//! it answers at all yet, and how fast it hands out batches when nobody decodes them.
//!
//! Old versions of three requests, which Apache Kafka 4 still takes, and of fetch the one that most clients speak: before
//! version 10 a server has to look into the batches, since their reader may not know every codec. Refuses: answers that
//! do not fit what was asked.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 11);
const METADATA: (i16, i16) = (3, 4);

/// Session 0 with epoch -1: all partitions are named in each request.
const NO_SESSION: [u8; 8] = [0, 0, 0, 0, 255, 255, 255, 255];
const UNKNOWN_EPOCH: [u8; 4] = [255; 4];
const UNKNOWN_LOG_START: [u8; 8] = [255; 8];

/// A server that starts may take a connection and answer it late.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);
const CONNECT_PATIENCE: Duration = Duration::from_millis(500);
/// No answer that we ask for is larger.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// A batch's offset and length, which its length does not count.
const BATCH_PREFIX_BYTES: usize = 12;
const BATCH_HEADER_BYTES: usize = 61;

/// One connection with one request at a time.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    correlation: i32,
    answer: Vec<u8>,
}

/// What one fetch brought of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) partition: i32,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) next_offset: i64,
}

/// Where to read on, and how much at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchFrom {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        Ok(Raw {
            stream,
            correlation: 0,
            answer: Vec::new(),
        })
    }

    /// Whether the server tells of a broker that clients may use.
    pub(crate) fn serves(&mut self) -> Result<bool> {
        let mut body = Vec::new();
        body.extend((-1_i32).to_be_bytes());
        body.push(0);
        let mut answer = self.ask(METADATA, &body)?;
        let _throttle_ms = answer.i32()?;
        Ok(answer.i32()? >= 1)
    }

    /// Writes one record; whether it was acknowledged.
    pub(crate) fn produce_one(&mut self, topic: &str, partition: i32) -> Result<bool> {
        let batch = batch_of_one(b"a record");
        let mut body = Vec::new();
        body.extend((-1_i16).to_be_bytes());
        body.extend((-1_i16).to_be_bytes());
        body.extend(10_000_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        put_string(&mut body, topic)?;
        body.extend(1_i32.to_be_bytes());
        body.extend(partition.to_be_bytes());
        body.extend(i32::try_from(batch.len())?.to_be_bytes());
        body.extend(batch);
        let mut answer = self.ask(PRODUCE, &body)?;
        ensure!(
            answer.i32()? == 1,
            "one topic was written, another number answered"
        );
        answer.string()?;
        ensure!(
            answer.i32()? == 1,
            "one partition was written, another number answered"
        );
        let _partition = answer.i32()?;
        Ok(answer.i16()? == 0)
    }

    /// Reads batches of some partitions of a topic; nothing in them is decoded but their headers, and with `check` their
    /// checksums.
    pub(crate) fn fetch(&mut self, topic: &str, from: &[FetchFrom], check: bool) -> Result<Vec<Fetched>> {
        let mut body = Vec::new();
        body.extend((-1_i32).to_be_bytes());
        body.extend(500_i32.to_be_bytes());
        body.extend(1_i32.to_be_bytes());
        body.extend(i32::MAX.to_be_bytes());
        body.push(0);
        body.extend(NO_SESSION);
        body.extend(1_i32.to_be_bytes());
        put_string(&mut body, topic)?;
        body.extend(i32::try_from(from.len())?.to_be_bytes());
        for from in from {
            body.extend(from.partition.to_be_bytes());
            body.extend(UNKNOWN_EPOCH);
            body.extend(from.offset.to_be_bytes());
            body.extend(UNKNOWN_LOG_START);
            body.extend(from.max_bytes.to_be_bytes());
        }
        body.extend(0_i32.to_be_bytes());
        put_string(&mut body, "")?;
        let mut answer = self.ask(FETCH, &body)?;
        let _throttle_ms = answer.i32()?;
        let error = answer.i16()?;
        ensure!(error == 0, "a fetch of {topic} was answered with error {error}");
        let _session = answer.i32()?;
        let mut fetched = Vec::with_capacity(from.len());
        for _ in 0..answer.i32()? {
            answer.string()?;
            for _ in 0..answer.i32()? {
                let partition = answer.i32()?;
                let error = answer.i16()?;
                ensure!(
                    error == 0,
                    "fetch of {topic}-{partition} was answered with error {error}"
                );
                let _watermarks_and_log_start = answer.take(24)?;
                for _ in 0..answer.i32()? {
                    answer.take(16)?;
                }
                let _preferred_replica = answer.i32()?;
                let length = usize::try_from(answer.i32()?).unwrap_or(0);
                fetched.push(batches(partition, answer.take(length)?, check)?);
            }
        }
        Ok(fetched)
    }

    fn ask(&mut self, (key, version): (i16, i16), body: &[u8]) -> Result<Reader<'_>> {
        const CLIENT: &str = "compare";
        self.correlation += 1;
        let mut request = Vec::with_capacity(body.len() + 32);
        request.extend([0; 4]);
        request.extend(key.to_be_bytes());
        request.extend(version.to_be_bytes());
        request.extend(self.correlation.to_be_bytes());
        put_string(&mut request, CLIENT)?;
        request.extend(body);
        let length = u32::try_from(request.len() - 4)?;
        request[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&request)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        ensure!(
            length <= MAX_ANSWER_BYTES,
            "an answer of {length} bytes is larger than any that was asked for"
        );
        if self.answer.len() < length {
            self.answer.resize(length, 0);
        }
        self.stream.read_exact(&mut self.answer[..length])?;
        let mut answer = Reader {
            left: &self.answer[..length],
        };
        let correlation = answer.i32()?;
        ensure!(
            correlation == self.correlation,
            "the answer to request {correlation} came for request {}",
            self.correlation
        );
        Ok(answer)
    }
}

/// Walks over whole batches; a torn last one is not counted.
fn batches(partition: i32, mut records: &[u8], check: bool) -> Result<Fetched> {
    let mut fetched = Fetched {
        partition,
        ..Fetched::default()
    };
    while records.len() >= BATCH_HEADER_BYTES {
        let mut header = Reader { left: records };
        let base_offset = header.i64()?;
        let size = usize::try_from(header.i32()?).context("a batch of negative length")? + BATCH_PREFIX_BYTES;
        ensure!(size >= BATCH_HEADER_BYTES, "a batch is shorter than its header");
        if records.len() < size {
            break;
        }
        header.take(5)?;
        let checksum = header.i32()?.cast_unsigned();
        // The checksum covers everything behind itself.
        if check && crc32c::crc32c(&records[21..size]) != checksum {
            bail!("the batch at offset {base_offset} of partition {partition} does not match its checksum");
        }
        let _attributes = header.i16()?;
        let last_delta = header.i32()?;
        fetched.next_offset = base_offset + i64::from(last_delta) + 1;
        fetched.records += u64::try_from(last_delta)? + 1;
        fetched.bytes += size as u64;
        records = &records[size..];
    }
    Ok(fetched)
}

/// A record batch of one record without key, as format 2 has it.
fn batch_of_one(value: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1];
    put_varint(&mut record, value.len());
    record.extend(value);
    record.push(0);
    let mut behind_checksum = Vec::new();
    behind_checksum.extend(0_i16.to_be_bytes());
    behind_checksum.extend(0_i32.to_be_bytes());
    // A fixed moment of 2023: the record is about nothing.
    behind_checksum.extend(1_700_000_000_000_i64.to_be_bytes());
    behind_checksum.extend(1_700_000_000_000_i64.to_be_bytes());
    behind_checksum.extend((-1_i64).to_be_bytes());
    behind_checksum.extend((-1_i16).to_be_bytes());
    behind_checksum.extend((-1_i32).to_be_bytes());
    behind_checksum.extend(1_i32.to_be_bytes());
    put_varint(&mut behind_checksum, record.len());
    behind_checksum.extend(record);

    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    let length = behind_checksum.len() as i32 + 9;
    batch.extend(length.to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&behind_checksum).to_be_bytes());
    batch.extend(behind_checksum);
    batch
}

/// Zigzag of a length, which is never negative.
fn put_varint(to: &mut Vec<u8>, value: usize) {
    let mut zigzag = value << 1;
    while zigzag >= 0x80 {
        to.push((zigzag & 0x7F) as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

fn put_string(to: &mut Vec<u8>, text: &str) -> Result<()> {
    to.extend(i16::try_from(text.len())?.to_be_bytes());
    to.extend(text.as_bytes());
    Ok(())
}

/// Takes an answer apart from the front.
#[derive(Debug)]
struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, left) = self
            .left
            .split_at_checked(bytes)
            .ok_or_else(|| std::io::Error::from(ErrorKind::UnexpectedEof))
            .context("an answer is shorter than its fields")?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<()> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        self.take(length)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_counted_and_its_checksum_checked() {
        let batch = batch_of_one(b"value");
        let expected = Fetched {
            partition: 3,
            bytes: batch.len() as u64,
            records: 1,
            next_offset: 1,
        };
        assert_eq!(batches(3, &batch, true).expect("a batch"), expected);
        let mut wrong = batch.clone();
        let last = wrong.len() - 2;
        wrong[last] ^= 1;
        assert!(batches(3, &wrong, true).is_err());
        assert!(batches(3, &wrong, false).is_ok());
    }

    #[test]
    fn a_torn_last_batch_is_left_out() {
        let mut two = batch_of_one(b"value");
        let one = two.len() as u64;
        two.extend(batch_of_one(b"another"));
        two.pop();
        assert_eq!(batches(0, &two, true).expect("one batch").bytes, one);
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        let mut reader = Reader { left: &[0, 1, 7] };
        assert!(reader.string().is_ok());
        assert!(reader.i16().is_err());
    }
}
