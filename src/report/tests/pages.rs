//! What holds for the page of every kind of report.

use std::collections::BTreeSet;

use super::with_all;
use crate::report::{Exporter, Html};

/// The elements that pages are made of. An image's name that opens one is not escaped.
const ELEMENTS: &str = "a body caption circle code dd details div dl dt figcaption figure footer g h1 h2 h3 head header \
    html li line link main meta nav p path pre rect section span strong style summary svg table tbody td text th thead \
    title tr ul wbr";
/// Those without an end tag.
const VOID: [&str; 3] = ["meta", "link", "wbr"];
/// What a page holds nowhere: scripts, and what a browser would fetch.
const FORBIDDEN: [&str; 7] = ["<script", "http:", "https:", "//", "url(", "@import", "src="];

/// A start or an end tag.
struct Tag<'a> {
    /// The element's name, with a `/` before that of an end tag.
    name: &'a str,
    /// What stands in the tag after the name.
    attributes: &'a str,
}

impl Tag<'_> {
    /// The value of an attribute.
    fn get(&self, name: &str) -> Option<&str> {
        let rest = self.attributes.split_once(&format!(" {name}=\""))?.1;
        rest.split_once('"').map(|(value, _)| value)
    }
}

fn tags(page: &str) -> impl Iterator<Item = Tag<'_>> {
    page.split('<').skip(1).filter(|text| !text.starts_with('!')).map(|text| {
        let tag = text.split_once('>').map_or(text, |(tag, _)| tag);
        let end = tag.find(|c: char| c.is_whitespace() || (c == '/' && !tag.starts_with('/')));
        let (name, attributes) = tag.split_at(end.unwrap_or(tag.len()));
        Tag { name, attributes }
    })
}

/// The pieces of `page` from `<name` with the space or bracket after it to its end tag. None of these is in another.
fn elements<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let (start, end) = (format!("<{name}"), format!("</{name}>"));
    let pieces = page.split(start.as_str()).skip(1).filter(|text| text.starts_with([' ', '>']));
    pieces.filter_map(|text| text.split_once(end.as_str()).map(|(inside, _)| inside)).collect()
}

/// The charts in `page`: an SVG in another, without a `viewBox`, only cuts off the names in a treemap's cell.
fn charts(page: &str) -> Vec<&str> {
    let pieces = page
        .split("<svg")
        .skip(1)
        .filter(|text| text.split('>').next().is_some_and(|attributes| attributes.contains(" viewBox=")));
    pieces.map(|text| text.split("</svg>").next().unwrap_or(text)).collect()
}

/// Everything that is wrong with a page.
fn faults(page: &str) -> Vec<String> {
    let mut wrong: Vec<String> =
        FORBIDDEN.iter().filter(|word| page.contains(**word)).map(|word| format!("holds {word}")).collect();
    if page.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        wrong.push("a control character".into());
    }
    markup(page, &mut wrong);
    links(page, &mut wrong);
    for section in elements(page, "section") {
        for figure in elements(section, "figure") {
            self::figure(section, figure, &mut wrong);
        }
        let drawn: usize = elements(section, "figure").iter().map(|it| charts(it).len()).sum();
        if drawn != charts(section).len() {
            wrong.push("a chart without a caption".into());
        }
    }
    wrong
}

/// Whatever is opened is closed, in order, and is an element of ours: text of an image cannot open anything.
fn markup(page: &str, wrong: &mut Vec<String>) {
    let known: BTreeSet<&str> = ELEMENTS.split_whitespace().collect();
    let mut open = Vec::new();
    for tag in tags(page) {
        let word = tag.name.trim_start_matches('/');
        if !known.contains(word) {
            wrong.push(format!("an element <{word}>"));
        }
        // Outside of quotes stand names, each with a value, or `open` and the like.
        let names: String = tag.attributes.split('"').step_by(2).collect();
        if tag.attributes.matches('"').count() % 2 != 0
            || names.split_whitespace().any(|it| it.starts_with("on"))
        {
            wrong.push(format!("attributes of <{word}{}>", tag.attributes));
        }
        if tag.name.starts_with('/') {
            if open.pop() != Some(word) {
                wrong.push(format!("</{word}> closes another element"));
            }
        } else if !VOID.contains(&word) && !tag.attributes.ends_with('/') {
            open.push(word);
        }
    }
    wrong.extend(open.iter().map(|word| format!("<{word}> stays open")));
}

/// Each link leads to a place on the page, and each place has one name.
fn links(page: &str, wrong: &mut Vec<String>) {
    let mut places = BTreeSet::new();
    for id in tags(page).filter_map(|tag| tag.get("id").map(str::to_owned)) {
        if !places.insert(id.clone()) {
            wrong.push(format!("two places have the id {id}"));
        }
    }
    for tag in tags(page).filter(|tag| tag.name == "a") {
        let to = tag.get("href").and_then(|to| to.strip_prefix('#'));
        if !to.is_some_and(|to| places.contains(to)) {
            wrong.push(format!("a link to nowhere: {}", tag.attributes));
        }
    }
}

/// A chart has a caption, words for those who hear the page, a scale, and its figures in a table of the same section.
fn figure(section: &str, figure: &str, wrong: &mut Vec<String>) {
    let caption = elements(figure, "figcaption").concat();
    if caption.trim_start_matches('>').is_empty() {
        wrong.push("a figure without a caption".into());
    }
    if !section.contains("<tbody>\n<tr>") {
        wrong.push(format!("no table says the same: {caption}"));
    }
    for chart in charts(figure) {
        let tag = chart.split('>').next().unwrap_or_default();
        let tag = Tag { name: "svg", attributes: tag };
        let kind = tag.get("class").and_then(|class| class.split(' ').next()).unwrap_or_default();
        // What is inside an image is hidden from those who hear the page: a treemap has links.
        let role = if kind == "treemap" { "group" } else { "img" };
        if tag.get("role") != Some(role) || tag.get("aria-label").is_none_or(str::is_empty) {
            wrong.push(format!("a chart without words: {}", tag.attributes));
        }
        let lines = tags(chart).filter(|tag| tag.name == "line").count();
        let texts = elements(chart, "text");
        let values = texts.iter().filter(|text| text.contains(|c: char| c.is_ascii_digit())).count();
        let scale = match kind {
            // Bars have their axis below the last of them.
            "bar" => elements(figure, "div").iter().any(|div| div.contains("ticks")),
            // What areas stand for is said in the caption.
            "treemap" => caption.contains("Areas show"),
            _ => lines >= 2 && values >= 2,
        };
        if !scale {
            wrong.push(format!("a chart without a scale: {}", tag.attributes));
        }
    }
}

#[test]
fn every_page_is_whole_and_runs_nothing() {
    let mut kinds = BTreeSet::new();
    with_all(&mut |name, report| {
        let page = Html.export(report).unwrap();
        let wrong = faults(&page);
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
        for chart in tags(&page).filter(|tag| tag.name == "svg") {
            kinds.extend(chart.get("class").and_then(|class| class.split(' ').next()).map(str::to_owned));
        }
        let title = page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).unwrap().0;
        assert!(!title.is_empty() && page.contains("<html lang=\"en\">"), "{name}");
    });
    // Charts of all kinds were looked at.
    assert_eq!(
        kinds.iter().map(String::as_str).collect::<Vec<_>>(),
        ["bar", "machines", "ram", "treemap", "trend"]
    );
}

#[test]
fn names_of_images_and_packages_are_shown_on_every_page_and_do_nothing() {
    let mut shown = Vec::new();
    with_all(&mut |name, report| {
        if Html.export(report).unwrap().contains("&lt;") {
            shown.push(name.to_owned());
        }
    });
    shown.dedup();
    let all = [
        "conversion",
        "inspection",
        "difference",
        "verification",
        "boot",
        "min",
        "history",
        "matrix",
        "packages",
    ];
    assert_eq!(shown, all);
}

/// Each check fails on a page with its fault.
#[test]
fn faults_of_a_page_are_found() {
    let page = Html.export(&crate::report::Report::History(&crate::report::samples::history())).unwrap();
    assert!(faults(&page).is_empty());
    let doctored = [
        ("<section", "<b><section", "an element <b>"),
        ("</figure>", "", "</section> closes another element"),
        ("<table", "<table onclick=\"x\"", "attributes of <table onclick"),
        ("<header>", "<header><a href=\"#s99\"></a>", "a link to nowhere:  href=\"#s99\""),
        ("<section id=\"s1\"", "<section id=\"s1\"><p id=\"s1\"></p", "two places have the id s1"),
        ("<figure", "<script></script><figure", "holds <script"),
        ("<tbody>\n<tr>", "<tbody>", "no table says the same"),
        ("<figcaption", "<p", "a figure without a caption"),
        (" role=\"img\"", "", "a chart without words"),
        ("<line ", "<path ", "a chart without a scale"),
        ("<h2>", "<h2>\u{1b}", "a control character"),
        ("<figure>", "<div>", "a chart without a caption"),
    ];
    for (from, to, fault) in doctored {
        let wrong = faults(&page.replace(from, to));
        assert!(wrong.iter().any(|text| text.contains(fault)), "{fault}: {wrong:#?}");
    }
}

/// Red, green and blue of `#rgb` or `#rrggbb`, each up to 255.
fn channels(colour: &str) -> [f64; 3] {
    let digits = colour.trim_start_matches('#');
    let digits: String =
        if digits.len() == 3 { digits.chars().flat_map(|c| [c, c]).collect() } else { digits.into() };
    [0, 2, 4].map(|at| f64::from(u8::from_str_radix(&digits[at..at + 2], 16).unwrap()))
}

/// The contrast of two colours as WCAG 2 defines it.
fn contrast(a: &str, b: &str) -> f64 {
    let luminance = |colour: &str| -> f64 {
        let [r, g, b] = channels(colour).map(|channel| {
            let value = channel / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    };
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// What is seen of `top`, of which `part` is opaque, over `below`.
fn over(top: &str, below: &str, part: f64) -> String {
    let (top, below) = (channels(top), channels(below));
    let mixed = [0, 1, 2].map(|i| top[i] * part + below[i] * (1.0 - part));
    format!("#{}", mixed.map(|value| format!("{:02x}", value.round() as u8)).concat())
}

#[test]
fn every_text_of_a_page_has_enough_contrast() {
    let style = include_str!("../style.css");
    // Light, dark and print each set their own colours.
    let themes: Vec<&str> =
        style.split(":root {").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert_eq!(themes.len(), 3);
    for theme in themes {
        let colour = |name: &str| {
            theme
                .split(';')
                .find_map(|rule| rule.trim().strip_prefix(&format!("--{name}: ")))
                .unwrap_or_else(|| panic!("{name}: {theme}"))
        };
        for text in ["ink", "soft", "good", "bad", "link"] {
            for paper in ["paper", "card", "code"] {
                let ratio = contrast(colour(text), colour(paper));
                assert!(ratio >= 4.5, "{text} on {paper}: {ratio:.2} in {theme}");
            }
        }
        // Names in a treemap lie on a cell's colour, over that of its group, over the card. Print sets no opacities: 0.44
        // is the largest.
        let part = |name: &str| -> f64 {
            let own = theme.split(';').find_map(|rule| rule.trim().strip_prefix(&format!("--{name}: ")));
            own.map_or(0.44, |value| value.parse().unwrap())
        };
        let cells = (0..8).map(|i| format!("c{i}")).filter(|name| theme.contains(&format!("--{name}: ")));
        let parts = cells.map(|name| {
            over(colour(&name), &over(colour(&name), colour("card"), part("group")), part("cell"))
        });
        let changes = ["good", "bad", "soft"];
        let changes =
            changes.map(|name| over(colour(name), &over(colour("soft"), colour("card"), 0.12), part("two")));
        for below in parts.chain(changes) {
            let ratio = contrast(colour("ink"), &below);
            assert!(ratio >= 4.5, "ink on {below}: {ratio:.2} in {theme}");
        }
    }
}
