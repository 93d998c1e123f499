#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kcptun_fuzz::cases::session_message::run(bytes));
