//! See [`pitr_fuzz::frames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pitr_fuzz::frames::run(data));
