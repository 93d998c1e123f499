//! The tunnel without I/O: bytes and a time go in, bytes and a deadline come out. Nothing here opens a socket or waits, so what
//! else the machine does changes nothing.

#[path = "../fuzz/cases/mod.rs"]
mod cases;
#[path = "../sim/mod.rs"]
mod sim;

mod attack;
mod chaos;
mod connection;
mod faults;
mod following;
mod fresh_keys;
mod fuzzing;
mod gso;
mod hopping;
mod hostile;
mod life;
mod limits;
mod lines;
mod memory;
mod plain;
mod rate;
mod rendezvous;
mod roaming;
mod sharing;
mod size;
mod vectors_conversations;
mod vectors_crypto;
