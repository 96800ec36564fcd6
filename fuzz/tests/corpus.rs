//! Every target over its seeds, their damaged copies, and every input that once broke a claim.

use std::path::Path;

use highwater_fuzz::{TARGETS, seeds};

/// Cuts and flipped bits of an honest input, each once: what a torn write or a bad line leaves.
fn damaged(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let cuts = (0..seed.len()).map(|at| seed[..at].to_vec());
    let flips = (0..seed.len()).flat_map(move |at| {
        [0x01, 0x80, 0xff].map(|bits| {
            let mut bytes = seed.to_vec();
            bytes[at] ^= bits;
            bytes
        })
    });
    cuts.chain(flips)
}

#[test]
fn every_target_holds_for_its_seeds_and_what_damage_makes_of_them() {
    for target in TARGETS {
        let seeds = seeds(target.name);
        assert!(!seeds.is_empty(), "{} has seeds", target.name);
        // Many seeds are much alike: look closely at some.
        let step = seeds.len().div_ceil(40);
        for (at, seed) in seeds.iter().enumerate() {
            (target.run)(seed);
            if at % step == 0 {
                damaged(seed).for_each(|input| (target.run)(&input));
            }
        }
    }
}

#[test]
fn every_input_that_once_broke_a_claim_holds_now() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("the corpus can be listed").path();
            (target.run)(&std::fs::read(&path).expect("the corpus can be read"));
        }
    }
}
