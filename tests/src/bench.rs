//! Two ways of doing a thing, timed in turn in one run, so that a ratio holds
//! however fast the machine is at the moment.

use std::time::{Duration, Instant};

use anyhow::Context;
use cln_lab::Node;

use crate::Outcome;

/// How long it takes.
///
/// # Errors
/// Its own.
pub fn timed(run: impl FnOnce() -> Outcome) -> anyhow::Result<Duration> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}

/// Pairs of times.
#[derive(Debug)]
pub struct Pairs {
    title: String,
    names: [String; 2],
    pairs: Vec<(Duration, Duration)>,
}

impl Pairs {
    /// Compares `ours` with `theirs` at what the title says.
    pub fn new(title: &str, ours: &str, theirs: &str) -> Pairs {
        Pairs {
            title: title.to_owned(),
            names: [ours.to_owned(), theirs.to_owned()],
            pairs: Vec::new(),
        }
    }

    /// Adds the times of one turn.
    pub fn add(&mut self, ours: Duration, theirs: Duration) {
        self.pairs.push((ours, theirs));
    }

    /// The median of the pairs' ratios, ours / theirs; `None` without a pair.
    pub fn ratio(&self) -> Option<f64> {
        median(
            self.pairs
                .iter()
                .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()),
        )
    }

    /// Prints the medians, and the median of the ratios with their range.
    pub fn print(&self) {
        let ours = median(self.pairs.iter().map(|(a, _)| a.as_secs_f64()));
        let theirs = median(self.pairs.iter().map(|(_, b)| b.as_secs_f64()));
        let ratios = || {
            self.pairs
                .iter()
                .map(|(a, b)| a.as_secs_f64() / b.as_secs_f64())
        };
        let least = ratios().fold(f64::INFINITY, f64::min);
        let most = ratios().fold(0.0, f64::max);
        println!(
            "{}: {} {}, {} {}, ratio {:.2} ({least:.2} to {most:.2}), {} pairs",
            self.title,
            self.names[0],
            readable(ours),
            self.names[1],
            readable(theirs),
            self.ratio().unwrap_or(f64::NAN),
            self.pairs.len()
        );
    }
}

/// Seconds, in a unit that suits them.
fn readable(seconds: Option<f64>) -> String {
    match seconds {
        None => "none".to_owned(),
        Some(seconds) if seconds < 0.01 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) => format!("{:.0} ms", seconds * 1e3),
    }
}

/// The middle value; `None` without any.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.into_iter().collect();
    quantile(&values, 0.5)
}

/// The value below which this share of them lies, 0 to 1; `None` without any.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = (sorted.len() as f64 * share) as usize;
    Some(sorted[at.min(last)])
}

/// The memory of a node in MB, of all its processes: each one's proportional set size, in which what
/// processes share is counted once among them. One that has ended has none.
///
/// # Errors
/// There is no `smaps_rollup`, which is Linux's.
pub async fn node_memory(node: &Node) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for process in node.processes().await? {
        sum += proportional_memory(process.pid)?;
    }
    Ok(sum)
}

/// The highest resident memory of a process in MB; NaN if it is not known.
pub fn peak_memory(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let highest = status.lines().find_map(|line| {
        let kilobytes = line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?;
        kilobytes.parse::<f64>().ok()
    });
    highest.unwrap_or(f64::NAN) / 1000.0
}

fn proportional_memory(pid: u32) -> anyhow::Result<f64> {
    let rollup = match std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
        Ok(rollup) => rollup,
        Err(_) if is_ending(pid) => return Ok(0.0),
        Err(error) => return Err(error.into()),
    };
    let kilobytes = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"))
        .context("no Pss in smaps_rollup")?;
    Ok(kilobytes.trim().parse::<f64>()? / 1000.0)
}

/// A process lets go of its memory a moment before it is gone.
fn is_ending(pid: u32) -> bool {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm"));
    statm.map_or(true, |sizes| sizes.starts_with("0 "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs() {
        let mut pairs = Pairs::new("t", "a", "b");
        assert_eq!(pairs.ratio(), None);
        for (a, b) in [(1, 2), (9, 1), (3, 4)] {
            pairs.add(Duration::from_secs(a), Duration::from_secs(b));
        }
        assert_eq!(pairs.ratio(), Some(0.75));
    }
}
