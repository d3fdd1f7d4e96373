//! Arguments in, exit code out.

mod cli;

use std::io;
use std::process::ExitCode;
use std::thread;

use btrsquash::{error, scratch};
use clap::Parser;
use cli::args::{Cli, Command};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Ends the program as signals do, but leaves nothing behind.
fn sweep_before_the_end() -> io::Result<()> {
    // What whoever started us has ignored (nohup, a shell's background jobs) stays so (proc_pid_status(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let watched = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = Signals::new(watched)?;
    thread::spawn(move || {
        for signal in signals.forever() {
            scratch::sweep();
            let _ = emulate_default_handler(signal);
        }
    });
    Ok(())
}

fn main() -> ExitCode {
    if let Err(e) = sweep_before_the_end() {
        cli::complain(&anyhow::Error::new(e).context("signals cannot be watched"));
    }
    // clap itself ends with 2 for bad usage and 0 for --help.
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(failure) => {
            cli::complain(&failure);
            ExitCode::from(error::exit_code(&failure))
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Convert(options) => cli::convert(&options),
        Command::Boot(options) => cli::boot(&options),
        Command::Inspect(options) => cli::inspect(&options),
        Command::Diff(options) => return cli::diff(&options),
        Command::Verify(options) => return cli::verify(&options),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man { out } => cli::man(out.as_deref()),
    };
    done.map(|()| ExitCode::SUCCESS)
}
