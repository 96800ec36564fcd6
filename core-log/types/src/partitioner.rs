//! Which partition a key goes to, bit for bit as Kafka's default partitioner decides it.
//!
//! Refuses: records without a key; spreading those is the producer's business, not arithmetic.

use std::num::NonZeroU32;

use crate::ids::PartitionId;

/// Kafka's murmur2 variant: 32 bits, seed 0x9747b28c, read as a signed number as Java does.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;

    // Lengths above 4 GiB cannot occur in a batch; Java's int length truncates in the same way.
    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    (h ^ (h >> 15)) as i32
}

/// The partition of a key among `partition_count`: the hash without its sign bit, modulo the count.
pub fn partition_for_key(key: &[u8], partition_count: NonZeroU32) -> PartitionId {
    let positive = (murmur2(key) & 0x7fff_ffff) as u32;
    // Below 2^31 because the dividend is.
    PartitionId::new((positive % partition_count) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    fn hashes_equal_those_of_the_java_client() {
        for (key, hash) in [
            (b"21".as_slice(), -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key), hash, "{}", key.escape_ascii());
        }
    }

    #[test]
    fn the_sign_bit_is_masked_not_negated() {
        // -973932308 & 0x7fffffff = 1173551340, whereas its absolute value would give partition 8.
        let ten = NonZeroU32::new(10).expect("ten is not zero");
        assert_eq!(partition_for_key(b"21", ten), PartitionId::new(0));
    }
}
