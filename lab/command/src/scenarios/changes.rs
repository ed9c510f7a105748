//! How messages have changed from release to release: `lab/corpus/CHANGES.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cln_lab::corpus::{ALL, Corpus, Kind, Shape, Type};

use super::forms::{form_of, shape_of};

/// The shapes of a release's messages, with deprecated APIs on, by kind and name.
type Shapes = BTreeMap<(Kind, String), Forms>;

/// The shapes of the messages of a name, by form.
type Forms = BTreeMap<String, Seen>;

/// The shape of the messages of a form.
#[derive(Debug, Default)]
struct Seen {
    /// What any of them has.
    any: Shape,
    /// What all of them have.
    all: Shape,
}

const ABSENT: &str = "absent";

/// A member that differs, and its types before and after.
type Difference = (String, String, String);

/// The page, in Markdown: every member that appeared, went, or changed its type.
pub fn changes() -> String {
    let mut page = String::from(
        "# What lightningd sends to plugins, release by release\n\
         \n\
         Written by `make topics` from the messages beside it: a row for each member that\n\
         appeared, went, or changed its type from one release to the next of those recorded,\n\
         with deprecated APIs allowed, as they are by default. A member that is sent only in a\n\
         case that no scenario plays is not here, and one marked `(sometimes)` may have been\n\
         sent earlier, in a case that was not played there. `[]` is an element of an array;\n\
         `weather` is a plugin's own topic.\n\
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
            for (member, was, is) in members(&on.any, &shape_of(&message)) {
                // What not every message has is not missing from one of them.
                if is != ABSENT || on.all.types(&member).is_some() {
                    let (kind, name) = (message.kind, &message.name);
                    rows.insert(format!("{kind} `{name}` | `{member}` | {was} | {is}"));
                }
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
        let seen = match forms.remove(&form) {
            Some(Seen { any, all }) => Seen {
                any: any.with(&shape),
                all: all.common(&shape),
            },
            None => Seen {
                any: shape.clone(),
                all: shape,
            },
        };
        forms.insert(form, seen);
    }
    shapes
}

/// What changed between two releases. Only forms that both have are compared: others are
/// other cases.
fn differences(old: Option<&Forms>, new: Option<&Forms>) -> Vec<Difference> {
    let row = |was: &str, is: &str| ("all of it".to_owned(), was.to_owned(), is.to_owned());
    let (old, new) = match (old, new) {
        (None, None) => return Vec::new(),
        (None, Some(_)) => return vec![row("not sent", "sent")],
        (Some(_), None) => return vec![row("sent", "not sent")],
        (Some(old), Some(new)) => (old, new),
    };
    let both = || {
        old.iter()
            .filter_map(|(form, old)| Some((form, old, new.get(form)?)))
    };
    let mut rows: BTreeMap<Difference, Vec<&str>> = BTreeMap::new();
    for (form, old, new) in both() {
        for (member, mut was, mut is) in members(&old.any, &new.any) {
            for (text, seen) in [(&mut was, old), (&mut is, new)] {
                if text != ABSENT && seen.all.types(&member).is_none() {
                    text.push_str(" (sometimes)");
                }
            }
            rows.entry((member, was, is)).or_default().push(form);
        }
    }
    let named = rows.into_iter().map(|((member, was, is), forms)| {
        let has = |seen: &Seen| seen.any.types(&member).is_some();
        let having = both().filter(|(_, old, new)| has(old) || has(new));
        let text = if having.count() == forms.len() {
            format!("`{member}`")
        } else {
            format!("`{member}` of {}", forms.join(", "))
        };
        (text, was, is)
    });
    named.collect()
}

/// The members that differ, but for those within one that only one of the two has.
fn members(old: &Shape, new: &Shape) -> Vec<Difference> {
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
            // An array may be empty, in any release.
            if path.ends_with("[]") {
                continue;
            }
        }
        rows.push((path.to_owned(), text(was), text(is)));
    }
    rows
}

fn text(types: Option<&BTreeSet<Type>>) -> String {
    let Some(types) = types else {
        return ABSENT.to_owned();
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
                "came absent object",
                "gone object absent",
                "msat string number"
            ]
        );
    }

    #[test]
    fn other_cases_are_no_changes() {
        let seen = |value: serde_json::Value| Seen {
            any: Shape::of(&value),
            all: Shape::of(&value),
        };
        let mut old = Forms::from([("in".to_owned(), seen(json!({"a": []})))]);
        let new = || Forms::from([("in".to_owned(), seen(json!({"a": [1]})))]);
        old.insert("out".to_owned(), seen(json!({"b": 1})));
        assert!(differences(Some(&old), Some(&new())).is_empty());
        assert_eq!(differences(None, Some(&new())).len(), 1);
        // What changed in some forms only is named with them.
        let mut new = new();
        new.insert("out".to_owned(), seen(json!({"b": 1, "a": []})));
        let rows = differences(Some(&old), Some(&new));
        let expected = ("`a` of out", ABSENT, "array");
        let rows: Vec<_> = rows
            .iter()
            .map(|(m, w, i)| (&m[..], &w[..], &i[..]))
            .collect();
        assert_eq!(rows, [expected]);
    }
}
