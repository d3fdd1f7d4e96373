//! Progress on a terminal, and only there.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line on stderr that tells what is being done and how far it is.
pub struct Progress {
    bar: ProgressBar,
    stage: Mutex<String>,
}

impl Progress {
    /// Hidden where `quiet` or where stderr is no terminal.
    pub fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        let bar = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        // indicatif panics if the thread that turns the spinner cannot be started.
        if shown && std::thread::Builder::new().spawn(|| ()).is_ok() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { bar, stage: Mutex::new(String::new()) }
    }

    /// `done` of `total` bytes of `stage`; a `total` of 0 is unknown.
    pub fn bytes(&self, stage: &str, done: u64, total: u64) {
        {
            let Ok(mut current) = self.stage.lock() else { return };
            if *current != stage {
                stage.clone_into(&mut current);
                self.bar.set_message(stage.to_owned());
                let template = if total > 0 {
                    "{spinner} {msg:<28} {bar:30} {percent:>3}%  {elapsed}"
                } else {
                    "{spinner} {msg:<28} {elapsed}"
                };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    self.bar.set_style(style);
                }
                self.bar.set_length(total.max(1));
                self.bar.reset_elapsed();
            }
        }
        self.bar.set_position(done);
    }

    /// A line that says what is being done.
    pub fn say(&self, text: String) {
        self.bar.set_message(text);
    }

    /// A line that stays, above the progress; nothing where there is none.
    pub fn note(&self, text: String) {
        self.bar.println(text);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
