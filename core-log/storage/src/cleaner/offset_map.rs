//! The latest offset of every key of a dirty section, in bounded memory.
//!
//! Keys are kept as 128 bits of a keyed hash whose keys are drawn anew per map: whoever chooses the records' keys
//! cannot make two of them collide, and by chance 10^9 keys collide with a probability of 10^-21. An entry takes 24
//! bytes. The table grows with its content up to the limit; while it grows, the old half is alive as well.

use std::hash::{BuildHasher, RandomState};

use highwater_types::Offset;

const ENTRY_BYTES: usize = 24;
const FIRST_SLOTS: usize = 1024;

/// An entry; empty while `offset_plus_one` is 0.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: [u64; 2],
    offset_plus_one: u64,
}

/// Open addressing, linear probing.
#[derive(Debug)]
pub(super) struct OffsetMap {
    hashers: [RandomState; 2],
    slots: Vec<Slot>,
    len: usize,
    max_slots: usize,
    load_factor: f64,
}

/// The map takes no further key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl OffsetMap {
    pub(super) fn new(limit_bytes: usize, load_factor: f64) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            slots: Vec::new(),
            len: 0,
            max_slots: (limit_bytes / ENTRY_BYTES).max(FIRST_SLOTS),
            // A full table would never end a search for a key that is not there.
            load_factor: load_factor.clamp(0.1, 0.95),
        }
    }

    /// Forgets all keys, and the memory with them.
    pub(super) fn clear(&mut self) {
        self.slots = Vec::new();
        self.len = 0;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The most keys it can hold.
    pub(super) fn capacity(&self) -> usize {
        self.limit(self.max_slots)
    }

    fn limit(&self, slots: usize) -> usize {
        (slots as f64 * self.load_factor) as usize
    }

    /// Notes that a key was written at an offset; later calls bring later offsets.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); FIRST_SLOTS.min(self.max_slots)];
        }
        let offset_plus_one = offset.get() as u64 + 1;
        let at = self.find(hash);
        if self.slots[at].offset_plus_one != 0 {
            self.slots[at].offset_plus_one = offset_plus_one;
            return Ok(());
        }
        let at = match self.len < self.limit(self.slots.len()) {
            true => at,
            false => {
                self.grow()?;
                self.find(hash)
            }
        };
        self.slots[at] = Slot {
            hash,
            offset_plus_one,
        };
        self.len += 1;
        Ok(())
    }

    /// Where the key was written last in the section.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        if self.len == 0 {
            return None;
        }
        let found = self.slots[self.find(self.hash(key))].offset_plus_one;
        found.checked_sub(1).map(|offset| Offset::new(offset as i64))
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The slot of a hash, or the empty one where it belongs.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len();
        // The high half of the product spreads the hash over any number of slots.
        let mut at = ((u128::from(hash[0]) * slots as u128) >> 64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot.offset_plus_one == 0 || slot.hash == hash {
                return at;
            }
            at += 1;
            if at == slots {
                at = 0;
            }
        }
    }

    fn grow(&mut self) -> Result<(), Full> {
        let slots = self.slots.len();
        if slots >= self.max_slots {
            return Err(Full);
        }
        let larger = vec![Slot::default(); (slots * 2).min(self.max_slots)];
        let old = std::mem::replace(&mut self.slots, larger);
        for slot in old.into_iter().filter(|slot| slot.offset_plus_one != 0) {
            let at = self.find(slot.hash);
            self.slots[at] = slot;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_every_key_is_found_while_the_table_grows() {
        let mut map = OffsetMap::new(1 << 20, 0.9);
        assert_eq!(map.get(b"0"), None);
        for round in 0..3_i64 {
            for key in 0..5_000_i64 {
                map.put(&key.to_be_bytes(), Offset::new(round * 5_000 + key))
                    .unwrap();
            }
        }
        assert_eq!(map.len(), 5_000);
        for key in 0..5_000_i64 {
            assert_eq!(map.get(&key.to_be_bytes()), Some(Offset::new(10_000 + key)));
        }
        assert_eq!(map.get(b"another"), None);
        map.clear();
        assert_eq!((map.len(), map.get(&0_i64.to_be_bytes())), (0, None));
    }

    #[test]
    fn a_full_map_takes_known_keys_but_no_new_one() {
        let mut map = OffsetMap::new(0, 0.5);
        let capacity = map.capacity() as i64;
        for key in 0..capacity {
            map.put(&key.to_be_bytes(), Offset::new(key)).unwrap();
        }
        assert_eq!(map.put(b"new", Offset::new(9_999)), Err(Full));
        map.put(&3_i64.to_be_bytes(), Offset::new(9_999)).unwrap();
        assert_eq!(map.get(&3_i64.to_be_bytes()), Some(Offset::new(9_999)));
        assert_eq!(map.get(b"new"), None);
    }
}
