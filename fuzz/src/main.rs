//! The libFuzzer binary: one for all targets, since linking is what costs. Everything on the command line is libFuzzer's.
//!
//! - `HIGHWATER_FUZZ_TARGET` names the target.
//! - `HIGHWATER_FUZZ_SEEDS`, if set, is a folder that is filled with the target's seeds before anything is read.
#![no_main]

use std::path::PathBuf;
use std::process::exit;
use std::sync::LazyLock;

use highwater_fuzz::{TARGETS, Target, seeds, target};

static CHOSEN: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("HIGHWATER_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("set HIGHWATER_FUZZ_TARGET to one of: {}", names.join(", "));
        exit(2)
    })
});

fn write_seeds() {
    let Some(folder) = std::env::var_os("HIGHWATER_FUZZ_SEEDS").map(PathBuf::from) else {
        return;
    };
    for (at, seed) in seeds(CHOSEN.name).iter().enumerate() {
        let path = folder.join(format!("seed-{at:04}"));
        if let Err(error) = std::fs::write(&path, seed) {
            eprintln!("cannot write {}: {error}", path.display());
            exit(2);
        }
    }
}

libfuzzer_sys::fuzz_target!(init: write_seeds(), |input: &[u8]| (CHOSEN.run)(input));
