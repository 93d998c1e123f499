pub mod message;
pub mod ring;
pub mod segment;
pub mod time;
pub mod timer;
