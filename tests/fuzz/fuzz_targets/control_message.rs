#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kcptun_fuzz::cases::control_message::run(bytes));
