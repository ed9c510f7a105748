//! The course as Markdown pages, from the same source as the screen.

use std::fmt::Write;

use super::{LANGUAGES, PARTS, STEPS, Step};

/// The pages: names of files, and their texts. The first is the list.
pub fn pages() -> Vec<(String, String)> {
    let mut index = "# Learn to write a Core Lightning plugin\n\n\
        The course of `lab learn`, to be read. `lab learn` checks what you write, over the\n\
        wire, at each save.\n"
        .to_owned();
    let mut pages = Vec::new();
    for (n, part) in (1..).zip(PARTS) {
        let _ = write!(index, "\n## {n}. {part}\n\n");
        for step in STEPS.iter().filter(|step| step.part == n) {
            let title = step.text().title;
            let _ = writeln!(index, "{}. [{title}]({})", step.number(), name(step));
            pages.push((name(step), page(step)));
        }
    }
    pages.insert(0, ("README.md".to_owned(), index));
    pages
}

fn name(step: &Step) -> String {
    format!("{:02}-{}.md", step.number(), step.slug)
}

fn page(step: &Step) -> String {
    let text = step.text();
    let mut page = format!(
        "# {}. {}\n\n{}\n\nMore: <{}>\n\n## Your turn\n\n{}\n\n## What is checked\n\n{}\n\n## Hints\n",
        step.number(),
        text.title,
        text.why,
        text.see,
        text.task,
        text.check
    );
    for (n, hint) in (1..).zip(&text.hints) {
        let _ = write!(
            page,
            "\n<details><summary>Hint {n}</summary>\n\n{hint}\n\n</details>\n"
        );
    }
    page.push_str("\n## A solution\n");
    for language in LANGUAGES {
        let solution = language.solution(step.slug);
        let _ = write!(
            page,
            "\n<details><summary>{}</summary>\n\n```{}\n{solution}```\n\n</details>\n",
            language.name, language.markdown
        );
    }
    page.push('\n');
    for (word, offset) in [("Back", -1), ("Next", 1)] {
        let other = step
            .number()
            .checked_add_signed(offset)
            .and_then(|n| STEPS.get(n.wrapping_sub(1)));
        if let Some(other) = other {
            let _ = writeln!(page, "{word}: [{}]({})  ", other.text().title, name(other));
        }
    }
    page.push_str("\n[All steps](README.md)\n");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_pages_are_these() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/course");
        for (name, text) in pages() {
            let committed = std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
            assert!(
                committed == text,
                "contrib/course/{name} is stale: run `make course`"
            );
        }
        let files = std::fs::read_dir(folder).expect("the folder").count();
        assert_eq!(
            files,
            pages().len(),
            "a page of no step: remove it, and run `make course`"
        );
    }
}
