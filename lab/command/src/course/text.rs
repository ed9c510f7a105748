//! A step's text, one Markdown file with fixed headings.

/// What a step says. The headings of its file are a title and then `Why`, `See`, `Task`,
/// `Check`, `Hints`, in this order.
#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    /// The title.
    pub title: &'static str,
    /// Why one should know it: a few sentences.
    pub why: &'static str,
    /// Where there is more: a URL.
    pub see: &'static str,
    /// What to do. Indented lines are code.
    pub task: &'static str,
    /// What the check does and wants.
    pub check: &'static str,
    /// From a nudge to the solution, which follows the last.
    pub hints: Vec<&'static str>,
}

impl Text {
    /// Reads the file.
    ///
    /// # Errors
    /// What is missing or not in its place.
    pub fn parse(file: &'static str) -> Result<Text, String> {
        let mut sections = file.split("\n## ");
        let title = sections.next().unwrap_or_default();
        let title = title.strip_prefix("# ").ok_or("no title")?.trim();
        let mut section = |heading: &str| {
            let next = sections.next().unwrap_or_default();
            next.strip_prefix(heading)
                .and_then(|rest| rest.strip_prefix('\n'))
                .map(|rest| rest.trim_matches('\n'))
                .ok_or_else(|| format!("`{title}`: `## {heading}` expected, found `{next}`"))
        };
        let (why, see) = (section("Why")?, section("See")?);
        let (task, check) = (section("Task")?, section("Check")?);
        let hints = section("Hints")?.lines().enumerate().map(|(n, line)| {
            line.strip_prefix(&format!("{}. ", n + 1))
                .ok_or_else(|| format!("`{title}`: hint {} expected, found `{line}`", n + 1))
        });
        Ok(Text {
            title,
            why,
            see,
            task,
            check,
            hints: hints.collect::<Result<_, _>>()?,
        })
    }
}
