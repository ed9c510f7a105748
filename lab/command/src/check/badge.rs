//! A picture for a README: the releases that a plugin works with.

use super::finding::Level;
use super::summary::{Summary, ranges};

/// The width of a character, about, in pixels.
const CHARACTER: usize = 7;

/// An SVG as those of shields.io look: green without an error, red with one, and the
/// releases that have none.
pub fn badge(summary: &Summary) -> String {
    let all = summary.releases();
    let works = |report: &&super::Report| {
        report
            .findings
            .iter()
            .all(|finding| finding.level != Level::Error)
    };
    let good: Vec<&str> = summary
        .reports
        .iter()
        .filter(works)
        .map(|r| &r.release[..])
        .collect();
    let (colour, text) = match good.len() {
        0 => ("#e05d44", "fails".to_owned()),
        n if n == all.len() => ("#4c1", ranges(&good, &all)),
        _ => ("#dfb317", ranges(&good, &all)),
    };
    let label = "lightningd";
    let width = |text: &str| text.chars().count() * CHARACTER + 10;
    let (left, right) = (width(label), width(&text));
    let total = left + right;
    let (middle, place) = (left / 2, left + right / 2);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {text}\">\n\
         <title>{label}: {text}</title>\n\
         <rect width=\"{left}\" height=\"20\" fill=\"#555\"/>\n\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{colour}\"/>\n\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,sans-serif\" \
         font-size=\"11\">\n\
         <text x=\"{middle}\" y=\"14\">{label}</text>\n\
         <text x=\"{place}\" y=\"14\">{text}</text>\n\
         </g>\n</svg>\n"
    )
}
