//! The pages of a search and of a training, written by the real binary and opened in Chromium: on a desktop, on a phone, in the
//! dark, on paper, by keyboard.

use std::fs;
use std::path::{Path, PathBuf};

use milenas_tests::browser::{Browser, chromium};
use milenas_tests::{TINY, succeed};

/// The least contrast of text that is read with ease (WCAG 2.2, criterion 1.4.3).
const READABLE: f64 = 4.5;

/// Text and what is behind it, as the browser comes to it: `[name, colour, colour]`.
const COLOURS: &str = "[['body', 'color'], ['dt', 'color'], ['svg text', 'fill'], ['pre', 'color'], ['th', 'color'], \
    ['td', 'color'], ['figcaption', 'color']].flatMap(([name, key]) => { const of = document.querySelector(name); \
    if (!of) return []; const back = getComputedStyle(of.closest('pre') ?? document.body).backgroundColor; \
    return [[name, getComputedStyle(of)[key], back]] })";

/// Of what can be scrolled sideways, whether the keyboard comes to it: 0 where it does.
const REACHED: &str = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && \
    getComputedStyle(e).overflowX == 'auto').map(e => e.tabIndex)";

/// How many tables and texts are not shown.
const FOLDED: &str = "[...document.querySelectorAll('table, pre')].filter(e => !e.checkVisibility()).length";

/// The element that has the keyboard's focus, and whether this can be seen.
const FOCUS: &str = "(e => [[...document.querySelectorAll('*')].indexOf(e), e.tagName, \
    getComputedStyle(e).outlineStyle != 'none' && getComputedStyle(e).outlineWidth != '0px'])(document.activeElement)";

/// Relative luminance of `rgb(R, G, B)` (WCAG 2.2).
fn luminance(colour: &str) -> f64 {
    let inner = colour.split(['(', ')']).nth(1).unwrap_or_else(|| panic!("{colour} is no colour"));
    let linear = |part: &str| {
        let c = part.trim().parse::<f64>().unwrap() / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    let parts: Vec<f64> = inner.split(',').take(3).map(linear).collect();
    0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
}

/// The least contrast of any text on the page, and how light what is behind it is.
fn contrast(browser: &mut Browser) -> (f64, f64) {
    let colours = browser.value(COLOURS);
    let pairs =
        colours.as_array().unwrap().iter().map(|of| [1, 2].map(|i| luminance(of[i].as_str().unwrap())));
    let ratio = |[a, b]: [f64; 2]| (a.max(b) + 0.05) / (a.min(b) + 0.05);
    let back = luminance(colours[0][2].as_str().unwrap());
    (pairs.map(ratio).fold(f64::INFINITY, f64::min), back)
}

/// Everything that Tab comes to, in order, until it begins again or leaves the page.
fn tabbed(browser: &mut Browser) -> Vec<(i64, String)> {
    let mut seen: Vec<(i64, String)> = Vec::new();
    loop {
        browser.press("Tab", 9);
        let found = browser.value(FOCUS);
        let (index, name) = (found[0].as_i64().unwrap(), found[1].as_str().unwrap().to_string());
        if name == "BODY" || seen.iter().any(|(other, _)| *other == index) {
            return seen;
        }
        assert_eq!(found[2], true, "the focus on {name} cannot be seen");
        seen.push((index, name));
    }
}

/// Pages of a search, of a training, of both, and of a training that is not done.
fn pages(root: &Path) -> [PathBuf; 4] {
    let epochs = "--set search.epochs=3 --set train.epochs=3";
    let run = |what: &str, out: &str| {
        succeed(root, &format!("milenas-search {what} --data digits --out {out} {TINY} {epochs}"))
    };
    run("run", "search");
    run("train --genotype search/genotype.json", "network");
    succeed(root, "milenas-search report search network --out both.html");
    fs::create_dir(root.join("running")).unwrap();
    for name in ["config.toml", "source.txt", "genotype.json", "cost.json", "metrics.jsonl", "timings.jsonl"]
    {
        fs::copy(root.join("network").join(name), root.join("running").join(name)).unwrap();
    }
    succeed(root, "milenas-search report running");
    ["search/report.html", "network/report.html", "both.html", "running/report.html"]
        .map(|name| root.join(name))
}

#[test]
fn pages_are_read_on_any_screen_on_paper_and_by_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let pages = pages(root);
    // The page that is written while it runs is the one that is written afterwards.
    let before = fs::read(&pages[0]).unwrap();
    succeed(root, "milenas-search report search");
    assert!(fs::read(&pages[0]).unwrap() == before);

    let Some(program) = chromium() else {
        eprintln!("skipped: no chromium on the PATH or in $CHROMIUM");
        return;
    };
    let mut browser = Browser::start(&program);
    for page in &pages {
        let name = page.display();
        let (said, asked) = browser.open(page);
        assert!(said.is_empty() && asked.is_empty(), "{name}: {said:?} {asked:?}");
        let dom = browser.value("document.documentElement.outerHTML");
        let written = fs::read_to_string(page).unwrap();
        for mark in ["<svg", "<path", "<polyline", "<polygon", "<circle", "<td", "<text"] {
            let found = dom.as_str().unwrap().matches(mark).count();
            assert_eq!(found, written.matches(mark).count(), "{mark} of {name}");
        }
        for width in [360, 1280] {
            browser.resize(width, 800);
            assert_eq!(browser.value("document.documentElement.scrollWidth"), width, "{name} flows over");
            let reached = browser.value(REACHED);
            assert!(reached.as_array().unwrap().iter().all(|index| *index == 0), "{name}: {reached}");
        }
        for (scheme, light) in [("light", 0.8..=1.0), ("dark", 0.0..=0.1)] {
            browser.show("screen", scheme);
            let (least, back) = contrast(&mut browser);
            assert!(least >= READABLE && light.contains(&back), "{name}, {scheme}: {least}, on {back}");
        }
        let folded = browser.value(FOLDED).as_u64().unwrap();
        assert_eq!(folded > 0, written.contains("<details>"), "{name}: {folded} are folded");
        // On paper nothing scrolls, so nothing may be cut off.
        browser.show("print", "light");
        let cut = "[...document.querySelectorAll('.wide')].filter(e => getComputedStyle(e).overflowX != 'visible').length";
        assert_eq!(browser.value(cut), 0, "{name} on paper");
        assert_eq!(browser.value(FOLDED), 0, "{name} on paper");
        browser.show("screen", "light");
        let paper = browser.ask("Page.printToPDF", serde_json::json!({ "printBackground": true }));
        // "%PDF" in base 64.
        assert!(paper["data"].as_str().unwrap().starts_with("JVBERi"), "{name} on paper");

        let seen = tabbed(&mut browser);
        let wanted =
            browser.value("document.querySelectorAll('summary, :not(details) > [tabindex=\"0\"]').length");
        assert_eq!(seen.len() as u64, wanted.as_u64().unwrap(), "{name}: {seen:?}");
        for (index, _) in seen.iter().filter(|(_, tag)| tag == "SUMMARY") {
            browser.value(&format!("document.querySelectorAll('*')[{index}].focus()"));
            browser.press("Enter", 13);
            let open = browser.value("document.activeElement.parentElement.open");
            assert_eq!(open, true, "{name}: what is folded does not open by keyboard");
        }
    }
    // That faults would be seen: a page that asks for what its policy forbids, in pale letters.
    let fault = "<img src=\"http://localhost/x.png\"><style>body { color: #999 } :focus-visible { outline: 0 }</style></main>";
    let bad = fs::read_to_string(&pages[0]).unwrap().replace("</main>", fault);
    fs::write(root.join("bad.html"), bad).unwrap();
    let (said, _) = browser.open(&root.join("bad.html"));
    assert!(said.iter().any(|line| line.contains("Content Security Policy")), "{said:?}");
    let (least, _) = contrast(&mut browser);
    assert!((2.5..3.0).contains(&least), "#999 on white has a contrast of 2.8, not {least}");
    browser.press("Tab", 9);
    assert_eq!(browser.value(FOCUS)[2], false, "a focus without an outline");
}
