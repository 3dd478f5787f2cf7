//! See [`pitr_fuzz::claims`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pitr_fuzz::claims::run(data));
