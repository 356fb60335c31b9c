//! The pages of a search and of a training, written by the real binary and opened in Chromium: on a desktop, on a phone, in the
//! dark, on paper, by keyboard.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use milenas_tests::browser::{Browser, chromium};
use milenas_tests::{TINY, binary, kill_when, succeed};
use serde_json::json;

/// The least contrast of text that is read with ease (WCAG 2.2, criterion 1.4.3).
const READABLE: f64 = 4.5;

/// Text and what is behind it, as the browser comes to it: `[name, colour, colour]`.
const COLOURS: &str = "[['body', 'color'], ['dt', 'color'], ['svg text', 'fill'], ['pre', 'color'], ['th', 'color'], \
    ['td', 'color'], ['figcaption', 'color']].flatMap(([name, key]) => { const of = document.querySelector(name); \
    if (!of) return []; const back = getComputedStyle(of.closest('pre') ?? document.body).backgroundColor; \
    return [[name, getComputedStyle(of)[key], back]] })";

/// Tab indices of elements that scroll sideways; 0 if the keyboard reaches them.
const REACHED: &str = "[...document.querySelectorAll('*')].filter(e => e.scrollWidth > e.clientWidth + 1 && \
    getComputedStyle(e).overflowX == 'auto').map(e => e.tabIndex)";

/// The element that has the keyboard's focus, and whether this can be seen.
const FOCUS: &str = "(e => [[...document.querySelectorAll('*')].indexOf(e), e.tagName, \
    getComputedStyle(e).outlineStyle != 'none' && getComputedStyle(e).outlineWidth != '0px'])(document.activeElement)";

/// Number of folded tables, and of those that are readable without unfolding.
const UNFOLDED: &str = "[[...document.querySelectorAll('details:not([open]) :is(table, pre)')]].map(all => \
    [all.length, all.filter(e => e.checkVisibility() && e.getBoundingClientRect().height > 0).length])[0]";

/// Text of SVG images that is cut off at a side.
const CUT: &str = "[...document.querySelectorAll('svg text')].filter(e => { const of = e.getBBox(); \
    return of.x < 0 || of.x + of.width > e.ownerSVGElement.viewBox.baseVal.width }).map(e => e.textContent)";

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

/// Run folders and their reports: a search, a training, an interrupted training, the first two in one folder, a black-box
/// search, and more trainings than there are colours.
fn pages(root: &Path) -> [(&'static str, PathBuf); 6] {
    let tiny = format!("{TINY} --set search.epochs=3 --set train.epochs=3 --set search.channels=4");
    let run = |what: &str, out: &str| {
        succeed(root, &format!("milenas-search {what} --data digits --out {out} {tiny}"))
    };
    run("run", "search");
    run("train --genotype search/genotype.json", "network");
    succeed(root, "milenas-search report search network --out both.html");
    stopped(root);
    let evolution =
        "run --strategy evolution --set search.population.trainings=8 --set search.population.epochs=1";
    let short = tiny.replace("--set search.epochs=1", "").replace("--set search.epochs=3", "");
    succeed(root, &format!("milenas-search {evolution} --data digits --out evaluated {short}"));
    run("compare --genotypes DARTS_V2,random:9", "compared");
    succeed(root, "milenas-search report compared");
    let page = |name: &'static str, path: &str| (name, root.join(path));
    [
        page("search", "search/report.html"),
        page("network", "network/report.html"),
        page("stopped", "stopped/report.html"),
        page("both", "both.html"),
        page("evaluated", "evaluated/report.html"),
        page("compared", "compared/report.html"),
    ]
}

/// Number of epochs shown in a report.
fn shown_epochs(page: &str) -> Option<usize> {
    page.split("<dt>epochs</dt><dd>").nth(1)?.split(' ').next()?.parse().ok()
}

/// Starts a training of another genotype with the weights of the search, and kills it when its report shows some epochs.
fn stopped(root: &Path) {
    let command = "train --from-supernet search --genotype random:3 --data digits --out stopped \
         --set train.epochs=40 --set train.steps=2 --set train.batch=8";
    let child = Command::new(binary("milenas-search"))
        .args(command.split_whitespace())
        .current_dir(root)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let page = root.join("stopped/report.html");
    let mut seen = Vec::new();
    kill_when(child, || {
        seen.extend(fs::read_to_string(&page).ok().and_then(|page| shown_epochs(&page)));
        seen.last().is_some_and(|epochs| *epochs >= 2)
    });
    assert_eq!(seen[0], 0, "its page is there from the beginning");
    assert!(fs::read_to_string(&page).unwrap().contains(" of 40</dd>"));
}

/// Types what a page says is to be typed.
fn paste(root: &Path, page: &Path) {
    let text = fs::read_to_string(page).unwrap();
    let command = text.split("<pre tabindex=\"0\">").nth(1).unwrap().split("</pre>").next().unwrap();
    let plain =
        command.replace("&#39;", "'").replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">");
    let binary = binary("milenas-search");
    let programs = [binary.parent().unwrap().to_path_buf()];
    let system = std::env::var_os("PATH").unwrap_or_default();
    let programs = programs.into_iter().chain(std::env::split_paths(&system));
    let shell = Command::new("sh")
        .args(["-c", &plain.replace("&amp;", "&")])
        .current_dir(root)
        .env("PATH", std::env::join_paths(programs).unwrap())
        .output()
        .unwrap();
    assert!(shell.status.success(), "{command}\n{}", String::from_utf8_lossy(&shell.stderr));
}

/// Saves a screenshot of the whole report.
fn keep(browser: &mut Browser, name: &str) {
    let screenshot =
        browser.ask("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    fs::create_dir_all(&folder).unwrap();
    let bytes = BASE64_STANDARD.decode(screenshot["data"].as_str().unwrap()).unwrap();
    fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
}

#[test]
fn pages_are_read_on_any_screen_on_paper_and_by_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let pages = pages(root);
    // The page that is written while it runs is the one that is written afterwards.
    for (name, page) in &pages[..3] {
        let before = fs::read_to_string(page).unwrap();
        succeed(root, &format!("milenas-search report {name}"));
        let after = fs::read_to_string(page).unwrap();
        // The interrupted run may have been at the end of an epoch.
        assert!(after == before || *name == "stopped", "{name}");
        assert_eq!(after.contains("http-equiv=\"refresh\""), *name == "stopped", "{name}");
    }
    look(root, &pages);
    paste(root, &pages[2].1);
    let page = fs::read_to_string(&pages[2].1).unwrap();
    assert!(page.contains("40 of 40") && !page.contains("http-equiv=\"refresh\""));
    paste(root, &pages[0].1);
    assert!(root.join("search-net/weights.safetensors").exists());
}

/// Opens the pages in a browser, if there is one.
fn look(root: &Path, pages: &[(&str, PathBuf)]) {
    let Some(program) = chromium() else {
        eprintln!("skipped: no chromium on the PATH or in $CHROMIUM");
        return;
    };
    let mut browser = Browser::start(&program);
    for (name, page) in pages {
        let (output, asked) = browser.open(page);
        assert!(output.is_empty() && asked.is_empty(), "{name}: {output:?} {asked:?}");
        let dom = browser.value("document.documentElement.outerHTML");
        let written = fs::read_to_string(page).unwrap();
        for mark in ["<svg", "<path", "<polyline", "<circle", "<polygon", "<td", "<text"] {
            let found = dom.as_str().unwrap().matches(mark).count();
            let drawn = match mark {
                // Sizes, and mixtures.
                "<circle" | "<polygon" => *name == "search",
                _ => true,
            };
            assert_eq!(found > 0, drawn, "{mark} of {name}");
            assert_eq!(found, written.matches(mark).count(), "{mark} of {name}");
        }
        for width in [360, 1280] {
            browser.resize(width, 800);
            assert_eq!(browser.value("document.documentElement.scrollWidth"), width, "{name} flows over");
            let reached = browser.value(REACHED);
            assert!(reached.as_array().unwrap().iter().all(|index| *index == 0), "{name}: {reached}");
            assert_eq!(browser.value(CUT), json!([]), "{name}");
            for scheme in ["light", "dark"] {
                browser.show("screen", scheme);
                keep(&mut browser, &format!("{name}-{width}-{scheme}"));
            }
        }
        for (scheme, light) in [("light", 0.8..=1.0), ("dark", 0.0..=0.1)] {
            browser.show("screen", scheme);
            let (least, back) = contrast(&mut browser);
            assert!(least >= READABLE && light.contains(&back), "{name}, {scheme}: {least}, on {back}");
        }
        // On paper nothing scrolls, so nothing may be cut off; nor unfolds.
        let folded = browser.value(UNFOLDED);
        assert_eq!(folded[1], 0, "{name} on a screen");
        browser.show("print", "light");
        let unfolded = browser.value(UNFOLDED);
        assert!(unfolded[0] == folded[0] && unfolded[1] == folded[0], "{name} on paper: {unfolded}");
        keep(&mut browser, &format!("{name}-print"));
        let cut = "[...document.querySelectorAll('.wide')].filter(e => getComputedStyle(e).overflowX != 'visible').length";
        assert_eq!(browser.value(cut), 0, "{name} on paper");
        browser.show("screen", "light");
        let paper = browser.ask("Page.printToPDF", json!({ "printBackground": true }));
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
    let bad = fs::read_to_string(&pages[0].1).unwrap().replace("</main>", fault);
    fs::write(root.join("bad.html"), bad).unwrap();
    let (output, _) = browser.open(&root.join("bad.html"));
    assert!(output.iter().any(|line| line.contains("Content Security Policy")), "{output:?}");
    let (least, _) = contrast(&mut browser);
    assert!((2.5..3.0).contains(&least), "#999 on white has a contrast of 2.8, not {least}");
    browser.press("Tab", 9);
    assert_eq!(browser.value(FOCUS)[2], false, "a focus without an outline");
}
