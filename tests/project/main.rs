//! What is promised to whoever has the sources or the program: its options and keys, the README, the examples, and what is
//! run before a change lands. The examples have ports of their own, which no other test in here takes.

#[path = "../harness/mod.rs"]
mod harness;

mod ci;
mod cli;
mod config;
mod examples;
mod openwrt;
mod readme;
