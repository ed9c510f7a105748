//! A plugin for Core Lightning, to be.

fn main() {
    // A request comes on stdin, one message a line.
}
