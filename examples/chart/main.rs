//! Draws the picture of the README, `examples/measured.svg`, from the first table of `examples/reference/measured.md`:
//!
//!     cargo run --example chart

mod draw;

fn main() -> std::io::Result<()> {
    let table = std::fs::read_to_string("examples/reference/measured.md")?;
    std::fs::write("examples/measured.svg", draw::svg(&table))
}
