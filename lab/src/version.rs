//! Which program a node is, and its version.

use std::fmt;

use cln_topics::Release;
use serde::{Deserialize, Serialize};

/// A Core Lightning version such as `v26.06.6`: a release, by year and month, and what
/// follows it: a point release, `rc1`, `-modded`, a commit's name.
///
/// ```
/// use cln_lab::Version;
/// let version: Version = "v23.02.2".parse().unwrap();
/// assert!(version.at_least(22, 11) && !version.at_least(23, 8));
/// assert_eq!(version.to_string(), "v23.02.2");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    release: Release,
    text: String,
}

impl Version {
    /// True from the release `year`.`month` on, its release candidates included.
    pub fn at_least(&self, year: u16, month: u16) -> bool {
        self.release >= Release(year, month)
    }

    /// Its release: year and month.
    pub fn release(&self) -> Release {
        self.release
    }
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        let text = text.trim();
        let mut numbers = text.trim_start_matches('v').split('.').map(|part| {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            part[..digits].parse::<u16>()
        });
        let (Some(Ok(year)), Some(Ok(month))) = (numbers.next(), numbers.next()) else {
            return Err(format!("`{text}` is not a version such as v26.06.6"));
        };
        Ok(Version {
            release: Release(year, month),
            text: text.to_owned(),
        })
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Version, String> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Which program a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "version", rename_all = "lowercase")]
pub enum Implementation {
    /// Core Lightning.
    Lightningd(Version),
    /// The embedded node, `cln-embedded`, with the version it prints.
    Embedded(String),
}

impl Implementation {
    /// lightningd's version; `None` for the embedded node.
    pub fn lightningd(&self) -> Option<&Version> {
        match self {
            Implementation::Lightningd(version) => Some(version),
            Implementation::Embedded(_) => None,
        }
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Implementation::Lightningd(version) => write!(f, "lightningd {version}"),
            Implementation::Embedded(version) => write!(f, "embedded node {version}"),
        }
    }
}

/// Parses the first line that `PROGRAM --version` prints.
impl std::str::FromStr for Implementation {
    type Err = String;

    fn from_str(line: &str) -> Result<Implementation, String> {
        let line = line.trim();
        if line.starts_with("embedded-") {
            return Ok(Implementation::Embedded(line.to_owned()));
        }
        line.parse().map(Implementation::Lightningd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_lightningd_prints() {
        for (text, expected) in [
            ("v26.06.6\n", Release(26, 6)),
            ("v23.02.2", Release(23, 2)),
            ("v26.06rc1", Release(26, 6)),
            ("25.09", Release(25, 9)),
            ("v24.11.1-12-gabcdef0-modded", Release(24, 11)),
        ] {
            let v: Version = text.parse().expect(text);
            assert_eq!(v.release(), expected, "{text}");
        }
        for text in ["", "basic-abc", "v26", "vx.y"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_program_is_what_it_says() {
        let parse = |line: &str| line.parse::<Implementation>();
        let embedded = "embedded-0.1.0 (LDK 0.2.7)";
        assert_eq!(
            parse(embedded),
            Ok(Implementation::Embedded(embedded.to_owned()))
        );
        let real = parse("v26.06.6\n").expect("lightningd");
        assert_eq!(real.to_string(), "lightningd v26.06.6");
        assert!(parse("something else").is_err());
    }
}
