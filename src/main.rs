//! Arguments in, exit code out.

mod commands;

use std::process::ExitCode;

use btrsquash::cli::{Cli, Command};
use btrsquash::error;
use clap::Parser;

fn main() -> ExitCode {
    // clap itself ends with 2 for bad usage and 0 for --help.
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            let broken_pipe = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
            if failure.chain().any(|e| e.downcast_ref().is_some_and(broken_pipe)) {
                // The reader has seen enough.
                return ExitCode::SUCCESS;
            }
            commands::complain(&failure);
            ExitCode::from(error::exit_code(&failure))
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Convert(options) => commands::convert(&options),
        Command::Boot(options) => commands::boot(&options),
        Command::Inspect(options) => commands::inspect(&options),
        Command::Diff(options) => return commands::diff(&options),
        Command::Verify(options) => return commands::verify(&options),
        Command::Completions { shell } => commands::completions(shell),
        Command::Man { out } => commands::man(out.as_deref()),
    };
    done.map(|()| ExitCode::SUCCESS)
}
