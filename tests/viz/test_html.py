"""Pages, opened and clicked through in a real browser."""

import dataclasses
import gc
import time
import weakref

import numpy as np
import pytest

from pcsa.viz import Scene, html, save_animation, save_html

pytest.importorskip("plotly", reason="plotly is not installed (pcsa[viz])")


def opened(browser, path):
    browser.get(path.as_uri())
    drawn(browser)


def drawn(browser):
    """Wait until the last change is to be seen."""
    until(lambda: browser.execute_script("return document.body.dataset.drawn === String(state.turn)"))
    browser.execute_async_script("const f = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(f))")


def press(browser, element):
    element.click()
    drawn(browser)


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


SCENE = "document.getElementById('plot')._fullLayout.scene._scene"


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def page(box, tmp_path):
    # In the middle of eight corners, a keypoint that nothing hides.
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
    press(browser, browser.find_element("id", "next"))
    assert (text("title"), text("count")) == ("<b>bold</b> & </script><img src=x onerror=alert(1)>", "2 / 3")
    assert counts(browser)["cloud"] == 8
    browser.execute_script(
        "const s = document.getElementById('slider'); s.value = 2; s.dispatchEvent(new Event('input'))"
    )
    drawn(browser)
    assert (text("title"), text("count")) == ("third", "3 / 3")
    press(browser, browser.find_element("id", "next"))
    assert text("count") == "3 / 3"
    browser.find_element("tag name", "body").send_keys("\ue012")  # left arrow
    drawn(browser)
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
        press(browser, box)
        assert counts(browser) == {**before, box.get_attribute("name"): 0}
        press(browser, box)
    plain = browser.execute_script("return document.getElementById('plot').data[0].marker.colorscale[1][1]")
    press(browser, css(browser, "#keypoints button")[1])
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
    press(browser, css(browser, "#keypoints button")[1])
    assert counts(browser) == before
    # A shape without maps has none to click.
    for _ in range(2):
        press(browser, browser.find_element("id", "next"))
    assert not css(browser, "#keypoints button")[0].is_enabled()
    assert not errors(browser)


@pytest.mark.viz
@pytest.mark.slow
def test_tooltips_and_orbiting(page, browser):
    from selenium.webdriver import ActionChains

    opened(browser, page)
    press(browser, browser.find_element("id", "next"))
    for name in ("annotated", "errors"):
        press(browser, browser.find_element("name", name))
    drawn(browser)
    plot = browser.find_element("css selector", "#plot canvas")
    # The camera looks at the middle of what the first shape shows. Where does it see the keypoint, at (0, 0, 0)?
    view, projection = (
        np.reshape(browser.execute_script(f"return [...{SCENE}.glplot.cameraParams.{name}]"), (4, 4))
        for name in ("view", "projection")
    )
    x, y, _, w = np.array([0.0, 0.0, 0.0, 1.0]) @ view @ projection
    across, down = int(x / w * plot.size["width"] / 2), int(-y / w * plot.size["height"] / 2)

    def tooltip():
        ActionChains(browser).move_to_element_with_offset(plot, across + 40, down + 30).perform()
        ActionChains(browser).move_to_element_with_offset(plot, across, down).perform()
        drawn(browser)
        return "\n".join(t.text for t in css(browser, ".hovertext text"))

    told = until(tooltip)
    assert "<b>leg</b> <img src=x onerror=alert(2)>, predicted" in told
    assert "confidence 0.625" in told
    assert "error 0.25" in told
    assert not css(browser, ".hovertext img, #plot img")

    camera = f"const c = {SCENE}.getCamera(); return [c.eye, c.up]"
    eye, up = browser.execute_script(camera)
    assert (up["x"], up["y"], up["z"]) == (0, 0, 1)  # plotly's z is our y
    ActionChains(browser).move_to_element(plot).click_and_hold().move_by_offset(150, 0).release().perform()
    drawn(browser)

    def at_rest():
        seen = []
        for _ in range(4):  # a turn goes on for a while, slowly where the machine is busy
            seen.append(browser.execute_script(camera)[0])
            time.sleep(0.5)
        return seen[0] != eye and all(now == seen[0] for now in seen) and seen[0]

    turned = until(at_rest)
    assert turned["z"] == pytest.approx(eye["z"], abs=0.05)  # about the upright axis
    # Leafing on keeps the view.
    press(browser, browser.find_element("id", "next"))
    drawn(browser)
    assert browser.execute_script(camera)[0]["x"] == pytest.approx(turned["x"], abs=0.02)
    # So it does when the view has moved on since plotly noted it, as it does after a turn with a swing.
    browser.execute_script(f"{SCENE}.glplot.camera.lookAt([0.5, 2, 0.4], [0, 0, 0], [0, 0, 1])")
    moved = browser.execute_script(camera)[0]
    assert abs(moved["x"] - turned["x"]) > 0.1
    press(browser, browser.find_element("id", "previous"))
    drawn(browser)
    assert browser.execute_script(camera)[0]["x"] == pytest.approx(moved["x"], abs=0.02)
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
        press(browser, browser.find_element("id", "next"))
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
    press(browser, browser.find_element("id", "next"))
    assert browser.find_element("id", "title").text == "temperature 1"


@pytest.mark.viz
@pytest.mark.slow
def test_what_is_missing_is_a_dash_or_not_there(browser, tmp_path):
    rng = np.random.default_rng(0)
    # As of a survey: single precision has steps of half a meter there.
    pos = rng.random((50, 3)) + np.array([4.5e5, 5.4e6, 100])
    keypoints = pos[:4].copy()
    keypoints[1] = np.nan
    names = ["שמאל", None, "bad \udcff byte", "x" * 80]
    annotated = pos[:4] + np.array([0, 0.25, 0])
    scenes = [
        Scene(
            pos,
            title=None,
            note=None,
            names=names,
            keypoints=keypoints,
            present=[True, False, True, True],
            annotated=annotated,
            visible=[True, True, False, True],
            confidence=[np.nan, np.inf, 0.5, 0.5],
            prob=np.ones((50, 4)),
        ),
        Scene(pos, names=["a", "b"], prob=np.zeros((50, 2))),
        Scene(pos, keypoints=np.zeros((0, 3))),
        Scene(pos, samples=rng.random((2, 3, 3)) + pos[0]),
    ]
    save_html(tmp_path / "page.html", scenes)
    opened(browser, tmp_path / "page.html")
    rows = css(browser, "#keypoints button")
    listed = [[row.find_element("tag name", name).text for name in ("span", "small")] for row in rows]
    assert listed == [["שמאל", "0.25"], ["1", "–"], ["bad ? byte", "–"], ["x" * 80, "0.25"]]
    x = browser.execute_script("const d = document.getElementById('plot').data[0]; return [...d.y, ...d.z, ...d.x]")
    whole = np.concatenate([pos, annotated[[0, 1, 3]]])
    middle, half = (whole.min(0) + whole.max(0)) / 2, np.ptp(whole, axis=0).max() / 2
    # The points come in another order.
    away = np.abs(np.reshape(x, (3, 50)).T[:, None] - (pos - middle) / half).max(2)
    assert away.min(0).max() < 0.51 / 4000
    for place in range(4):
        text = browser.execute_script("return document.body.innerText + JSON.stringify([...unpacked.values()])")
        for word in ("undefined", "NaN", "null/", "Infinity", "None"):
            assert word not in text.replace('"', "/"), place
        if place == 0:
            press(browser, css(browser, "#keypoints button")[0])
        if place < 2:  # the map of the same keypoint goes on being shown
            ticks = browser.execute_script("return document.getElementById('plot').data[0].marker.colorbar.ticktext")
            assert ticks == (["0", "1"] if place == 0 else ["0", "0"])
        press(browser, browser.find_element("id", "next"))
    assert not errors(browser)


def _bytes(path):
    return path.stat().st_size


def _like_a_prediction(seed, N=2048, K=10):
    """A cloud on a box with the maps of its keypoints."""
    rng = np.random.default_rng(seed)
    pos, axis = rng.uniform(-1, 1, (N, 3)), rng.integers(0, 3, N)
    pos[np.arange(N), axis] = np.sign(pos[np.arange(N), axis])
    keypoints = pos[:K]
    prob = np.exp(-((np.linalg.norm(pos[:, None] - keypoints, axis=2) / 0.2) ** 2)) * rng.uniform(0.7, 1, (N, K))
    return Scene(pos, title=f"{seed}", keypoints=keypoints, annotated=keypoints + 0.02, prob=prob / prob.sum(0))


def test_a_cloud_takes_few_bytes(tmp_path):
    save_html(tmp_path / "one.html", [_like_a_prediction(0)])
    save_html(tmp_path / "many.html", [_like_a_prediction(i) for i in range(11)])
    assert _bytes(tmp_path / "one.html") < 2.2e6
    # A float32 for every number would be 106 kB, a byte for every probability and two for every coordinate 44 kB.
    assert (_bytes(tmp_path / "many.html") - _bytes(tmp_path / "one.html")) / 10 < 19e3


def test_scenes_are_taken_one_by_one(box, tmp_path):
    alive = []

    def scenes():
        for i in range(20):
            scene = dataclasses.replace(box, title=str(i))
            alive.append(weakref.ref(scene))
            yield scene
            del scene
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1

    save_html(tmp_path / "page.html", scenes())
    assert (tmp_path / "page.html").read_text().count('class="scene"') == 20
    # What breaks off leaves no half of a page, and an older one as it was.
    before = (tmp_path / "page.html").read_text()

    def broken():
        yield box
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        save_html(tmp_path / "page.html", broken())
    assert [f.name for f in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == before


def test_many_large_clouds_are_thinned_more(monkeypatch, tmp_path):
    monkeypatch.setattr(html, "PAGE_POINTS", 30_000)
    monkeypatch.setattr(html, "FEWEST_POINTS", 250)
    pos = np.random.default_rng(0).random((2_000, 3))
    counts = [len(scene.pos) for scene in html._thinned(Scene(pos) for _ in range(50))]
    assert counts[:3] == [300, 297, 294]
    assert counts[-1] == 250
    monkeypatch.setattr(html, "PAGE_POINTS", 5_000_000)
    scenes = list(html._thinned(Scene(pos) for _ in range(3)))
    assert [len(scene.pos) for scene in scenes] == [2_000] * 3


def test_no_scene(tmp_path):
    with pytest.raises(ValueError, match="`scenes`"):
        save_html(tmp_path / "page.html", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_plotly(box, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ValueError, match=r"pcsa\[viz\]"):
        save_html(tmp_path / "page.html", [box])
    assert not (tmp_path / "page.html").exists()
