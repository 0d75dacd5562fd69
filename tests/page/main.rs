//! The report's page, in a real browser: its numbers are read from what is shown, its plots are
//! counted, and it fits a phone.

use base64::prelude::{BASE64_STANDARD, Engine};
use std::path::{Path, PathBuf};

use mainstay::load::report::{Report, page::write};
use serde_json::{Value, json};
use tempfile::TempDir;

mod browser;
mod figures;
#[path = "../support/skip.rs"]
mod skip;

use browser::{Browser, Tab, View};

const DESKTOP: View = View { width: 1100, scheme: "light", media: "screen" };
const DARK: View = View { scheme: "dark", ..DESKTOP };
const PHONE: View = View { width: 360, ..DESKTOP };
const SMALL: View = View { width: 320, ..DARK };
const PAPER: View = View { width: 720, media: "print", ..DESKTOP };

/// The browser with a folder for pages; `None`, aloud, where there is no Chromium.
fn browser() -> Option<(Browser, TempDir)> {
    let Some(program) = browser::chromium() else {
        skip::skip("the page in a browser: no chromium on PATH; install it and run again");
        return None;
    };
    Some((Browser::start(program), tempfile::tempdir().unwrap()))
}

/// Writes the page of a report and opens it.
fn open(browser: &mut Browser, folder: &TempDir, report: &Report, view: View) -> Tab {
    let path = folder.path().join("report.html");
    std::fs::write(&path, write(report)).unwrap();
    let address = format!("file://{}", path.display());
    browser.loads.clear();
    browser.errors.clear();
    let tab = browser.open(&address, view);
    let drawn = browser.evaluate(&tab, "document.documentElement.dataset.drawn");
    assert_eq!(drawn, json!(view.width.to_string()), "{:?}", browser.errors);
    assert_eq!(browser.errors, [""; 0]);
    assert_eq!(browser.loads, [address]);
    tab
}

/// What an element shows.
fn shown(browser: &mut Browser, tab: &Tab, selector: &str) -> String {
    let selector = serde_json::to_string(selector).unwrap();
    let text = format!("document.querySelector({selector}).innerText");
    let text = browser.evaluate(tab, &text);
    text.as_str().unwrap_or_else(|| panic!("{selector}")).replace('\u{202f}', " ")
}

/// What the number of that name shows.
fn number(browser: &mut Browser, tab: &Tab, name: &str) -> String {
    shown(browser, tab, &format!("[data-n='{name}']"))
}

#[test]
fn the_page_shows_the_numbers_of_the_report() {
    let Some((mut browser, folder)) = browser() else { return };
    let tab = open(&mut browser, &folder, &figures::busy(), DESKTOP);
    assert_eq!(shown(&mut browser, &tab, "h1"), "1 530 of 123 456 lookups failed (1.24 %).");
    let story = "The last failure was 1.37 s after kill9@20s began, 21.37 s into the run. 2 clients \
                 of 20 had no success any more: the last two lookups or more failed. 1 of 2 goals \
                 missed.";
    assert_eq!(shown(&mut browser, &tab, "#story"), story);
    for (name, expected) in [
        ("tile.failed", "1 530"),
        ("tile.unknown_host", "1 020"),
        ("tile.last_failure", "1.37 s"),
        ("tile.stuck", "2"),
        ("tile.longest_outage", "3.25 s"),
        ("tile.p99", "3.6 ms"),
        ("tile.goals", "1 of 2"),
        ("resolver.jvm.lookups", "30 002"),
        ("resolver.jvm.failed", "200"),
        ("resolver.netty.stuck", "2"),
        ("resolver.netty.last_failure", "21.37 s"),
        ("resolver.glibc.p999", "4.21"),
        ("resolver.glibc.packets_per_lookup", "2.5"),
        ("class.host.failed", "0"),
        ("class.host.last_failure", "–"),
        ("class.headless.max", "2 000"),
        ("truth.total.wrong_negative", "5"),
        ("fault.1.failed", "1 200"),
        ("packets.sent", "312 345"),
        ("packets.lost", "1 345"),
        ("generator.late", "3"),
    ] {
        assert_eq!(number(&mut browser, &tab, name), expected, "{name}");
    }
    let saturated = "getComputedStyle(document.getElementById('saturated')).display";
    assert_eq!(browser.evaluate(&tab, saturated), "none");
}

/// Points that are really in the path, by the letters of its commands.
fn points(browser: &mut Browser, tab: &Tab, selector: &str) -> Value {
    let count = format!(
        "[...document.querySelectorAll(\"{selector}\")].map(path => \
         (path.getAttribute('d').match(/[ML]/g) || []).length)"
    );
    browser.evaluate(tab, &count)
}

#[test]
fn the_plots_have_all_that_was_measured() {
    let Some((mut browser, folder)) = browser() else { return };
    let tab = open(&mut browser, &folder, &figures::busy(), DESKTOP);
    assert_eq!(points(&mut browser, &tab, "#rate [data-line]"), json!([300, 300]));
    // Nothing ended for 30 slots: the line has a gap there and does not hide it.
    assert_eq!(points(&mut browser, &tab, "#latency [data-line]"), json!([270, 270, 270, 270]));
    let begins = "document.querySelector('#latency [data-line=p99]').getAttribute('d').split('M')";
    assert_eq!(browser.evaluate(&tab, &format!("{begins}.length")), 3);
    // 100 000 lookups are five decades of 16 points and the longest; four resolvers and all.
    let curves = points(&mut browser, &tab, "#curve-resolver [data-line]");
    assert_eq!(curves, json!([81, 81, 81, 81, 81]));
    let bars = "[...document.querySelectorAll('#failures [data-area]')]\
                .map(area => [area.dataset.area, Number(area.dataset.bars)])";
    let expected = json!([["slow", 10], ["try_again", 10], ["unknown_host", 15], ["wrong", 15]]);
    assert_eq!(browser.evaluate(&tab, bars), expected);
    let steps = points(&mut browser, &tab, "#outcomes [data-area]");
    assert_eq!(steps, json!([1200, 1200, 1200, 1200, 1200]));
    let marks = "['rate', 'latency', 'outcomes', 'failures'].map(id => \
                 document.querySelectorAll(`#${id} .mark`).length + ' ' + \
                 document.querySelectorAll(`#${id} .band`).length + ' ' + \
                 document.querySelector(`#${id} [data-fault='1']`).textContent)";
    assert_eq!(browser.evaluate(&tab, marks), json!(vec!["2 1 1 stop@10s..13s"; 4]));
    let bars = "document.querySelectorAll('#resolvers [data-bar]').length";
    assert_eq!(browser.evaluate(&tab, bars), 20);
}

#[test]
fn plots_can_be_read_without_seeing_them() {
    let Some((mut browser, folder)) = browser() else { return };
    let tab = open(&mut browser, &folder, &figures::busy(), DESKTOP);
    let unnamed = "[...document.querySelectorAll('figure svg[role=img]')].filter(svg => \
                   svg.getAttribute('aria-labelledby').split(' ').some(id => \
                   document.getElementById(id).textContent.length < 5)).length";
    assert_eq!(browser.evaluate(&tab, unnamed), 0);
    let rows = "new Promise(done => { const all = document.querySelector('#rate')\
                .closest('figure').querySelector('details'); all.open = true; \
                setTimeout(() => done(all.querySelectorAll('tbody tr').length), 0); })";
    assert_eq!(browser.evaluate(&tab, rows), 300);
    // The right arrow goes from slot to slot and tells each.
    let key = "const rate = document.querySelector('#rate'); for (let i = 0; i < 101; i++) \
               rate.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' })); \
               rate.closest('figure').querySelector('.readout').textContent";
    let told = browser.evaluate(&tab, key);
    assert_eq!(
        told.as_str().unwrap().replace('\u{202f}', " "),
        "10 s: 4 110 due, 0 ended per second"
    );
}

#[test]
fn every_run_has_a_page_that_fits() {
    let Some((mut browser, folder)) = browser() else { return };
    let reports = [
        ("busy", figures::busy(), "1 530 of 123 456 lookups failed (1.24 %)."),
        ("empty", Report::default(), "Nothing was looked up."),
        ("one slot", figures::one_slot(), "None of 1 lookups failed."),
        ("long", figures::long(), "1 530 of 123 456 lookups failed (1.24 %)."),
        ("huge", figures::huge(), "6.149 × 10^18 of 1.845 × 10^19 lookups failed (33.3 %)."),
    ];
    for (what, report, headline) in reports {
        for view in [SMALL, PHONE, DESKTOP, PAPER] {
            let tab = open(&mut browser, &folder, &report, view);
            assert_eq!(shown(&mut browser, &tab, "h1"), headline, "{what}");
            let width = browser.evaluate(&tab, "document.documentElement.scrollWidth");
            assert_eq!(width, view.width, "{what}: wider than the window");
            let nonsense = "(document.body.innerText + [...document.querySelectorAll('svg *')]\
                            .map(shape => shape.outerHTML).join(' '))\
                            .match(/NaN|undefined|Infinity|\\bnull\\b|\\[object/g)";
            assert_eq!(browser.evaluate(&tab, nonsense), Value::Null, "{what}");
        }
    }
    let tab = open(&mut browser, &folder, &figures::long(), DESKTOP);
    let banner = "Do not blame the server: client saturated: 12 % of the lookups began late";
    assert_eq!(shown(&mut browser, &tab, "#saturated"), banner);
    assert_eq!(points(&mut browser, &tab, "#rate [data-line]"), json!([300, 300]));
}

/// Counts what is on an image, in a page without rules: how many colours, and whether these are.
fn colours(browser: &mut Browser, image: &str, wanted: &[&str]) -> Value {
    let tab = browser.open("about:blank", DESKTOP);
    let wanted = serde_json::to_string(wanted).unwrap();
    let count = format!(
        "new Promise((done, failed) => {{ const image = new Image(); image.onerror = failed; \
         image.onload = () => {{ const canvas = document.createElement('canvas'); \
         canvas.width = image.width; canvas.height = image.height; \
         const drawing = canvas.getContext('2d'); drawing.drawImage(image, 0, 0); \
         const dots = drawing.getImageData(0, 0, image.width, image.height).data; \
         const seen = new Set(); for (let i = 0; i < dots.length; i += 4) \
         seen.add('#' + [0, 1, 2].map(j => dots[i + j].toString(16).padStart(2, '0')).join('')); \
         done([seen.size > 50, ...{wanted}.map(one => seen.has(one))]); }}; \
         image.src = 'data:image/png;base64,{image}'; }})"
    );
    browser.evaluate(&tab, &count)
}

/// Keeps an image for people to look at.
fn keep(name: &str, image: &str) {
    let folder = std::env::var_os("MAINSTAY_PAGE_IMAGES").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("page"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), BASE64_STANDARD.decode(image).unwrap()).unwrap();
}

/// The ground, and each failure in its colour, are really painted.
#[test]
fn screenshots_show_every_outcome_in_light_and_dark() {
    let Some((mut browser, folder)) = browser() else { return };
    let light = ["#f6f7f9", "#b4d0e4", "#f5c04a", "#cf5a17", "#8c0f45", "#24123c"];
    let dark = ["#12161b", "#2c4a60", "#857526", "#ff9a3d", "#d95fc0", "#fff6e0"];
    let views = [
        ("light.png", DESKTOP, light),
        ("dark.png", DARK, dark),
        ("phone.png", PHONE, light),
        ("phone-dark.png", SMALL, dark),
        ("paper.png", PAPER, [&["#ffffff"], &light[1..]].concat().try_into().unwrap()),
    ];
    for (name, view, wanted) in views {
        let tab = open(&mut browser, &folder, &figures::busy(), view);
        let image = browser.screenshot(&tab);
        keep(name, &image);
        assert_eq!(colours(&mut browser, &image, &wanted), json!(vec![true; 7]), "{name}");
    }
    let tab = open(&mut browser, &folder, &figures::long(), DESKTOP);
    keep("long.png", &browser.screenshot(&tab));
    let tab = open(&mut browser, &folder, &Report::default(), PHONE);
    keep("empty.png", &browser.screenshot(&tab));
}
