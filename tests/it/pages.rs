//! The reports as pages, in headless Chromium: nothing cut off, nothing fetched, no error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::images::text_converted;
use crate::support::{btrsquash, have, installer, run};

/// Looks at every frame and writes what it finds as JSON into the page. A frame is as wide as a phone or a desk's
/// screen: Chromium's own window cannot be as narrow as a phone.
const LOOK: &str = r"
addEventListener('load', () => {
  const parts = colour => colour.match(/[\d.]+/g).map(Number);
  const over = (top, below) => { const a = top[3] ?? 1; return [0, 1, 2].map(i => top[i] * a + below[i] * (1 - a)); };
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (view, e, colour) => {
    let paper = [255, 255, 255];
    const around = [];
    for (let at = e; at; at = at.parentElement) around.unshift(parts(view.getComputedStyle(at).backgroundColor));
    for (const layer of around) paper = over(layer, paper);
    const [a, b] = [luminance(over(parts(colour), paper)), luminance(paper)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const found = [...document.querySelectorAll('iframe')].map(frame => {
    const view = frame.contentWindow, page = frame.contentDocument, wrong = [];
    const name = e => e.tagName + '.' + (e.getAttribute('class') || '') + ': ' + e.textContent.trim().slice(0, 60);
    if (page.documentElement.scrollWidth > view.innerWidth) wrong.push('the page scrolls sideways');
    for (const e of page.body.querySelectorAll('*')) {
      const box = e.getBoundingClientRect();
      if (!box.width || view.getComputedStyle(e).clipPath !== 'none' || e.closest('.hear, thead')) continue;
      const scrolls = e.closest('.scroll, pre');
      if (!scrolls && (box.right > view.innerWidth + 1 || box.left < -1)) wrong.push('sticks out: ' + name(e));
      const svg = e.ownerSVGElement;
      if (svg && e.tagName === 'text') {
        const room = svg.getBoundingClientRect();
        if (box.right > room.right + 2 || box.left < room.left - 2 || box.bottom > room.bottom + 2 || box.top < room.top - 2)
          wrong.push('is cut off: ' + name(e));
      }
      // What lies under the names of a treemap is no background: a unit test knows it.
      const says = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && !e.closest('.treemap, title');
      const style = view.getComputedStyle(e);
      const ratio = says ? contrast(view, e, svg ? style.fill : style.color) : 21;
      if (ratio < 4.5) wrong.push('has a contrast of ' + ratio.toFixed(2) + ': ' + name(e));
      if (!svg && !scrolls && view.getComputedStyle(e).overflowX === 'hidden' && e.scrollWidth > e.clientWidth + 1)
        wrong.push('is clipped: ' + name(e));
    }
    return {
      wrong, text: page.body.innerText.length, paper: view.getComputedStyle(page.body).backgroundColor,
      fetched: view.performance.getEntriesByType('resource').map(r => r.name),
    };
  });
  document.querySelector('#found').textContent = JSON.stringify(found);
});
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}

/// What is seen of each of `pages` at 1280 and then 390 pixels, and what Chromium's console says: also each thing that was to be
/// fetched and could not be.
fn look(pages: &[&Path], dark: bool) -> (Vec<Value>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let frames = pages.iter().flat_map(|page| {
        let html = escape(&fs::read_to_string(page).unwrap());
        [1280, 390].map(|width| format!("<iframe width={width} height=900 srcdoc=\"{html}\"></iframe>"))
    });
    let frames: String = frames.collect();
    let host = dir.path().join("host.html");
    let text =
        format!("<!doctype html><meta charset=utf-8><pre id=found></pre>{frames}<script>{LOOK}</script>");
    fs::write(&host, text).unwrap();
    let scheme = format!("--blink-settings=preferredColorScheme={}", u8::from(!dark));
    let output = run(Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .args(["--virtual-time-budget=10000", "--window-size=1400,1000", "--dump-dom"])
        .arg(&scheme)
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg(format!("file://{}", host.display())));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let console = errors.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = dom.split("<pre id=\"found\">").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap();
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
    (serde_json::from_str(&found).unwrap_or_else(|e| panic!("{e}: {found}\n{errors}")), console)
}

/// Checks `pages`, each of which has more than `least` characters of text.
fn check(pages: &[&Path], least: u64) {
    let mut papers = Vec::new();
    for dark in [false, true] {
        let (found, console) = look(pages, dark);
        assert!(console.is_empty(), "{console:#?}");
        assert_eq!(found.len(), 2 * pages.len());
        let places = pages.iter().flat_map(|page| [1280, 390].map(|width| (page, width)));
        for (frame, (page, width)) in found.iter().zip(places) {
            let place = format!("{} at {width}, dark: {dark}", page.display());
            assert_eq!(frame["wrong"].as_array().unwrap().len(), 0, "{place}: {frame:#}");
            assert_eq!(frame["fetched"].as_array().unwrap().len(), 0, "{place}: {frame:#}");
            assert!(frame["text"].as_u64().unwrap() > least, "{place}: {frame:#}");
        }
        papers.push(found[0]["paper"].clone());
    }
    assert_ne!(papers[0], papers[1], "dark is another colour");
}

#[test]
fn what_is_wrong_with_a_page_is_seen() {
    if !have("chromium") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let faults = "<!doctype html><body><div style='width:600px'>wide</div>
        <svg width=100 height=20><text x=60 y=15>longer than its room</text></svg>
        <div style='width:50px;overflow:hidden;white-space:nowrap'>longer than its room</div>
        <p style='background:#fff;color:#8a8a8a'>pale</p><p style='background:#000;color:#fff'>clear</p>
        <img src='http://picture.invalid/x.png'>";
    fs::write(&page, faults).unwrap();
    let (found, console) = look(&[&page], false);
    let wrong = |i: usize| found[i]["wrong"].to_string();
    assert!(wrong(1).contains("scrolls sideways") && wrong(1).contains("sticks out: DIV"), "{found:#?}");
    assert!(!wrong(0).contains("sticks out: DIV"), "{found:#?}");
    assert!(wrong(0).contains("is cut off: text") && wrong(0).contains("is clipped: DIV"), "{found:#?}");
    assert!(
        wrong(0).contains("has a contrast of 3.45: P.: pale") && !wrong(0).contains("clear"),
        "{found:#?}"
    );
    let fetched = format!("{console:?}{}", found[0]["fetched"]);
    assert!(fetched.contains("picture.invalid"), "{fetched}");
}

#[test]
fn a_conversions_page_is_whole_on_a_desk_and_a_phone() {
    let Some((_, new)) = text_converted("qa-text", &[]) else { return };
    if have("chromium") {
        check(&[&new.with_extension("html")], 500);
    }
}

#[test]
fn a_comparisons_page_is_whole_on_a_desk_and_a_phone() {
    let (Some((text, _)), Some((gtk, _))) = (installer("text"), installer("gtk")) else { return };
    if !have("chromium") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let page: PathBuf = dir.path().join("diff.html");
    run(btrsquash().arg("diff").arg(&text).arg(&gtk).args(["--text", "--json", "--html"]).arg(&page));
    check(&[&page], 500);
}

#[test]
fn pages_of_one_and_of_several_images_are_whole_on_a_desk_and_a_phone() {
    if !have("chromium") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/tiny-initrd.gz");
    // Names are what users and their build systems make of them.
    let names = [
        "an-image-with-a-name-that-is-as-long-as-build-systems-make-them-2025.11.27-r4711+gdeadbeef.gz",
        "<b onload=alert(1)>&amp;\u{1b}[2J'\".gz",
        "plain.gz",
    ];
    let images = names.map(at);
    for image in &images {
        fs::copy(&tiny, image).unwrap();
    }
    fs::create_dir(at("new")).unwrap();
    fs::create_dir(at("reports")).unwrap();
    // What is no image is a row, too.
    let broken = at("broken.gz");
    fs::write(&broken, "no image").unwrap();
    let ran = |code: i32, command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let [one, inspected, converted, history] =
        ["one", "inspected", "converted", "history"].map(|name| at(&format!("{name}.html")));
    ran(1, btrsquash().arg("inspect").arg(&images[1]).args(["--max-size", "1K", "--html"]).arg(&one));
    ran(3, btrsquash().arg("inspect").args(&images).arg(&broken).arg("--html").arg(&inspected));
    let mut command = btrsquash();
    command.args(["convert", "--each", "--front-end", "built-in", "-o"]).arg(at("new"));
    ran(3, command.args(&images).arg(&broken).arg("--html").arg(&converted));
    for image in &images {
        let report = ran(0, btrsquash().arg("inspect").arg(image).arg("--json"));
        fs::write(at("reports").join(image.file_name().unwrap()).with_extension("json"), report).unwrap();
    }
    ran(0, btrsquash().arg("history").arg(at("reports")).arg("--html").arg(&history));
    // Pages of tiny images say little.
    check(&[&one, &inspected, &converted, &history], 100);
}
