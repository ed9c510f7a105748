//! Versions of lightningd, and what depends on them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A Core Lightning version such as `v26.06.6`: year, month, point release.
///
/// What follows the numbers (`rc1`, `-modded`, a commit's name) is kept for
/// display but takes no part in comparisons.
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
    year: u16,
    month: u16,
    point: u16,
    text: String,
}

impl Version {
    /// True from the release `year`.`month` on, its release candidates included.
    pub fn at_least(&self, year: u16, month: u16) -> bool {
        (self.year, self.month) >= (year, month)
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
            return Err(format!("`{text}` is no version of the form v26.06.6"));
        };
        let point = numbers.next().and_then(Result::ok).unwrap_or(0);
        Ok(Version {
            year,
            month,
            point,
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

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<std::cmp::Ordering> {
        let key = |v: &Version| (v.year, v.month, v.point);
        match key(self).cmp(&key(other)) {
            // Equal only if the text is, too: v26.06rc1 and v26.06 have no order here.
            std::cmp::Ordering::Equal if self.text != other.text => None,
            order => Some(order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_lightningd_prints() {
        for (text, expected) in [
            ("v26.06.6\n", (26, 6, 6)),
            ("v23.02.2", (23, 2, 2)),
            ("v26.06rc1", (26, 6, 0)),
            ("25.09", (25, 9, 0)),
            ("v24.11.1-12-gabcdef0-modded", (24, 11, 1)),
        ] {
            let v: Version = text.parse().expect(text);
            assert_eq!((v.year, v.month, v.point), expected, "{text}");
        }
        for text in ["", "basic-abc", "v26", "vx.y"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
