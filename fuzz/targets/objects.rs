//! See [`pitr_fuzz::objects`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pitr_fuzz::objects::run(data));
