from pcsa.datasets.custom import write_labeled
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main


def test_the_cache_is_shown_and_cleared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["data", "cache"]) == 0
    assert f"0.0 MB in {tmp_path / 'cache'}" in capsys.readouterr().out
    points = [[float(i), i % 3, i % 5] for i in range(40)]
    write_labeled(tmp_path / "root", "fish", [(points, points[:1], ["nose"])] * 3)
    KeypointNet(tmp_path / "root", "fish", "train")
    assert main(["data", "cache"]) == 0
    assert "MB  arrays/fish-" in capsys.readouterr().out
    (tmp_path / "cache" / "mine.txt").write_text("mine")
    assert main(["data", "cache", "--clear"]) == 0
    assert "MB deleted in" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["mine.txt"]
    assert len(KeypointNet(tmp_path / "root", "fish", "train")) == 1
