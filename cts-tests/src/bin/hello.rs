//! The least a program of this workspace can cost: what `cargo bench-peers` measures the agents against.

fn main() {
    println!("hello, world");
}
