//! Random message values for this crate's tests. Seeded: the same seed gives the same values.

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

/// A struct that can make up a value that is legal in a version.
pub(crate) trait Sample: Sized {
    fn sample(s: &mut Sampler, version: i16) -> Self;
}

/// Source of random fields (SplitMix64).
pub(crate) struct Sampler {
    state: u64,
    depth: u32,
}

impl Sampler {
    pub(crate) fn new(seed: u64) -> Sampler {
        Sampler {
            state: seed,
            depth: 0,
        }
    }

    /// 64 random bits; every fourth time an extreme of some integer size instead.
    pub(crate) fn bits(&mut self) -> u64 {
        const EXTREMES: [i64; 8] = [
            0,
            -1,
            1,
            i8::MIN as i64,
            i16::MAX as i64,
            i32::MIN as i64,
            i32::MAX as i64,
            i64::MAX,
        ];
        match self.raw() % 4 {
            0 => EXTREMES[self.below(EXTREMES.len())] as u64,
            _ => self.raw(),
        }
    }

    fn raw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.raw() % limit as u64) as usize
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.raw() & 1 == 0
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.bits(), self.bits())
    }

    /// Mostly short text of 1 to 4 byte characters; now and then one whose compact length needs two bytes.
    pub(crate) fn string(&mut self) -> ByteString {
        let length = if self.below(16) == 0 {
            120 + self.below(20)
        } else {
            self.below(8)
        };
        (0..length)
            .map(|_| ['a', '.', '\0', 'ß', '€', '🌊'][self.below(6)])
            .collect::<String>()
            .into()
    }

    /// Mostly short bytes; now and then enough to be shared rather than copied.
    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = if self.below(8) == 0 {
            1000 + self.below(50)
        } else {
            self.below(20)
        };
        (0..length).map(|_| self.raw() as u8).collect()
    }

    /// Up to four elements, fewer when nested.
    pub(crate) fn vec<T>(&mut self, mut element: impl FnMut(&mut Sampler) -> T) -> Vec<T> {
        let most = 5usize.saturating_sub(self.depth as usize).max(2);
        let count = self.below(most);
        self.depth += 1;
        let items = (0..count).map(|_| element(self)).collect();
        self.depth -= 1;
        items
    }

    pub(crate) fn option<T>(
        &mut self,
        may_be_none: bool,
        value: impl FnOnce(&mut Sampler) -> T,
    ) -> Option<T> {
        if may_be_none && self.below(3) == 0 {
            None
        } else {
            Some(value(self))
        }
    }
}
