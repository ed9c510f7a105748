//! How messages have changed from release to release: `lab/corpus/CHANGES.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cln_lab::corpus::{ALL, Corpus, Kind, Shape, Type};

use super::forms::{form_of, shape_of};

/// The shapes of a release's messages, with deprecated APIs on: by kind and name, then by
/// form.
type Shapes = BTreeMap<(Kind, String), BTreeMap<String, Shape>>;

/// The page, in Markdown: every member that appeared, went, or changed its type.
pub fn changes() -> String {
    let mut page = String::from(
        "# What lightningd sends to plugins, release by release\n\
         \n\
         Written by `make topics` from the messages beside it: a row for each member that\n\
         appeared, went, or changed its type from one release to the next of those recorded,\n\
         with deprecated APIs allowed, as they are by default. A member that is sent only in a\n\
         case that no scenario plays is not here; one that comes and goes with a case that not\n\
         every release could play counts only where both releases played it. `[]` is an element of an array.\n\
         \n\
         | message | member | last release before | first release after | before | after |\n\
         |---|---|---|---|---|---|\n",
    );
    let releases: Vec<(&Corpus, Shapes)> = ALL.iter().map(|c| (c, shapes(c))).collect();
    let names: BTreeSet<&(Kind, String)> = releases
        .iter()
        .flat_map(|(_, shapes)| shapes.keys())
        .collect();
    for name in names {
        for pair in releases.windows(2) {
            let [(before, old), (after, new)] = pair else {
                continue;
            };
            for (member, was, is) in differences(old.get(name), new.get(name)) {
                let (kind, name) = name;
                let (before, after) = (before.version(), after.version());
                let _ = writeln!(
                    page,
                    "| {kind} `{name}` | {member} | {before} | {after} | {was} | {is} |"
                );
            }
        }
    }
    page.push_str(
        "\n\
         ## With `allow-deprecated-apis=false`\n\
         \n\
         How messages differ then from those of the same release above.\n\
         \n\
         | release | message | member | by default | then |\n\
         |---|---|---|---|---|\n",
    );
    for (corpus, shapes) in &releases {
        let mut rows = BTreeSet::new();
        for message in corpus.messages().filter(|message| !message.deprecated) {
            let of_name = shapes.get(&(message.kind, message.name.clone()));
            let Some(on) = of_name.and_then(|forms| forms.get(&form_of(&message))) else {
                continue;
            };
            for (member, was, is) in members(on, &shape_of(&message)) {
                rows.insert(format!(
                    "{} `{}` | {member} | {was} | {is}",
                    message.kind, message.name
                ));
            }
        }
        for row in rows {
            let _ = writeln!(page, "| {} | {row} |", corpus.version());
        }
    }
    page
}

fn shapes(corpus: &Corpus) -> Shapes {
    let mut shapes = Shapes::new();
    for message in corpus.messages() {
        if !message.deprecated || matches!(message.kind, Kind::Answer | Kind::Help) {
            continue;
        }
        let form = form_of(&message);
        let shape = shape_of(&message);
        let forms = shapes.entry((message.kind, message.name)).or_default();
        let known = forms.remove(&form).unwrap_or_default();
        forms.insert(form, known.with(&shape));
    }
    shapes
}

/// What changed between two releases: member, before, after.
fn differences(
    old: Option<&BTreeMap<String, Shape>>,
    new: Option<&BTreeMap<String, Shape>>,
) -> Vec<(String, String, String)> {
    let row = |was: &str, is: &str| ("all of it".to_owned(), was.to_owned(), is.to_owned());
    match (old, new) {
        (None, None) => Vec::new(),
        (None, Some(_)) => vec![row("not sent", "sent")],
        (Some(_), None) => vec![row("sent", "not sent")],
        (Some(old), Some(new)) => {
            // Only forms that both have: others are other cases.
            let both = || old.keys().filter(|form| new.contains_key(*form));
            let join = |forms: &BTreeMap<String, Shape>| {
                both()
                    .filter_map(|form| forms.get(form))
                    .fold(Shape::default(), Shape::with)
            };
            members(&join(old), &join(new))
        }
    }
}

/// The members that differ, but for those within one that only one of the two has.
fn members(old: &Shape, new: &Shape) -> Vec<(String, String, String)> {
    let paths: BTreeSet<&str> = old
        .members()
        .chain(new.members())
        .map(|(path, _)| path)
        .collect();
    let mut rows = Vec::new();
    let mut last: Option<&str> = None;
    for path in paths {
        let (was, is) = (old.types(path), new.types(path));
        let within = last.is_some_and(|last| {
            path.strip_prefix(last)
                .is_some_and(|rest| rest.starts_with(['.', '[']))
        });
        if was == is || within {
            continue;
        }
        if was.is_none() || is.is_none() {
            last = Some(path);
        }
        rows.push((format!("`{path}`"), text(was), text(is)));
    }
    rows
}

fn text(types: Option<&BTreeSet<Type>>) -> String {
    let Some(types) = types else {
        return "absent".to_owned();
    };
    let types: Vec<String> = types.iter().map(Type::to_string).collect();
    types.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_appears_goes_or_changes_its_type_is_a_row() {
        let old = Shape::of(&json!({"id": 1, "msat": "1msat", "same": [1], "gone": {"x": 1}}));
        let new = Shape::of(&json!({"id": 1, "msat": 1, "same": [2], "came": {"y": {"z": 1}}}));
        let rows: Vec<String> = members(&old, &new)
            .into_iter()
            .map(|(member, was, is)| format!("{member} {was} {is}"))
            .collect();
        assert_eq!(
            rows,
            [
                "`came` absent object",
                "`gone` object absent",
                "`msat` string number"
            ]
        );
    }

    #[test]
    fn other_cases_are_no_changes() {
        let forms = |list: &[(&str, serde_json::Value)]| -> BTreeMap<String, Shape> {
            list.iter()
                .map(|(form, value)| ((*form).to_owned(), Shape::of(value)))
                .collect()
        };
        let old = forms(&[("in", json!({"a": 1}))]);
        let new = forms(&[("in", json!({"a": 1})), ("out", json!({"b": 1}))]);
        assert!(differences(Some(&old), Some(&new)).is_empty());
        assert_eq!(differences(None, Some(&new)).len(), 1);
    }
}
