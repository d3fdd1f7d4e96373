//! Arguments in, exit code out.

mod cli;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use btrsquash::{error, scratch};
use clap::FromArgMatches;
use cli::args::{Cli, Command};
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Signals that end a program unless it does something about them, and that leave it time to.
const ENDING: [i32; 10] =
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGXCPU];

/// Has signals end the program as usual, but only after child processes have ended and temporary files are gone.
fn clean_up_on_signals() -> io::Result<()> {
    // A write beyond the limit on file sizes then fails as on a full disk, with an error that names the file.
    signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default())?;
    // Signals that our parent ignores (nohup, background jobs of a shell) stay ignored (proc_pid_status(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let watched: Vec<i32> = ENDING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0).collect();
    // Signals are caught only once the thread that acts on them runs.
    let (ready, registered) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let mut signals = Signals::new(watched);
        let result = signals.as_ref().map(|_| ()).map_err(|e| io::Error::new(e.kind(), e.to_string()));
        let _ = ready.send(result);
        if let Ok(signals) = &mut signals
            && let Some(signal) = signals.forever().next()
        {
            scratch::clean_up();
            let _ = emulate_default_handler(signal);
            std::process::exit(128 + signal);
        }
    })?;
    registered.recv().unwrap_or(Ok(()))
}

fn main() -> ExitCode {
    if let Err(e) = clean_up_on_signals() {
        cli::complain(
            &anyhow::Error::new(e)
                .context("warning: a signal will leave temporary files behind, because it cannot be caught"),
            false,
        );
    }
    // clap itself exits with 2 on a usage error and with 0 after --help.
    let parsed = Cli::from_arg_matches(&cli::manual::command().get_matches());
    let command = parsed.unwrap_or_else(|error| error.exit()).command;
    let json = command.json();
    match run(command) {
        Ok(code) => code,
        Err(failure) => {
            cli::complain(&failure, json);
            ExitCode::from(error::exit_code(&failure))
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let done = match command {
        Command::Convert(options) => return cli::convert(&options),
        Command::Boot(options) => cli::boot(&options),
        Command::Inspect(options) => return cli::inspect(&options),
        Command::Diff(options) => return cli::diff(&options),
        Command::Verify(options) => return cli::verify(&options),
        Command::Packages(options) => cli::packages(&options),
        Command::PackageMap(options) => cli::package_map(&options),
        Command::Ls(options) => cli::ls(&options),
        Command::Cat(options) => cli::cat(&options),
        Command::Extract(options) => cli::extract(&options),
        Command::Append(options) => cli::append(&options),
        Command::Report(options) => cli::report(&options),
        Command::History(options) => cli::history(&options),
        Command::Schema { name } => cli::schema(&name),
        Command::Completions { shell } => cli::completions(shell),
        Command::Man { out } => cli::man(out.as_deref()),
    };
    done.map(|()| ExitCode::SUCCESS)
}
