//! Appending: validation by header, one positional write, then state.
//!
//! Order: check everything -> roll if needed -> write -> apply to producers, epochs, index, end offset. A batch that
//! is refused changes nothing; a write that fails changes nothing in memory and fences the log.

use bytes::Bytes;
use highwater_types::record::control::{ControlType, EndTransactionMarker, TransactionResult};
use highwater_types::record::{
    BatchHeader, BatchOptions, CheckedBatch, Compression, DecodeLimits, HEADER_BYTES, ProducerStamp,
    RATIO_FREE_BYTES, RecordBatch, RecordFacts, RecordView, TimestampType, patch_base_offset_and_epoch,
    set_log_append_time,
};
use highwater_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::PartitionLog;
use crate::disk::{DiskFile, is_full};
use crate::error::{AppendError, At, InvalidRecord, StorageError};
use crate::files::{self, FileKind};
use crate::index::Indexed;
use crate::producer_state::{BatchMemo, Marker, Verdict};
use crate::segment::{Active, Sealed};

/// Base offset, length and leader epoch: what the leader stamps lies in here, outside the CRC (semantic 25).
const PATCHED_PREFIX_BYTES: usize = 16;
const MAX_RELATIVE_OFFSET: i64 = i32::MAX as i64;
/// How many records an error names.
const MAX_NAMED_RECORDS: usize = 100;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Set when the topic's timestamps are those of the append.
    pub log_append_time: Option<Timestamp>,
    /// Log start offset, for the response.
    pub log_start_offset: Offset,
    /// The producer had written it before (semantic 33): nothing was appended, the offsets are the original ones.
    pub duplicate: bool,
    /// A segment was sealed: a good moment to flush.
    pub rolled: bool,
}

/// A transaction coordinator's order to write a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransaction {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// Its epoch, bumped when the transaction is fenced.
    pub producer_epoch: ProducerEpoch,
    /// Epoch of the coordinator.
    pub coordinator_epoch: i32,
    /// How it ended.
    pub result: TransactionResult,
}

/// Checked bytes on their way into the log.
struct Incoming {
    header: BatchHeader,
    bytes: Bytes,
}

impl PartitionLog {
    /// Appends exactly one batch of a producer, as the leader of `epoch`: gives it the next offsets.
    ///
    /// The batch's bytes are patched in place if nobody else holds them; otherwise its first 16 bytes are copied.
    ///
    /// # Errors
    /// [`AppendError`]; the log is unchanged unless it says that a write failed.
    pub fn append_as_leader(
        &mut self,
        batch: RecordBatch,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable(epoch)?;
        self.check_size(&batch)?;
        batch.verify_crc()?;
        batch
            .header()
            .check_from_producer()
            .map_err(|error| AppendError::InvalidRecord(InvalidRecord::Refused(error)))?;
        self.append_judged(batch, None, epoch, now)
    }

    /// As [`append_as_leader`](Self::append_as_leader), for a batch that was judged before the log was at hand: what
    /// the batch alone can tell, its CRC and records, is not looked at again.
    ///
    /// # Errors
    /// [`AppendError`]; the log is unchanged unless it says that a write failed.
    pub fn append_checked(
        &mut self,
        batch: CheckedBatch,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable(epoch)?;
        self.check_size(batch.batch())?;
        let facts = batch.facts();
        self.append_judged(batch.into_batch(), facts, epoch, now)
    }

    fn append_judged(
        &mut self,
        batch: RecordBatch,
        facts: Option<RecordFacts>,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        if facts.is_none() {
            check_count(&batch)?;
        }
        if let Verdict::Duplicate(memo) = self.producers.check(batch.header())? {
            return Ok(self.duplicate(memo));
        }
        let log_append_time = match self.config.timestamp_type {
            TimestampType::CreateTime => {
                self.check_timestamps(&batch, facts, now)?;
                None
            }
            TimestampType::LogAppendTime => Some(now),
        };
        if self.config.require_keys && !facts.is_some_and(|facts| facts.all_keyed) {
            check_keys(&batch)?;
        }
        let incoming = self.stamp(batch, epoch, log_append_time)?;
        let header = incoming.header;
        let rolled = self.write(incoming, now)?;
        self.producers.apply(&header);
        self.producers.enforce_limit(self.config.max_producer_ids);
        Ok(AppendInfo {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time,
            log_start_offset: self.start,
            duplicate: false,
            rolled,
        })
    }

    /// Appends a transaction marker, as the leader of `epoch` (semantic 39).
    ///
    /// # Errors
    /// [`AppendError`], above all for markers of replaced coordinators.
    pub fn append_end_transaction(
        &mut self,
        end: EndTransaction,
        epoch: LeaderEpoch,
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        self.check_writable(epoch)?;
        let marker = Marker {
            producer_id: end.producer_id,
            epoch: end.producer_epoch,
            coordinator_epoch: end.coordinator_epoch,
            result: end.result,
        };
        self.producers.check_marker(&marker)?;
        let (batch, _) = RecordBatch::parse(marker_batch(&marker, now)?)?;
        let incoming = self.stamp(batch, epoch, None)?;
        let header = incoming.header;
        let rolled = self.write(incoming, now)?;
        self.apply_marker(&marker, &header)?;
        Ok(AppendInfo {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: None,
            log_start_offset: self.start,
            duplicate: false,
            rolled,
        })
    }

    /// Appends one batch replicated from the leader, byte for byte: offsets and epoch stand in it already, and
    /// sequences are not judged again (section 3.2, rule 6). Batches that the log holds already are skipped.
    ///
    /// # Errors
    /// [`AppendError`]: broken batches, and ones that would overlap the log's end.
    pub fn append_as_follower(
        &mut self,
        batch: RecordBatch,
        now: Timestamp,
    ) -> Result<AppendInfo, AppendError> {
        let header = *batch.header();
        let mut info = AppendInfo {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time: None,
            log_start_offset: self.start,
            duplicate: false,
            rolled: false,
        };
        if header.last_offset() < self.end {
            info.duplicate = true;
            return Ok(info);
        }
        self.check_writable(header.partition_leader_epoch)?;
        batch.verify_crc()?;
        // Offsets of a segment lie within 31 bits of its base; a gap that wide asks for a new start of the log.
        let too_far = self.active.size_bytes == 0
            && header.last_offset().distance_from(self.active.base_offset) > MAX_RELATIVE_OFFSET;
        if header.base_offset < self.end || too_far {
            return Err(AppendError::NotContinuing {
                log_end: self.end,
                found: header.base_offset,
            });
        }
        let marker = match header.is_control() {
            true => parse_marker(&batch),
            false => None,
        };
        info.rolled = self.write(
            Incoming {
                header,
                bytes: batch.into_bytes(),
            },
            now,
        )?;
        match marker {
            Some(marker) => self.apply_marker(&marker, &header)?,
            None => self.producers.apply(&header),
        }
        Ok(info)
    }

    fn check_writable(&self, epoch: LeaderEpoch) -> Result<(), AppendError> {
        if let Some(failure) = &self.fence {
            return Err(AppendError::Fenced(failure.clone()));
        }
        match self.epochs.latest() {
            Some(current) if epoch < current => Err(AppendError::StaleLeaderEpoch {
                current,
                found: epoch,
            }),
            _ => Ok(()),
        }
    }

    fn check_size(&self, batch: &RecordBatch) -> Result<(), AppendError> {
        let size_bytes = batch.bytes().len();
        if size_bytes > self.config.max_message_bytes {
            return Err(AppendError::MessageTooLarge {
                size_bytes,
                limit_bytes: self.config.max_message_bytes,
            });
        }
        if size_bytes as u64 > u64::from(self.config.segment_bytes) {
            return Err(AppendError::RecordListTooLarge {
                size_bytes,
                segment_bytes: self.config.segment_bytes,
            });
        }
        Ok(())
    }

    /// Semantic 29: by record where the records were seen, else as far as the header tells. Records without
    /// timestamp (-1) pass, as in Kafka.
    fn check_timestamps(
        &self,
        batch: &RecordBatch,
        facts: Option<RecordFacts>,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let earliest = now.advance_by_ms(self.config.timestamp_before_max_ms.saturating_neg());
        let latest = now.advance_by_ms(self.config.timestamp_after_max_ms);
        let is_outside =
            |timestamp: Timestamp| timestamp.get() != -1 && !(earliest..=latest).contains(&timestamp);
        let header = batch.header();
        let extremes = match facts {
            Some(facts) => facts.timestamps.map(|(smallest, largest)| [smallest, largest]),
            None => Some([header.base_timestamp, header.max_timestamp]),
        };
        let outside = extremes.into_iter().flatten().find(|at| is_outside(*at));
        let Some(timestamp) = outside else {
            return Ok(());
        };
        let indexes = match facts {
            Some(_) => name_records(batch, |record| is_outside(record.timestamp))?,
            None => Vec::new(),
        };
        Err(AppendError::InvalidTimestamp {
            timestamp,
            earliest,
            latest,
            indexes,
        })
    }

    fn duplicate(&self, memo: BatchMemo) -> AppendInfo {
        AppendInfo {
            base_offset: memo.first_offset(),
            last_offset: memo.last_offset,
            log_append_time: (self.config.timestamp_type == TimestampType::LogAppendTime)
                .then_some(memo.timestamp),
            log_start_offset: self.start,
            duplicate: true,
            rolled: false,
        }
    }

    /// Gives a batch its place. Copies nothing if the buffer is ours alone, 16 bytes at write time otherwise.
    fn stamp(
        &self,
        batch: RecordBatch,
        epoch: LeaderEpoch,
        log_append_time: Option<Timestamp>,
    ) -> Result<Incoming, AppendError> {
        let mut header = *batch.header();
        header.base_offset = self.end;
        header.partition_leader_epoch = epoch;
        if header
            .base_offset
            .get()
            .checked_add(i64::from(header.last_offset_delta) + 1)
            .is_none()
        {
            return Err(AppendError::InvalidRecord(InvalidRecord::OffsetsExhausted));
        }
        let bytes = match (batch.into_bytes().try_into_mut(), log_append_time) {
            (Ok(mut ours), time) => {
                patch_base_offset_and_epoch(&mut ours, self.end, epoch);
                if let Some(time) = time {
                    set_log_append_time(&mut ours, time);
                }
                ours.freeze()
            }
            (Err(shared), None) => shared,
            (Err(shared), Some(time)) => {
                let mut copy = shared.to_vec();
                set_log_append_time(&mut copy, time);
                Bytes::from(copy)
            }
        };
        if let Some(time) = log_append_time {
            header.max_timestamp = time;
        }
        Ok(Incoming { header, bytes })
    }

    /// Writes a batch at the end of the log; says whether a segment was sealed.
    fn write(&mut self, incoming: Incoming, now: Timestamp) -> Result<bool, AppendError> {
        let Incoming { header, bytes } = incoming;
        let rolled = self.must_roll(&header, now);
        if rolled {
            let result = self.roll(header.base_offset);
            self.fencing_unless_full(result)?;
        }
        let result = self.write_batch(&header, &bytes);
        let position = self.fencing_unless_full(result)?;
        self.note_written(&header, position, now);
        Ok(rolled)
    }

    fn write_batch(&mut self, header: &BatchHeader, bytes: &Bytes) -> Result<u64, StorageError> {
        let position = self.active.size_bytes;
        if position == 0 && self.active.handle.is_none() {
            // The first append creates the file; the next flush makes its name durable.
            self.unsynced.names();
        }
        let is_new = self.active.handle.is_none();
        let file = self.active.writer()?;
        if position == 0 && is_new {
            self.reserve(&*file)?;
        }
        let mut prefix = [0; PATCHED_PREFIX_BYTES];
        prefix.copy_from_slice(&bytes[..PATCHED_PREFIX_BYTES]);
        patch_prefix(&mut prefix, header);
        // When the bytes were patched in place the prefix is equal to theirs, and one part is one write.
        let written = if bytes[..PATCHED_PREFIX_BYTES] == prefix {
            file.write_all_at(&[bytes], position)
        } else {
            file.write_all_at(&[&prefix, &bytes[PATCHED_PREFIX_BYTES..]], position)
        };
        if let Err(error) = &written
            && is_full(error)
        {
            // What found room must not stay: a shorter batch in its place would leave a rest behind itself.
            let path = self.active.file.path();
            let undone = file.set_len(position).at("cut an unfinished batch off", &path);
            self.fencing(undone)?;
        }
        written.at("append to", &self.active.file.path())?;
        Ok(position)
    }

    /// Reserves the room of a whole segment for a new one, if so configured. Without room for all of it, appends go
    /// as far as they find some.
    fn reserve(&self, file: &dyn DiskFile) -> Result<(), StorageError> {
        if !self.config.preallocate {
            return Ok(());
        }
        match file.preallocate(u64::from(self.config.segment_bytes)) {
            Err(error) if is_full(&error) => Ok(()),
            other => other.at("reserve room for", &self.active.file.path()),
        }
    }

    /// Gives back reserved room that the active segment has not used.
    pub(super) fn give_back(&mut self) -> Result<(), StorageError> {
        if !self.config.preallocate || self.active.size_bytes == 0 {
            return Ok(());
        }
        let file = self.active.writer()?;
        file.set_len(self.active.size_bytes)
            .at("give back room of", &self.active.file.path())
    }

    fn note_written(&mut self, header: &BatchHeader, position: u64, now: Timestamp) {
        let size = header.size_bytes();
        let active = &mut self.active;
        if position == 0 {
            active.first_append = Some(now);
            active.first_timestamp = Some(header.max_timestamp).filter(|at| at.get() >= 0);
        }
        active.index.append(
            active.base_offset,
            Indexed {
                last_offset: header.last_offset(),
                max_timestamp: header.max_timestamp,
                position: position as u32,
                size_bytes: size as u32,
            },
            self.config.index_interval_bytes,
        );
        active.last_batch = Some((header.base_offset, position));
        active.size_bytes = position + size as u64;
        self.since_snapshot_bytes += size as u64;
        self.epochs_changed |= self
            .epochs
            .assign(header.partition_leader_epoch, header.base_offset);
        self.end = header.next_offset();
        self.unflushed_since.get_or_insert(now);
    }

    /// Whether the next batch begins a new segment: size, age, full index, or offsets out of relative range.
    fn must_roll(&self, next: &BatchHeader, now: Timestamp) -> bool {
        let active = &self.active;
        if active.size_bytes == 0 {
            return false;
        }
        let size = active.size_bytes + next.size_bytes() as u64;
        let age_ms = match (active.first_timestamp, next.max_timestamp) {
            (Some(first), at) if at.get() >= 0 => at.distance_from_ms(first),
            _ => active.first_append.map_or(0, |first| now.distance_from_ms(first)),
        };
        size > u64::from(self.config.segment_bytes.min(i32::MAX as u32))
            || age_ms > self.segment_ms()
            || active.index.larger_file_bytes() >= u64::from(self.config.segment_index_bytes)
            || next.last_offset().distance_from(active.base_offset) > MAX_RELATIVE_OFFSET
    }

    /// How old the active segment may get. What the jitter takes off comes from the names of log and segment: logs that
    /// began together roll apart, and each rolls at the same age before and after a restart.
    fn segment_ms(&self) -> i64 {
        let segment_ms = self.config.segment_ms;
        let most = self.config.segment_jitter_ms.min(segment_ms);
        if most <= 0 {
            return segment_ms;
        }
        let mut hasher = Fnv1a::default();
        hasher.add(self.dir.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.add(&self.active.base_offset.get().to_be_bytes());
        // `most` is above zero.
        segment_ms - (hasher.finish() % most.unsigned_abs()) as i64
    }

    /// Seals the active segment and begins a new one. Nothing is synced here: the recovery point stays where it
    /// is until the next flush, which syncs what is listed as unsynced. On a full disk the log stays as it was, or
    /// has begun the new segment and lacks its file, which the next append creates.
    pub(super) fn roll(&mut self, base: Offset) -> Result<(), StorageError> {
        assert!(
            base > self.active.base_offset,
            "a new segment begins behind the old one"
        );
        self.active.index.seal(self.active.base_offset);
        self.active.write_index()?;
        self.give_back()?;
        self.write_producer_snapshot(base)?;
        self.remove_inner_snapshots(base)?;
        let next = Active::new(self.segment_file(base));
        let old = std::mem::replace(&mut self.active, next);
        for kind in [FileKind::Log, FileKind::OffsetIndex, FileKind::TimeIndex] {
            self.unsynced.file(files::path(&self.dir, old.base_offset, kind));
        }
        self.sealed
            .push(Sealed::new(old.file, old.size_bytes, 0).with_max_timestamp(old.index.max_timestamp()));
        self.unsynced.names();
        let file = self.active.writer()?;
        self.reserve(&*file)
    }

    pub(super) fn apply_marker(&mut self, marker: &Marker, header: &BatchHeader) -> Result<(), AppendError> {
        let aborted = self
            .producers
            .apply_marker(marker, header.last_offset(), header.max_timestamp);
        if let Some(entry) = aborted {
            let result = self.append_to_txn_index(self.active.base_offset, &entry.encode());
            self.fencing(result)?;
        }
        Ok(())
    }

    pub(super) fn append_to_txn_index(&mut self, base: Offset, bytes: &[u8]) -> Result<(), StorageError> {
        self.has_txn_indexes = true;
        let path = files::path(&self.dir, base, FileKind::TxnIndex);
        let file = self
            .disk
            .open(&path, crate::disk::OpenMode::Create)
            .at("open", &path)?;
        let position = file.len_bytes().at("read", &path)?;
        file.write_all_at(&[bytes], position).at("write", &path)?;
        self.unsynced.file(path);
        self.unsynced.names();
        Ok(())
    }
}

/// Spreads short keys evenly, the same on every machine (Fowler, Noll and Vo's 1a, with a last mix of the bits).
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(self) -> u64 {
        let folded = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        folded ^ (folded >> 33)
    }
}

fn patch_prefix(prefix: &mut [u8; PATCHED_PREFIX_BYTES], header: &BatchHeader) {
    prefix[..8].copy_from_slice(&header.base_offset.get().to_be_bytes());
    prefix[12..].copy_from_slice(&header.partition_leader_epoch.get().to_be_bytes());
}

/// Semantic 30.
fn check_keys(batch: &RecordBatch) -> Result<(), AppendError> {
    let indexes = name_records(batch, |record| record.key.is_none())?;
    match indexes.is_empty() {
        true => Ok(()),
        false => Err(AppendError::InvalidRecord(InvalidRecord::MissingKeys { indexes })),
    }
}

/// The places within the batch of the first records for which `is_wrong` says so: the one place where an append under
/// the lock decodes records, for an error to name them.
fn name_records(
    batch: &RecordBatch,
    is_wrong: impl Fn(&RecordView<'_>) -> bool,
) -> Result<Vec<u32>, AppendError> {
    let undecodable = |error| AppendError::InvalidRecord(InvalidRecord::Undecodable(error));
    let decoded = batch.decode(DecodeLimits::default()).map_err(undecodable)?;
    let mut indexes = Vec::new();
    for (at, record) in decoded.views().enumerate() {
        if is_wrong(&record.map_err(undecodable)?) && indexes.len() < MAX_NAMED_RECORDS {
            indexes.push(at as u32);
        }
    }
    Ok(indexes)
}

fn marker_batch(marker: &Marker, now: Timestamp) -> Result<Bytes, AppendError> {
    let value = EndTransactionMarker {
        coordinator_epoch: marker.coordinator_epoch,
    };
    let options = BatchOptions {
        producer: Some(ProducerStamp {
            id: marker.producer_id,
            epoch: marker.epoch,
            base_sequence: None,
        }),
        ..BatchOptions::default()
    };
    Ok(value.to_batch(marker.result, now, options)?)
}

/// Reads a control batch; `None` for types other than transaction markers.
pub(super) fn parse_marker(batch: &RecordBatch) -> Option<Marker> {
    let header = batch.header();
    let decoded = batch.decode(DecodeLimits::default()).ok()?;
    let record = decoded.views().next()?.ok()?;
    let result = match ControlType::parse_key(record.key?).ok()? {
        ControlType::Abort => TransactionResult::Abort,
        ControlType::Commit => TransactionResult::Commit,
        _ => return None,
    };
    Some(Marker {
        producer_id: header.producer_id?,
        epoch: header.producer_epoch?,
        coordinator_epoch: EndTransactionMarker::parse(record.value?).ok()?.coordinator_epoch,
        result,
    })
}

/// Bytes of the smallest record: seven fields of one byte each.
const MIN_RECORD_BYTES: usize = 7;

/// Whether so many records can be in so many bytes. The header alone would let 70 bytes claim 2^31 offsets; nothing
/// a reader would decompress is refused (semantic 26, hostile input 42).
fn check_count(batch: &RecordBatch) -> Result<(), AppendError> {
    let header = batch.header();
    let body_bytes = header.size_bytes() - HEADER_BYTES;
    let limits = DecodeLimits::default();
    let most_bytes = match header.compression() {
        Compression::None => body_bytes,
        _ => body_bytes
            .saturating_mul(limits.max_ratio)
            .max(RATIO_FREE_BYTES)
            .min(limits.max_decompressed_bytes),
    };
    if header.record_count as usize > most_bytes / MIN_RECORD_BYTES {
        return Err(AppendError::InvalidRecord(InvalidRecord::TooManyRecords {
            record_count: header.record_count,
            body_bytes,
        }));
    }
    Ok(())
}
