//! See [`pitr_fuzz::records`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pitr_fuzz::records::run(data));
