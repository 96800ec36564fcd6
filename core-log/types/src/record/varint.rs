//! Zigzag varints as Kafka writes them in records: 7 bits per byte, least significant first, at most 5 bytes for
//! 32-bit and 10 for 64-bit numbers.
//!
//! Refuses numbers that need more bits than their type has (hostile input 51); padded encodings within the byte
//! limit are taken, as Java takes them.

/// Longest encoding of a 32-bit number.
pub(super) const MAX_I32_BYTES: usize = 5;
/// Longest encoding of a 64-bit number.
pub(super) const MAX_I64_BYTES: usize = 10;

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Bytes that `value` takes. The same for an `i32` and the `i64` of its value.
#[inline]
pub(super) const fn len(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` to `out` from position `at` on and gives the position after it; `out` must have room.
#[inline]
pub(super) fn put(out: &mut [u8], at: usize, value: i64) -> usize {
    let mut raw = zigzag(value);
    let mut at = at;
    while raw >= 0x80 {
        out[at] = raw as u8 | 0x80;
        raw >>= 7;
        at += 1;
    }
    out[at] = raw as u8;
    at + 1
}

/// Reads a 64-bit number at `at` of `bytes`; `None` when the bytes end or the number does not fit.
#[inline]
pub(super) fn get_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(unzigzag(u64::from(first)));
    }
    get_long(bytes, at)
}

/// Reads a 32-bit number at `at` of `bytes`; `None` when the bytes end or the number does not fit.
#[inline]
pub(super) fn get_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let from = *at;
    let value = get_i64(bytes, at)?;
    if *at - from > MAX_I32_BYTES {
        return None;
    }
    i32::try_from(value).ok()
}

fn get_long(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut raw = 0_u64;
    for (i, byte) in bytes[*at..].iter().take(MAX_I64_BYTES).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if i == MAX_I64_BYTES - 1 && bits > 1 {
            return None;
        }
        raw |= bits << (7 * i);
        if *byte < 0x80 {
            *at += i + 1;
            return Some(unzigzag(raw));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = [0; MAX_I64_BYTES];
        let end = put(&mut out, 0, value);
        out[..end].to_vec()
    }

    #[test]
    fn known_numbers_have_their_known_bytes() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (
                i64::MIN,
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            ),
        ] {
            assert_eq!(encoded(value), bytes, "{value}");
            assert_eq!(len(value), bytes.len(), "{value}");
        }
    }

    #[test]
    fn a_number_with_too_many_bits_is_refused() {
        let eleven_bytes = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(get_i64(&eleven_bytes, &mut 0), None);
        let bit_65 = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(get_i64(&bit_65, &mut 0), None);
        assert_eq!(get_i32(&encoded(i64::from(i32::MAX) + 1), &mut 0), None);
        let six_bytes_of_zero = [0x80, 0x80, 0x80, 0x80, 0x80, 0x00];
        assert_eq!(get_i32(&six_bytes_of_zero, &mut 0), None);
        assert_eq!(get_i64(&[0x80], &mut 0), None, "the bytes end");
    }

    proptest::proptest! {
        #[test]
        fn every_number_comes_back(value: i64) {
            let bytes = encoded(value);
            let mut at = 0;
            proptest::prop_assert_eq!(get_i64(&bytes, &mut at), Some(value));
            proptest::prop_assert_eq!(at, bytes.len());
            proptest::prop_assert_eq!(len(value), bytes.len());
        }
    }
}
