//! What the fuzz targets share: the cases, and the simulator of the tests.

pub mod cases;
#[path = "../sim/mod.rs"]
pub mod sim;
