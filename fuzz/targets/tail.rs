//! See [`pitr_fuzz::tail`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pitr_fuzz::tail::run(data));
