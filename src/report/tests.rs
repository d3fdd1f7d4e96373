use std::path::Path;

mod pages;

use super::*;

/// Every kind of report with every field filled.
fn with_all(check: &mut dyn FnMut(&str, &Report)) {
    check("conversion", &Report::Conversion(&samples::conversion()));
    let dry = Conversion { dry_run: true, new: None, ram_after: None, ..samples::conversion() };
    check("conversion", &Report::Conversion(&dry));
    check("inspection", &Report::Inspection(&samples::inspection()));
    check("difference", &Report::Difference(&samples::difference()));
    check("verification", &Report::Verification(&samples::verification(true)));
    check("verification", &Report::Verification(&samples::verification(false)));
    check("boot", &Report::Boot(&samples::boot(true)));
    check("boot", &Report::Boot(&samples::boot(false)));
    check("min", &Report::Min(&samples::min()));
    check("history", &Report::History(&samples::history()));
    check("matrix", &Report::Matrix(&samples::matrix()));
    check("packages", &Report::Packages { report: &samples::package_report(), top: usize::MAX });
}

fn schema(name: &str) -> serde_json::Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/report/schema/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn json_and_schemas_agree() {
    with_all(&mut |name, report| {
        let validator = jsonschema::validator_for(&schema(name)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&Json.export(report).unwrap()).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path)).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
    });
}

/// A field that is in the data and not in the schema, or the other way round, fails: each object of the schema
/// forbids what it does not name and requires what it names.
#[test]
fn schemas_are_strict() {
    fn walk(value: &serde_json::Value, at: &str) {
        if let Some(properties) = value.get("properties").and_then(|p| p.as_object()) {
            assert_eq!(value["additionalProperties"], false, "{at}");
            let required: Vec<&str> =
                value["required"].as_array().unwrap().iter().filter_map(|v| v.as_str()).collect();
            for name in properties.keys() {
                assert!(required.contains(&name.as_str()), "{at}: {name} is not required");
            }
        }
        match value {
            serde_json::Value::Object(map) => map.iter().for_each(|(k, v)| walk(v, &format!("{at}/{k}"))),
            serde_json::Value::Array(list) => list.iter().for_each(|v| walk(v, at)),
            _ => {}
        }
    }
    for (name, text) in SCHEMAS {
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema["$id"], format!("urn:btrsquash:schema:{name}:{SCHEMA_VERSION}"));
        if !["listing", "packages"].contains(&name) {
            walk(&schema, name);
        }
    }
}

#[test]
fn a_saved_report_shows_the_same_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    with_all(&mut |name, report| {
        if name == "history" {
            return;
        }
        std::fs::write(&file, Json.export(report).unwrap()).unwrap();
        let saved = Saved::read(&file).unwrap();
        assert_eq!(Text.export(&saved.report()).unwrap(), Text.export(report).unwrap(), "{name}");
    });
    std::fs::write(&file, "{}").unwrap();
    assert_eq!(Saved::read(&file).unwrap_err().kind, crate::error::Kind::Input);
}

#[test]
fn reports_can_be_read_back() {
    let min = samples::min();
    let text = Json.export(&Report::Min(&min)).unwrap();
    assert_eq!(serde_json::from_str::<MinReport>(&text).unwrap(), min);
    let conversion = samples::conversion();
    let text = Json.export(&Report::Conversion(&conversion)).unwrap();
    assert_eq!(serde_json::from_str::<Conversion>(&text).unwrap(), conversion);
}

#[test]
fn figures_of_the_first_schema_can_be_read() {
    let old = r#"{"schema_version":1,"tool":{"name":"btrsquash","version":"0.1.0"},"image":"a","kernel":"b",
        "accelerator":"","ram_mib":1,"booted":true,"outcome":"","milliseconds":1,"console":[],"moments":[
        {"name":"first program","used":{"value":1,"unit":"bytes","origin":"measured"},
         "available":{"value":1,"unit":"bytes","origin":"measured"}},
        {"name":"least available, 1.3 s","used":{"value":1,"unit":"bytes","origin":"measured"},
         "available":{"value":1,"unit":"bytes","origin":"measured"}}],"notes":[]}"#;
    let report: BootReport = serde_json::from_str(old).unwrap();
    let phases: Vec<_> = report.moments.iter().map(|moment| moment.phase).collect();
    assert_eq!(phases, [Some(crate::ram::Phase::Init), None]);
    let min = Json.export(&Report::Min(&samples::min())).unwrap().replace("\"minimum\"", "\"least\"");
    assert_eq!(serde_json::from_str::<MinReport>(&min).unwrap(), samples::min());
    let unknown = old.replace("first program", "no such phase");
    assert!(serde_json::from_str::<BootReport>(&unknown).is_err());
}

#[test]
fn plain_text_fits_80_columns_and_holds_no_control_characters() {
    with_all(&mut |name, report| {
        let text = Text.export(report).unwrap();
        for (number, line) in text.lines().enumerate() {
            // The title is one line, however long the names of the files are: scripts read it.
            assert!(number == 0 || line.chars().count() <= 80, "{name}: {line:?}");
            assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{name}: {line:?}");
        }
    });
}

#[test]
fn the_answer_is_short_and_the_beginning_of_the_whole() {
    with_all(&mut |name, report| {
        let terminal = Terminal { colour: false, width: 80 };
        let (answer, whole) = (terminal.answer(report), terminal.export(report).unwrap());
        if ["conversion", "inspection", "difference"].contains(&name) {
            let rest = "  --full shows the whole report\n";
            assert!(whole.starts_with(answer.strip_suffix(rest).unwrap()), "{name}: {answer}");
            assert!(answer.lines().count() <= 24, "{name}: {answer}");
        }
    });
}

#[test]
fn the_last_line_says_what_was_written_and_what_is_next() {
    let line = written(&samples::conversion(), 12_300).unwrap();
    assert!(
        line.starts_with(
            "wrote initrd.btrsquash.img: 54.2 MB, minimum RAM 226 MiB computed, in 12.3 s, SHA-256 5d5d"
        ),
        "{line}"
    );
    assert!(line.ends_with("; next: btrsquash verify initrd.gz initrd.btrsquash.img"), "{line}");
}

#[test]
fn colour_only_adds_colour() {
    with_all(&mut |_, report| {
        let plain = Terminal { colour: false, width: 80 }.export(report).unwrap();
        let coloured = Terminal { colour: true, width: 80 }.export(report).unwrap();
        assert!(coloured.contains("\x1b["));
        let mut stripped = String::new();
        for piece in coloured.split('\x1b') {
            stripped.push_str(
                piece.strip_prefix('[').and_then(|p| p.split_once('m')).map_or(piece, |(_, text)| text),
            );
        }
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&stripped), trimmed(&plain));
    });
}

#[test]
fn markdown_holds_no_html() {
    with_all(&mut |name, report| {
        let text = Markdown.export(report).unwrap();
        let outside: String = text.split("```").step_by(2).collect();
        assert!(!outside.contains('<'), "{name}");
        assert!(!text.contains('\x1b'), "{name}");
    });
}

/// The tags that a CommonMark parser finds in a text, outside of code.
fn tags(text: &str) -> Vec<String> {
    use pulldown_cmark::{Event, Options, Parser};
    let parser = Parser::new_ext(text, Options::ENABLE_TABLES);
    let html = parser.filter_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(text.trim().to_owned()),
        _ => None,
    });
    html.filter(|text| !text.is_empty()).collect()
}

#[test]
fn comments_are_short_and_are_read_as_markdown() {
    use pulldown_cmark::{Event, Options, Parser, Tag};
    with_all(&mut |name, report| {
        let text = Comment.export(report).unwrap();
        assert!(text.lines().count() <= LINES, "{name}: {} lines\n{text}", text.lines().count());
        // Names of an image bring in no HTML: only the folded details are ours.
        let ours = |tag: &String| tag.starts_with("<details><summary>") || tag == "</details>";
        assert!(tags(&text).iter().all(ours), "{name}: {:?}", tags(&text));
        let headings = Parser::new_ext(&text, Options::ENABLE_TABLES)
            .filter(|event| matches!(event, Event::Start(Tag::Heading { .. })));
        assert_eq!(headings.count(), 1, "{name}: {text}");
    });
    let text = Comment.export(&Report::Difference(&samples::difference())).unwrap();
    let parser = Parser::new_ext(&text, Options::ENABLE_TABLES);
    let mut tables = Vec::new();
    for event in parser {
        match event {
            Event::Start(Tag::Table(columns)) => tables.push((columns.len(), 0)),
            Event::Start(Tag::TableRow) => tables.last_mut().unwrap().1 += 1,
            _ => {}
        }
    }
    assert_eq!(tables, [(4, 3), (4, 3)], "{text}");
    insta::assert_snapshot!("difference_comment", text);
}

#[test]
fn full_markdown_is_read_as_markdown() {
    with_all(&mut |name, report| {
        let text = Markdown.export(report).unwrap();
        assert!(tags(&text).is_empty(), "{name}: {:?}", tags(&text));
    });
}

#[test]
fn failures_name_the_package_for_every_ci_system() {
    let report = samples::difference();
    let report = Report::Difference(&report);
    let words = "packages that grew: libicu76";
    let github = Annotations.export(&report).unwrap();
    let error =
        github.lines().find(|line| line.starts_with("::error title=btrsquash%3A growth of the image::"));
    assert!(error.is_some_and(|line| line.contains(words)), "{github}");
    assert!(github.lines().all(|line| line.starts_with("::")), "{github}");
    let junit = Junit.export(&report).unwrap();
    assert!(
        junit.contains(words)
            && junit.contains("<testcase classname=\"btrsquash\" name=\"growth of the image\"><failure"),
        "{junit}"
    );
    let comment = Comment.export(&report).unwrap();
    assert!(comment.contains(words), "{comment}");
    let text = Text.export(&report).unwrap();
    assert!(text.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{text}");
    let csv = Csv.export(&report).unwrap();
    let header = csv.lines().next().unwrap();
    assert_eq!(header, "image,kind,name,bytes_before,bytes_after");
    assert!(csv.lines().any(|line| line.ends_with(",package,libicu76,,10400000")), "{csv}");
}

/// What is opened is closed, in order, and nothing of an image opens anything.
#[test]
fn junit_is_well_formed() {
    with_all(&mut |name, report| {
        let text = Junit.export(report).unwrap();
        let mut open = Vec::new();
        for tag in text.split('<').skip(2) {
            let tag = tag.split('>').next().unwrap();
            let word: String =
                tag.trim_start_matches('/').chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(word), "{name}");
            } else {
                open.push(word);
            }
        }
        assert!(open.is_empty(), "{name}: {open:?}");
    });
}

#[test]
fn the_extension_decides_on_the_format() {
    for name in ["a.json", "a.txt", "a.md", "a.html", "a.csv", "a.xml"] {
        assert!(exporter_for(Path::new(name)).is_ok());
    }
    assert!(exporter_for(Path::new("a.pdf")).is_err());
}

#[test]
fn what_people_read() {
    let text = |report: &Report| Text.export(report).unwrap();
    insta::assert_snapshot!("conversion", text(&Report::Conversion(&samples::conversion())));
    insta::assert_snapshot!("inspection", text(&Report::Inspection(&samples::inspection())));
    insta::assert_snapshot!("difference", text(&Report::Difference(&samples::difference())));
    insta::assert_snapshot!("verification_holds", text(&Report::Verification(&samples::verification(true))));
    insta::assert_snapshot!("verification_fails", text(&Report::Verification(&samples::verification(false))));
    insta::assert_snapshot!("boot_failed", text(&Report::Boot(&samples::boot(false))));
    insta::assert_snapshot!("min", text(&Report::Min(&samples::min())));
    insta::assert_snapshot!("history", text(&Report::History(&samples::history())));
    insta::assert_snapshot!("matrix", text(&Report::Matrix(&samples::matrix())));
    insta::assert_snapshot!(
        "conversion_markdown",
        Markdown.export(&Report::Conversion(&samples::conversion())).unwrap()
    );
    insta::assert_snapshot!(
        "conversion_page",
        Html.export(&Report::Conversion(&samples::conversion())).unwrap()
    );
}
