//! A sign of life on the terminal while something is awaited.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner on standard error, gone when dropped. Nothing is shown where standard
/// error is not a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn start(text: impl Into<String>) -> Progress {
        let bar = ProgressBar::new_spinner().with_message(text.into());
        // The template honours `NO_COLOR`.
        if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(80));
        Progress(bar)
    }

    /// Shows one until `awaited` is there.
    pub async fn during<T>(text: impl Into<String>, awaited: impl Future<Output = T>) -> T {
        let _progress = Progress::start(text);
        awaited.await
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
