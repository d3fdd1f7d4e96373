//! Builds the static front-end init that btrsquash carries inside itself.
fn main() {
    println!("cargo::rerun-if-changed=src/init");
}
