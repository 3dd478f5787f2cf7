//! See [`pitr_fuzz::segment`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pitr_fuzz::segment::run(data));
