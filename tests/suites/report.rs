//! The pages of a search and of a training, written by the real binary and opened in headless Chromium.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use milenas_tests::{TINY, succeed};

/// `$CHROMIUM`, or what Debian calls it.
fn chromium() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CHROMIUM") {
        return Some(path.into());
    }
    let folders = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    std::env::split_paths(&folders).flat_map(|f| names.map(|name| f.join(name))).find(|path| path.exists())
}

/// The document as the browser has it, and what it said on its console.
fn opened(browser: &Path, root: &Path, page: &Path, more: &[&str]) -> (String, Vec<String>) {
    let profile = tempfile::tempdir().unwrap();
    let done = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--hide-scrollbars",
        ])
        .args(["--disable-background-networking", "--no-first-run", "--virtual-time-budget=2000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg("--dump-dom")
        .arg(format!("file://{}", page.display()))
        .current_dir(root)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let console = said.lines().filter(|line| line.contains("CONSOLE")).map(String::from).collect();
    (String::from_utf8_lossy(&done.stdout).into_owned(), console)
}

/// How wide the page is in a frame of so many pixels: a frame's document is measured by the page around it.
fn width_in(browser: &Path, root: &Path, page: &Path, width: usize) -> usize {
    let text = fs::read_to_string(page).unwrap();
    let quoted = text.replace('&', "&amp;").replace('"', "&quot;");
    let around = format!(
        "<!doctype html><title>?</title><iframe style=\"border:0;width:{width}px;height:800px\" srcdoc=\"{quoted}\" \
         onload=\"document.title = this.contentDocument.documentElement.scrollWidth\"></iframe>"
    );
    let path = root.join("around.html");
    fs::write(&path, around).unwrap();
    let (dom, _) = opened(browser, root, &path, &[]);
    let title = dom.split("<title>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    title.parse().unwrap_or_else(|_| panic!("the frame did not load: {title}"))
}

#[test]
fn pages_open_without_an_error_and_fit_a_phone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let run = |what: &str, out: &str| {
        succeed(root, &format!("milenas-search {what} --data digits --out {out} {TINY}"))
    };
    run("run", "search");
    run("train --genotype search/genotype.json", "network");
    succeed(root, "milenas-search report search network --out both.html");
    let pages = ["search/report.html", "network/report.html", "both.html"].map(|name| root.join(name));
    // The page that is written while it runs is the one that is written afterwards.
    let before = fs::read(&pages[0]).unwrap();
    succeed(root, "milenas-search report search");
    assert!(fs::read(&pages[0]).unwrap() == before);

    let Some(browser) = chromium() else {
        eprintln!("skipped: no chromium on the PATH or in $CHROMIUM");
        return;
    };
    for page in &pages {
        let (dom, console) = opened(&browser, root, page, &[]);
        assert!(console.is_empty(), "{}: {console:?}", page.display());
        assert!(dom.contains("<svg") && dom.trim_end().ends_with("</html>"), "{}", page.display());
        let written = fs::read_to_string(page).unwrap();
        for mark in ["<svg", "<path", "<polygon", "<td", "<text"] {
            assert_eq!(
                dom.matches(mark).count(),
                written.matches(mark).count(),
                "{mark} of {}",
                page.display()
            );
        }
        for width in [360, 1280] {
            assert_eq!(width_in(&browser, root, page, width), width, "{} flows over", page.display());
        }
    }
    // That an error would be seen: a page that asks for what its policy forbids.
    let bad = fs::read_to_string(&pages[0])
        .unwrap()
        .replace("</main>", "<img src=\"http://localhost/x.png\"></main>");
    fs::write(root.join("bad.html"), bad).unwrap();
    let (_, console) = opened(&browser, root, &root.join("bad.html"), &[]);
    assert!(console.iter().any(|line| line.contains("Content Security Policy")), "{console:?}");
}
