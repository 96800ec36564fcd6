//! What salts of SCRAM look like here: as those that Kafka's own tools make, 130 bits as digits and small letters.
//!
//! Clients that set a password make a salt, and nodes make one up for users who do not exist. A stranger is shown
//! either; both must look alike, or the look tells who exists.

/// Bytes that a salt is made of.
pub const SEED_BYTES: usize = 17;

/// What is kept of the first byte: 130 bits in all.
const FIRST_BYTE_MASK: u8 = 0b11;

const BASE: u16 = 36;
const DIGITS: &[u8; BASE as usize] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// The salt of a seed that nobody can guess: at most 26 characters, nearly always 25 or 26.
pub fn salt(seed: &[u8; SEED_BYTES]) -> Vec<u8> {
    let mut number = *seed;
    number[0] &= FIRST_BYTE_MASK;
    let mut text = Vec::with_capacity(26);
    loop {
        let mut rest = 0;
        for byte in &mut number {
            let dividend = (rest << 8) | u16::from(*byte);
            // The rest is below the base, so that the quotient fits a byte.
            *byte = (dividend / BASE) as u8;
            rest = dividend % BASE;
        }
        text.push(DIGITS[usize::from(rest)]);
        if number.iter().all(|byte| *byte == 0) {
            text.reverse();
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_salt_is_the_seed_in_base_36() {
        let of = |seed| String::from_utf8(salt(&seed)).unwrap();
        assert_eq!(of([0; SEED_BYTES]), "0");
        let mut seed = [0; SEED_BYTES];
        seed[16] = 36;
        assert_eq!(of(seed), "10");
        seed[15] = 1;
        assert_eq!(of(seed), "84", "256 + 36");
        // 2^130 - 1.
        assert_eq!(of([0xff; SEED_BYTES]), "1omfro7zwmumr3umxudzyj6scf");
    }
}
