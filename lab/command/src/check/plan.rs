//! What is to be checked.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use cln_lab::corpus::{self, Corpus};
use serde_json::{Map, Value};

/// How many releases are played at once, for each core.
const JOBS: NonZeroUsize = NonZeroUsize::new(3).expect("not 0");

/// A check: the plugin, and what it is played.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The plugin's executable.
    pub plugin: PathBuf,
    /// The releases, oldest first.
    pub releases: Vec<&'static Corpus>,
    /// Only these topics; all that it subscribed to if there are none.
    pub topics: Vec<String>,
    /// The values of its options, by name.
    pub options: Map<String, Value>,
    /// Its environment, beside what lightningd sets.
    pub env: Vec<(String, String)>,
    /// More answers on the RPC socket, by method: a result, or `{"error": {…}}`.
    pub answers: HashMap<String, Value>,
    /// How long it may be silent when an answer is due, before
    /// [`cln_lab::timeout_factor`].
    pub patience: Duration,
    /// How many notifications the burst has, if the plugin handles them in a second.
    pub burst: usize,
    /// How many releases are played at once.
    pub jobs: NonZeroUsize,
}

impl Plan {
    /// Everything, on every release: 10 s of patience, a burst of 10,000 notifications,
    /// three releases at once for each core: a plugin waits more than it computes.
    pub fn new(plugin: impl Into<PathBuf>) -> Plan {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Plan {
            plugin: plugin.into(),
            releases: corpus::ALL.iter().collect(),
            topics: Vec::new(),
            options: Map::new(),
            env: Vec::new(),
            answers: HashMap::new(),
            patience: Duration::from_secs(10),
            burst: 10_000,
            jobs: cores.saturating_mul(JOBS),
        }
    }
}

/// The releases of a range such as `v24.11..`, `..v24.02`, `v24.02..v24.11`, both ends
/// included, or of one version.
///
/// # Errors
/// If it is no range, or has no release that was recorded.
pub fn releases(range: &str) -> Result<Vec<&'static Corpus>, String> {
    let (from, to) = range.split_once("..").unwrap_or((range, range));
    if range.is_empty() || to.contains("..") {
        return Err(format!(
            "`{range}` is no range: v24.11, v24.11.., ..v24.02, v24.02..v25.05"
        ));
    }
    let end = |text: &str, open: cln_topics::Release| match text {
        "" => Ok(open),
        text => text.parse().map_err(|error: String| error),
    };
    let from = end(from, cln_topics::Release(0, 0))?;
    let to = end(to, cln_topics::Release::NEWEST)?;
    let within = |corpus: &&Corpus| {
        let release: Result<cln_topics::Release, _> = corpus.version().parse();
        release.is_ok_and(|release| (from..=to).contains(&release))
    };
    let found: Vec<&'static Corpus> = corpus::ALL.iter().filter(within).collect();
    if found.is_empty() {
        let known: Vec<&str> = corpus::ALL.iter().map(Corpus::version).collect();
        return Err(format!("`{range}` has none of {}", known.join(", ")));
    }
    Ok(found)
}

/// The value of an option as lightningd would send it for an option of this type; else
/// what the type requires.
///
/// # Errors
/// If the text is no value of the type.
pub fn typed(name: &str, text: &str, kind: &str) -> Result<Value, String> {
    let refused = || format!("option `{name}`: `{text}` is no {kind}");
    match kind {
        "int" => text.parse::<i64>().map(Value::from).map_err(|_| refused()),
        "bool" | "flag" => text.parse::<bool>().map(Value::from).map_err(|_| refused()),
        _ => Ok(Value::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_of_releases() {
        let newest = corpus::ALL.last().expect("one").version();
        assert_eq!(releases(newest).map(|found| found.len()), Ok(1));
        assert_eq!(
            releases("..").map(|found| found.len()),
            Ok(corpus::ALL.len())
        );
        assert_eq!(
            releases("v23.02..").map(|found| found.len()),
            Ok(corpus::ALL.len())
        );
        assert!(releases("..v20.01").is_err_and(|error| error.contains(newest)));
        for nonsense in [
            "new",
            "",
            "v24.11..v25.02..v26",
            "v24.11...v25.02",
            "...",
            "....",
        ] {
            assert!(releases(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn options_have_their_types() {
        assert_eq!(typed("a", "7", "int"), Ok(json!(7)));
        assert_eq!(typed("a", "true", "bool"), Ok(json!(true)));
        assert_eq!(typed("a", "7", "string"), Ok(json!("7")));
        assert!(typed("a", "x", "int").is_err_and(|error| error.contains("`a`")));
    }
}
