"""Names with markup in reports, in a browser that would run it."""

import json
import shutil
import subprocess

import pytest

from pcsa.scripts.report import ReportConfig, report

MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>${body} $x$ &amp; '"


@pytest.fixture
def dom(missing, tmp_path):
    """What a browser makes of a page, when its scripts have run."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        missing("Chromium is not installed")

    def shown(page):
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run([program, *flags, profile, page.as_uri()], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return shown


@pytest.mark.viz
def test_markup_in_a_report_is_text(dom, fuzz, tmp_path):
    folder = tmp_path / "<b>bold<"
    folder.mkdir()
    metrics = json.loads(fuzz("fuzz_outputs").metrics()[0])
    metrics["category"] = MARKUP
    metrics["per_keypoint"] = {MARKUP: {MARKUP: metrics["per_keypoint"]["mug"]["rim"]}}
    (folder / "metrics-val.json").write_text(json.dumps(metrics))
    objective = {"method": MARKUP, "plus": [[MARKUP, 1.0]]}
    (folder / "config.json").write_text(json.dumps({"task": "supervised", "config": {"objective": objective}}))
    page = report(ReportConfig((folder,), tmp_path / "out"))
    text = dom(page)
    assert "<title>pcsa report</title>" in text
    assert "<script" not in text
    assert "onerror=" not in text.replace("&lt;img src=x onerror=", "")
    assert "&lt;script&gt;document.title='run'&lt;/script&gt;${body} $x$ &amp;amp; '" in text
    assert "&lt;b&gt;bold&lt;" in text
    # Nor does a name become a path.
    assert {file.parent for file in (tmp_path / "out").iterdir()} == {tmp_path / "out"}
    # The browser does run what a page says.
    (tmp_path / "other.html").write_text(f"<title>a</title>{MARKUP}")
    assert "<title>run</title>" in dom(tmp_path / "other.html")
