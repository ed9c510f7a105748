//! A sign of life on the terminal while something is awaited.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner on standard error, gone when dropped. Where standard error is no
/// terminal there is nothing to be seen.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn start(text: impl Into<String>) -> Progress {
        let bar = ProgressBar::new_spinner().with_message(text.into());
        // `NO_COLOR` is seen to by the template's renderer.
        if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(80));
        Progress(bar)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
