//! The program that btrsquash puts into images.

mod carry;
mod init;
mod probe;
mod sys;

fn main() {
    let name = std::env::args_os().next().unwrap_or_default();
    if std::path::Path::new(&name).file_name().is_some_and(|name| name == ".btrsquash-probe") {
        probe::run();
    }
    init::run();
}
