"""Pages, opened and clicked through in a real browser."""

import dataclasses
import shutil
import time

import numpy as np
import pytest

from pcsa.viz import Scene, save_animation, save_html

pytest.importorskip("plotly", reason="plotly is not installed (pcsa[viz])")


@pytest.fixture(scope="module")
def browser(missing):
    try:
        from selenium import webdriver
    except ImportError:
        missing("selenium is not installed")
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        missing("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # A container's shared memory is small, and root has no sandbox; without a graphics card, 3-D is drawn in software.
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "window-size=1200,800",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        "ignore-gpu-blocklist",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


def opened(browser, path):
    browser.get(path.as_uri())
    drawn(browser)


def drawn(browser):
    browser.execute_async_script("const f = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(f))")


def until(condition):
    """What ``condition`` returns, once it is true."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    pytest.fail("it did not happen within a minute")


def css(browser, selector):
    return browser.find_elements("css selector", selector)


def counts(browser):
    """Points of each trace, by its layer."""
    return browser.execute_script(
        "const traces = document.getElementById('plot').data;"
        "return Object.fromEntries(data.layers.map((name, i) => [name, traces[i].x.length]))"
    )


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def page(box, tmp_path):
    # About the middle, where the camera looks, a keypoint that nothing hides.
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    single = Scene(
        corners,
        title="<b>bold</b> & </script><img src=x onerror=alert(1)>",
        names=["<b>leg</b> <img src=x onerror=alert(2)>"],
        keypoints=[[0.0, 0.0, 0.0]],
        confidence=[0.625],
        annotated=[[0.0, 0.25, 0.0]],
    )
    path = tmp_path / "new" / "page.html"
    save_html(path, [box, single, dataclasses.replace(box, title="third", prob=None)], title="<i>boxes</i>")
    return path


@pytest.mark.viz
@pytest.mark.slow
def test_a_page_is_leafed_through(page, browser):
    opened(browser, page)
    assert browser.title == "<i>boxes</i>"
    text = lambda name: browser.find_element("id", name).text  # noqa: E731
    assert (text("title"), text("count")) == ("a box", "1 / 3")
    assert counts(browser)["cloud"] == 1500
    browser.find_element("id", "next").click()
    assert (text("title"), text("count")) == ("<b>bold</b> & </script><img src=x onerror=alert(1)>", "2 / 3")
    assert counts(browser)["cloud"] == 8
    browser.execute_script(
        "const s = document.getElementById('slider'); s.value = 2; s.dispatchEvent(new Event('input'))"
    )
    assert (text("title"), text("count")) == ("third", "3 / 3")
    browser.find_element("id", "next").click()
    assert text("count") == "3 / 3"
    browser.find_element("tag name", "body").send_keys("\ue012")  # left arrow
    assert text("count") == "2 / 3"
    # Nothing was asked of a network, and no name became a tag.
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert not css(browser, "aside b, header b, aside img, header img")
    assert not errors(browser)


@pytest.mark.viz
@pytest.mark.slow
def test_layers_and_maps_are_switched(page, browser):
    opened(browser, page)
    before = counts(browser)
    assert before == {
        "cloud": 1500,
        "keypoints": 2,
        "annotated": 2,
        "errors": 2 * 3,  # two ends and a gap
        "covariance": 2 * 3 * 38,
        "samples": 40,
        "skeleton": 3,
    }
    for box in css(browser, "#layers input"):
        box.click()
        assert counts(browser) == {**before, box.get_attribute("name"): 0}
        box.click()
    plain = browser.execute_script("return document.getElementById('plot').data[0].marker.colorscale[1][1]")
    css(browser, "#keypoints button")[1].click()
    cloud = browser.execute_script("return document.getElementById('plot').data[0].marker")
    assert cloud["showscale"]
    assert cloud["colorscale"][-1][1] != plain
    # The most probable point is the one nearest to the keypoint, at the lower corner.
    x, y, z = browser.execute_script(
        "const d = document.getElementById('plot').data[0], i = d.marker.color.indexOf(1);"
        "return [d.y[i], d.z[i], d.x[i]]"
    )
    assert (x, y, z) == pytest.approx((-1.0, -0.8, -0.6), abs=0.15)
    assert counts(browser)["keypoints"] == 1
    css(browser, "#keypoints button")[1].click()
    assert counts(browser) == before
    # A shape without maps has none to click.
    for _ in range(2):
        browser.find_element("id", "next").click()
    assert not css(browser, "#keypoints button")[0].is_enabled()
    assert not errors(browser)


@pytest.mark.viz
@pytest.mark.slow
def test_tooltips_and_orbiting(page, browser):
    from selenium.webdriver import ActionChains

    opened(browser, page)
    browser.find_element("id", "next").click()
    for name in ("annotated", "errors"):
        browser.find_element("name", name).click()
    drawn(browser)
    plot = browser.find_element("css selector", "#plot canvas")

    def tooltip():
        ActionChains(browser).move_to_element_with_offset(plot, 40, 30).move_to_element(plot).perform()
        drawn(browser)
        return "\n".join(t.text for t in css(browser, ".hovertext text"))

    told = until(tooltip)
    assert "<b>leg</b> <img src=x onerror=alert(2)>, predicted" in told
    assert "confidence 0.625" in told
    assert "error 0.25" in told
    assert not css(browser, ".hovertext img, #plot img")

    camera = "const c = document.getElementById('plot')._fullLayout.scene._scene.getCamera(); return [c.eye, c.up]"
    eye, up = browser.execute_script(camera)
    assert (up["x"], up["y"], up["z"]) == (0, 0, 1)  # plotly's z is our y
    ActionChains(browser).move_to_element(plot).click_and_hold().move_by_offset(150, 0).release().perform()
    drawn(browser)

    def at_rest():
        before, _ = browser.execute_script(camera)
        time.sleep(0.5)  # a turn goes on for a while
        now, _ = browser.execute_script(camera)
        return now != eye and now == before and now

    turned = until(at_rest)
    assert turned["z"] == pytest.approx(eye["z"], abs=0.05)  # about the upright axis
    # Leafing on keeps the view.
    browser.find_element("id", "next").click()
    drawn(browser)
    assert browser.execute_script(camera)[0]["x"] == pytest.approx(turned["x"], abs=0.02)
    assert not errors(browser)


@pytest.mark.viz
@pytest.mark.slow
def test_little_and_much(browser, tmp_path):
    scenes = [
        Scene([[1.0, 2.0, 3.0]], title="one point"),
        Scene(np.random.default_rng(0).random((2_000_000, 3)), title="many"),
        Scene(np.zeros((5, 3)) + 1e6, keypoints=[[1e6 + 1, 1e6, 1e6]]),
    ]
    save_html(tmp_path / "page.html", scenes)
    assert (tmp_path / "page.html").stat().st_size < 6e6
    opened(browser, tmp_path / "page.html")
    seen = [counts(browser)["cloud"]]
    for _ in range(2):
        browser.find_element("id", "next").click()
        seen.append(counts(browser)["cloud"])
        if len(seen) == 2:
            assert browser.find_element("id", "note").text == "10,000 of 2,000,000 points drawn"
    assert seen == [1, 10_000, 5]
    assert not errors(browser)


@pytest.mark.viz
@pytest.mark.slow
def test_an_animation_as_a_page(box, browser, tmp_path):
    frames = [dataclasses.replace(box, title=f"temperature {t}") for t in (2, 1)]
    save_animation(tmp_path / "a.html", frames)
    opened(browser, tmp_path / "a.html")
    assert counts(browser)["samples"] == 40
    assert counts(browser)["keypoints"] == 0  # switched off at first
    browser.find_element("id", "next").click()
    assert browser.find_element("id", "title").text == "temperature 1"


def test_no_scene(tmp_path):
    with pytest.raises(ValueError, match="`scenes`"):
        save_html(tmp_path / "page.html", [])


@pytest.mark.slow
def test_without_plotly(box, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ValueError, match=r"pcsa\[viz\]"):
        save_html(tmp_path / "page.html", [box])
    assert not (tmp_path / "page.html").exists()
