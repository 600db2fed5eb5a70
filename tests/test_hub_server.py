"""The server that stands for the Hugging Face hub takes what the hub's client uploads, and gives it back."""

import pytest

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the client's own, with httpx
def test_what_is_uploaded_comes_back(hub, tmp_path):
    api = huggingface_hub.HfApi(endpoint=hub.endpoint, token="hf_of_nobody")
    here = tmp_path / "here"
    here.mkdir()
    (here / "README.md").write_text("---\nlicense: mit\n---\nA model.\n")
    (here / "last.ckpt").write_bytes(bytes(range(256)) * 40)
    api.create_repo("someone/beds", exist_ok=True)
    api.create_repo("someone/beds", exist_ok=True)
    first = api.upload_folder(repo_id="someone/beds", folder_path=here, commit_message="first").oid
    (here / "last.ckpt").write_bytes(b"newer" * 100)
    api.upload_folder(repo_id="someone/beds", folder_path=here, delete_patterns="*.md", ignore_patterns="*.md")
    assert hub.repositories["model", "someone/beds"].large == {"last.ckpt"}

    def fetch(revision=None):
        folder = tmp_path / str(revision)
        huggingface_hub.snapshot_download(
            "someone/beds", revision=revision, local_dir=folder, endpoint=hub.endpoint, token="hf_of_nobody"
        )
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    assert fetch() == {"last.ckpt": b"newer" * 100}
    assert fetch(first) == {"README.md": (here / "README.md").read_bytes(), "last.ckpt": bytes(range(256)) * 40}
    file = huggingface_hub.hf_hub_download("someone/beds", "last.ckpt", endpoint=hub.endpoint, token="hf_of_nobody")
    with open(file, "rb") as stream:
        assert stream.read() == b"newer" * 100
