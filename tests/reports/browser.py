"""A page in a real browser without a window: opens it, takes steps in it, and tells what happened."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed")
DARK = "--blink-settings=preferredColorScheme=0"

# Runs inside the page, before its own scripts: collects what fails, takes the steps, tells the result.
DRIVER = """
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective + " " + event.blockedURI));
const complain = console.error;
console.error = (...words) => { errors.push(words.join(" ")); complain(...words); };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
addEventListener("load", async () => {
  const told = { errors };
  try {
%s
  } catch (error) { errors.push("step: " + error); }
  told.lost = [...document.querySelectorAll("a[href^='#']")]
    .filter((a) => !document.getElementById(decodeURIComponent(a.hash.slice(1)))).length;
  told.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
  told.fetched = fetched.filter((name) => !/^(data|blob):/.test(name));
  parent.postMessage(told, "*");
});
"""
FRAME = """<!doctype html><iframe src="driven.html" width="{width}" height="900"></iframe><pre id="told"></pre><script>
addEventListener("message", (event) => { document.querySelector("#told").textContent = JSON.stringify(event.data); });
</script>"""


def visit(address, profile, *flags):
    """The document at an address as it is after its scripts ran, and the lines of the browser's console."""
    words = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--enable-logging=stderr", "--disable-background-networking",
        "--window-size=1400,1000", f"--user-data-dir={profile}", "--virtual-time-budget=60000", "--dump-dom",
        *flags, address,
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def browse(folder, page, steps, *flags, width=1280):
    """What the steps (JavaScript that fills `told`) tell of a page `width` pixels wide, and the browser's console.

    The page lies in a frame of `folder`, because a headless window cannot be as narrow as a phone.
    """
    driver = DRIVER % steps
    allowed = base64.b64encode(hashlib.sha256(driver.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
    page = page.replace("<title>", f"<script>{driver}</script><title>", 1)
    (folder / "driven.html").write_text(page, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.replace("{width}", str(width)), encoding="utf-8")
    document, console = visit((folder / "frame.html").as_uri(), folder / "profile", *flags)
    found = re.search(r'<pre id="told">(.+?)</pre>', document, re.S)
    assert found, console
    return json.loads(html.unescape(found[1])), console
