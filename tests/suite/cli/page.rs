//! The page of `scan -o html` in a real browser: Chromium, where it is installed (Debian: `apt-get install chromium`). It is driven by the
//! `DevTools` protocol over a pair of pipes (`chromium:content/browser/devtools/devtools_pipe_handler.cc`): JSON that ends with a NUL.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{layouts, run, samples};

/// The page of the samples.
fn page() -> String {
    let (files, grants) = (samples("workloads"), samples("grants"));
    let (files, grants) = (files.to_str().unwrap(), grants.to_str().unwrap());
    run(&["scan", "-f", files, "--grants", grants, "--image-layouts", &layouts(), "-o", "html"]).out
}

/// A browser with one tab.
struct Browser {
    process: Child,
    commands: File,
    answers: BufReader<File>,
    session: Option<String>,
    number: u64,
    /// What it said of errors.
    errors: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Browser {
    /// `None`, with a line that says so, where there is no browser.
    fn start() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let mut folders = std::env::split_paths(&path);
        let Some(program) =
            folders.find_map(|folder| Some(folder.join("chromium")).filter(|path| path.is_file()))
        else {
            println!("skipped: chromium is not installed");
            return None;
        };
        let profile = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = profile.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        // The browser reads from 3 and writes to 4. A shell opens them, each when the other end is opened here.
        let script = r#"exec "$0" --headless=new --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir="$1" about:blank 3<"$2" 4>"$3""#;
        let process = Command::new("sh")
            .args(["-c", script])
            .arg(&program)
            .args([profile.path().join("profile").as_path(), &to, &from])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = File::options().write(true).open(&to).unwrap();
        let answers = BufReader::new(File::open(&from).unwrap());
        let (session, number, errors) = (None, 0, Vec::new());
        let mut browser = Self { process, commands, answers, session, number, errors, _profile: profile };
        let targets = browser.ask("Target.getTargets", json!({}));
        let tab =
            targets["targetInfos"].as_array().unwrap().iter().find(|one| one["type"] == "page").unwrap();
        let attached =
            browser.ask("Target.attachToTarget", json!({"targetId": tab["targetId"], "flatten": true}));
        browser.session = Some(attached["sessionId"].as_str().unwrap().to_string());
        browser.ask("Log.enable", json!({}));
        browser.ask("Runtime.enable", json!({}));
        Some(browser)
    }

    /// The result of a command. What comes in between is looked through for errors.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut command = json!({"id": self.number, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut answer = Vec::new();
            assert!(self.answers.read_until(0, &mut answer).unwrap() > 0, "the browser ended");
            let mut answer: Value = serde_json::from_slice(answer.strip_suffix(&[0]).unwrap()).unwrap();
            if answer["id"] == self.number {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            let is_error = answer["params"]["entry"]["level"] == "error"
                || answer["method"] == "Runtime.exceptionThrown";
            if is_error {
                self.errors.push(answer.to_string());
            }
        }
    }

    /// The value of an expression.
    fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    #[track_caller]
    fn until(&mut self, expression: &str) {
        let end = Instant::now() + Duration::from_mins(3);
        while self.value(expression) != true {
            assert!(Instant::now() < end, "never: {expression}");
            // What is waited for comes from the browser's own threads.
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn open(&mut self, file: &Path) {
        self.ask("Page.navigate", json!({"url": format!("file://{}", file.display())}));
        self.until("document.readyState === 'complete' && document.querySelector('#matrix') !== null");
    }

    fn media(&mut self, media: &str, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.ask("Emulation.setEmulatedMedia", json!({"media": media, "features": features}));
    }

    /// What is shown now, as a PNG. Where `WASMGATE_SCREENSHOTS` names a folder, it is written there under this name, for people to look at.
    fn screenshot(&mut self, name: &str) -> Vec<u8> {
        let answer = self.ask("Page.captureScreenshot", json!({"format": "png"}));
        let image = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        if let Some(folder) = std::env::var_os("WASMGATE_SCREENSHOTS") {
            std::fs::write(Path::new(&folder).join(name), &image).unwrap();
        }
        assert!(image.starts_with(b"\x89PNG"));
        image
    }

    fn key(&mut self, key: &str, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.ask(
                "Input.dispatchKeyEvent",
                json!({"type": kind, "key": key, "code": key, "text": text,
                "windowsVirtualKeyCode": if key == "Tab" { 9 } else { 0 }}),
            );
        }
    }
}

/// The lowest contrast of a text to what is behind it, with the text, by WCAG 2.2 ("relative luminance", "contrast ratio").
const CONTRAST: &str = r"(() => {
    const parts = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => {
        const [r, g, b] = parts(color).slice(0, 3).map((c) => c / 255).map((c) => c > 0.04045 ? ((c + 0.055) / 1.055) ** 2.4 : c / 12.92);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const color = getComputedStyle(element).backgroundColor;
        return (parts(color)[3] ?? 1) > 0 || !element.parentElement ? color : behind(element.parentElement);
    };
    let worst = [99, ''];
    for (const element of document.querySelectorAll('body *:not(script)')) {
        const own = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 200)];
    }
    return worst;
})()";

/// Pages with something on them are larger than a page of one colour, which has some kilobytes.
fn the_two_schemes_and_a_telephone_show_different_pages(browser: &mut Browser) {
    let mut seen = Vec::new();
    for (name, scheme, width) in [
        ("page-light.png", "light", 1280),
        ("page-dark.png", "dark", 1280),
        ("page-narrow.png", "light", 360),
    ] {
        let metrics = json!({"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": false});
        browser.ask("Emulation.setDeviceMetricsOverride", metrics);
        browser.media("screen", scheme);
        let image = browser.screenshot(name);
        assert!(image.len() > 20_000, "{name} has {} bytes", image.len());
        assert!(!seen.contains(&image), "{name} is as another one");
        seen.push(image);
    }
}

#[test]
fn the_page_is_read_by_eye_keyboard_and_printer() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, page()).unwrap();
    browser.open(&file);
    assert_eq!(browser.value("document.querySelector('#shown').textContent"), "5 shown");
    for scheme in ["light", "dark"] {
        browser.media("screen", scheme);
        let worst = browser.value(CONTRAST);
        assert!(worst[0].as_f64().unwrap() >= 4.5, "{scheme}: {worst}");
    }
    the_two_schemes_and_a_telephone_show_different_pages(&mut browser);
    // No word of a heading is broken, and nothing but the matrix scrolls sideways.
    for width in [360, 1280] {
        let metrics = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        browser.ask("Emulation.setDeviceMetricsOverride", metrics);
        let over =
            browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(over, 0, "{width}");
        let lines = "Math.max(...Array.from(document.querySelectorAll('details[open] thead th')).map((th) => th.getClientRects().length \
            && Math.round(th.clientHeight / parseFloat(getComputedStyle(th).lineHeight))))";
        assert_eq!(browser.value(lines), 1, "{width}: a heading of a table is on one line");
    }
    browser.key("Tab", "");
    assert_eq!(
        browser.value("document.activeElement.className"),
        "skip",
        "the first stop leads past the matrix"
    );
    browser.value("document.activeElement.blur()");
    browser.key("/", "/");
    assert_eq!(browser.value("document.activeElement.id"), "filter");
    browser.ask("Input.insertText", json!({"text": "native.exec"}));
    browser.until("document.querySelector('#shown').textContent === '1 shown'");
    let visible = "Array.from(document.querySelectorAll('#matrix tbody tr, details')).filter((row) => row.checkVisibility()).length";
    assert_eq!(browser.value(visible), 2, "its row and its part");
    // A link into a part that is closed.
    browser.value("document.querySelector('#filter').value = ''; document.querySelector('#filter').dispatchEvent(new Event('input'))");
    let closed = browser.value("document.querySelector('details:not([open]) h3[id]').id");
    browser.value(&format!("document.querySelector('a[href=\"#{}\"]').click()", closed.as_str().unwrap()));
    browser.until(&format!("document.getElementById({closed}).closest('details').open"));
    // On paper everything is open, without what cannot be used there.
    let open = "document.querySelectorAll('details[open]').length";
    let before = browser.value(open);
    // The page's own listeners come first.
    browser.value(
        "addEventListener('beforeprint', () => { window.paper = Array.from(document.querySelectorAll('details')).every((part) => part.open); }); true",
    );
    browser.ask("Page.printToPDF", json!({}));
    browser.until("window.paper === true");
    browser.until(&format!("{open} === {before}"));
    browser.media("print", "dark");
    assert_eq!(browser.value("getComputedStyle(document.querySelector('form')).display"), "none");
    assert!(browser.value(CONTRAST)[0].as_f64().unwrap() >= 4.5, "on white paper, whatever the screen has");
    assert_eq!(
        browser.errors,
        Vec::<String>::new(),
        "its policy stops nothing of its own, and nothing fails"
    );
}

/// The page with its rows and parts this many times, each with an identity of its own.
fn repeated(page: &str, times: usize) -> String {
    let (head, rest) = page.split_once("<tbody>\n").unwrap();
    let (rows, rest) = rest.split_once("</tbody>").unwrap();
    let start = rest.find("<details").unwrap();
    let end = rest.find("<h2>Grants</h2>").unwrap();
    let many = |text: &str| {
        let one = |time: usize| {
            text.replace("#w", &format!("#w{time}-")).replace("id=\"w", &format!("id=\"w{time}-"))
        };
        (0..times).map(one).collect::<String>()
    };
    let (between, parts, foot) = (&rest[..start], &rest[start..end], &rest[end..]);
    format!("{head}<tbody>\n{}</tbody>{between}{}{foot}", many(rows), many(parts))
}

/// How many rows the browser renders. A letter takes as long as these take, and without a limit it is seconds.
const RENDERED: &str =
    "[...document.querySelectorAll('#matrix tbody tr')].filter(row => row.checkVisibility()).length";

#[test]
fn five_thousand_workloads_do_not_make_the_page_stand_still() {
    let Some(mut browser) = Browser::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, repeated(&page(), 1000)).unwrap();
    browser.open(&file);
    assert_eq!(browser.value("document.querySelectorAll('#matrix tbody tr').length"), 5000);
    assert_eq!(browser.value("document.querySelector('#shown').textContent"), "500 of 5000 shown");
    for (letters, shown, rendered) in [
        ("orders", "500 of 2000 shown", 500),
        ("orders-everywhere no-such-word", "0 shown", 0),
        ("", "500 of 5000 shown", 500),
    ] {
        let took = browser.value(&format!(
            "(() => {{ const field = document.querySelector('#filter'); const start = performance.now(); field.value = '{letters}'; \
             field.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - start; }})()"
        ));
        println!("5 000 workloads, filter `{letters}`: {took} ms");
        assert_eq!(browser.value(RENDERED), rendered, "`{letters}`");
        assert_eq!(browser.value("document.querySelector('#shown').textContent"), shown);
    }
    // A link from elsewhere into a part that is left out.
    assert_eq!(browser.value("document.getElementById('w999-4').checkVisibility()"), false);
    browser.value("location.hash = '#w999-4'");
    browser.until(
        "document.getElementById('w999-4').closest('details').open && document.getElementById('w999-4').checkVisibility()",
    );
    // To print it opens everything, and leaves nothing of that on the screen.
    let printed = "(() => { dispatchEvent(new Event('beforeprint')); const closed = document.querySelectorAll('details:not([open])').length; \
         const hidden = document.querySelectorAll('tbody tr[hidden]').length; dispatchEvent(new Event('afterprint')); return closed + hidden; })()";
    assert_eq!(browser.value(printed), 0);
    assert!(browser.value("document.querySelectorAll('details:not([open])').length").as_u64() > Some(1000));
    assert_eq!(browser.value("document.querySelector('#shown').textContent"), "500 of 5000 shown");
    browser.value("document.querySelector('#more').click()");
    assert_eq!(browser.value("document.querySelector('#shown').textContent"), "5000 shown");
    assert_eq!(browser.value("document.querySelector('#more').hidden"), true);
}
