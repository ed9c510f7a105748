//! The plugins that the learner sees grow, from `contrib/plugins`.

use std::path::Path;

use cln_lab::{IoContext, Result, write_executable};

const FILES: [(&str, &str); 7] = [
    (
        "1-answers.sh",
        include_str!("../../contrib/plugins/workshop/1-answers.sh"),
    ),
    (
        "2-connect.sh",
        include_str!("../../contrib/plugins/workshop/2-connect.sh"),
    ),
    (
        "3-disconnect.sh",
        include_str!("../../contrib/plugins/workshop/3-disconnect.sh"),
    ),
    (
        "broken.sh",
        include_str!("../../contrib/plugins/workshop/broken.sh"),
    ),
    (
        "frail.sh",
        include_str!("../../contrib/plugins/workshop/frail.sh"),
    ),
    (
        "failing.py",
        include_str!("../../contrib/plugins/workshop/failing.py"),
    ),
    ("events.py", include_str!("../../contrib/plugins/events.py")),
];

/// Writes all of them into a new folder.
pub(super) fn write(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).doing("create folder", folder)?;
    FILES
        .iter()
        .try_for_each(|(name, text)| write_executable(&folder.join(name), text))
}
