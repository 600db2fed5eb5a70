"""The release on the Hugging Face hub."""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsa.datasets.faults import some
from pcsa.datasets.files import replacing
from pcsa.datasets.keypointnet.annotations import read_records
from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.keypointnet.layout import MISALIGNED, cloud_files

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

REPO_ID = "qq456cvb/KeypointNet"
_log = logging.getLogger(__name__)


def download(
    root: str | os.PathLike[str],
    categories: Iterable[str],
    *,
    meshes: bool = False,
    revision: str | None = None,
    endpoint: str | None = None,
) -> None:
    """Download categories of KeypointNet from the Hugging Face hub (`qq456cvb/KeypointNet`) into `root`.

    Every file is compared with the checksum that the hub lists; those of the root that match are not fetched again. A
    category is whole or not there: its annotations come last, and are removed before one of its clouds is replaced.
    Where the hub cannot be reached and `root` has a cloud for every annotated model, it stays as it is, with a
    warning. With the knives comes ``knife_misaligned.txt``, which :class:`KeypointNet` applies. The annotations are
    under the MIT license, the shapes under ShapeNet's terms (research).

    Args:
        root: The folder, made if it is missing.
        categories: Names out of :data:`CLASS_IDS`.
        meshes: Whether to fetch the meshes too (``ShapeNetCore.v2.ply/<class_id>``).
        revision: A commit or tag of the hub's repository. Default: the newest commit.
        endpoint: Address of the hub or of a mirror. Default: `$HF_ENDPOINT`, or the hub itself.

    Raises:
        ValueError: If a category is unknown.
        ConnectionError: If the hub cannot be reached, does not deliver, or delivers something else than it lists. What
            arrived whole stays, so that the same call goes on from there.

    """
    names = list(categories)
    if not names or not set(names) <= set(CLASS_IDS):
        raise ValueError(f"`categories` (={names}) must be one or more of {', '.join(CLASS_IDS)}")
    root = Path(root)
    shapes = [f"{folder}/{CLASS_IDS[name]}/*" for name in names for folder in _folders(meshes)]
    labels = ["splits/*.txt", *[MISALIGNED] * ("knife" in names), *(f"annotations/{name}.json" for name in names)]
    by_hand = (
        f"Check the network, or fetch {', '.join(labels + shapes)} by hand from "
        f"https://huggingface.co/datasets/{REPO_ID} into `{root}`."
    )
    try:
        commit, listed = _listing(revision, endpoint)
    except Exception as error:
        # Without a response, nobody answered: then a category that is here is as good as it was.
        if getattr(error, "response", None) is not None or not all(_whole(root, name) for name in names):
            raise _undelivered(f"`{REPO_ID}`", error, by_hand) from error
        _log.warning("the hub cannot be reached (%s): `%s` stays as it is", _one_line(error), root)
        return
    for name in names:
        clouds = _among(listed, [f"pcds/{CLASS_IDS[name]}/*.pcd"])
        if f"annotations/{name}.json" not in listed or not clouds:
            raise ConnectionError(f"the Hugging Face hub did not deliver `{name}` of `{REPO_ID}`. {by_hand}")
        if _damaged(root, clouds):
            (root / "annotations" / f"{name}.json").unlink(missing_ok=True)
    try:
        _fetch(root, _among(listed, shapes), shapes, commit, endpoint)
        with tempfile.TemporaryDirectory() as folder:
            stale = _damaged(root, _among(listed, labels))
            _fetch(Path(folder), {path: listed[path] for path in stale}, stale, commit, endpoint)
            for path in sorted(stale, key=lambda path: path.startswith("annotations/")):
                with replacing(root / path) as file:
                    file.write_bytes(Path(folder, path).read_bytes())
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # a file here, not the network
            raise
        raise _undelivered(f"`{REPO_ID}`", error, by_hand) from error


def _folders(meshes: bool) -> list[str]:
    return ["pcds", "ShapeNetCore.v2.ply"] if meshes else ["pcds"]


def _listing(revision: str | None, endpoint: str | None) -> tuple[str, "dict[str, RepoFile]"]:
    """Return the commit of a revision, and what it holds by path."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    api: Any = HfApi(endpoint=endpoint)
    commit = _patiently(lambda: api.dataset_info(REPO_ID, revision=revision, expand=["sha"]).sha)
    tree = api.list_repo_tree(REPO_ID, recursive=True, revision=commit, repo_type="dataset")
    listed = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    if outside := [path for path in listed if ".." in path.split("/") or path.startswith("/") or "\\" in path]:
        raise ValueError(f"lists files outside of its folder: {some(outside)}")
    return commit, listed


def _patiently(ask: Callable[[], str]) -> str:
    """Ask again after as many seconds as the hub demands, which its client does for listings and files alone."""
    for _ in range(4):
        try:
            return ask()
        except Exception as error:
            response: Any = getattr(error, "response", None)
            demanded = "" if response is None else response.headers.get("Retry-After", "")
            if not demanded.isdecimal() or response.status_code != 429 or int(demanded) > 600:
                raise
        _log.warning("the hub asks to wait for %s seconds", demanded)
        time.sleep(int(demanded))
    return ask()


def _among(listed: "Mapping[str, RepoFile]", patterns: list[str]) -> "dict[str, RepoFile]":
    return {path: entry for path, entry in listed.items() if any(fnmatch(path, pattern) for pattern in patterns)}


def _fetch(
    folder: Path, files: "Mapping[str, RepoFile]", patterns: list[str], commit: str, endpoint: str | None
) -> None:
    """Fetch the files that ``patterns`` choose, and remove what is not as listed.

    Raises:
        ConnectionError: If something arrived damaged.

    """
    from huggingface_hub import snapshot_download

    damaged = _damaged(folder, files)
    if not damaged:
        return
    # The client takes a file that it once fetched for up to date, whatever became of it.
    for path in damaged:
        (folder / path).unlink(missing_ok=True)
    snapshot_download(
        REPO_ID, repo_type="dataset", revision=commit, local_dir=folder, allow_patterns=patterns, endpoint=endpoint
    )
    damaged = _damaged(folder, files)
    for path in damaged:
        (folder / path).unlink(missing_ok=True)
    if damaged:
        raise ConnectionError(f"{len(damaged)} of {len(files)} files differ from their checksums: {some(damaged)}")


def _damaged(folder: Path, files: "Mapping[str, RepoFile]") -> list[str]:
    """List the files that are missing in a folder or differ from what the hub lists."""
    return [path for path, entry in files.items() if not _intact(folder / path, entry)]


def _intact(path: Path, entry: "RepoFile") -> bool:
    if not path.is_file() or path.stat().st_size != entry.size:
        return False
    content = path.read_bytes()
    if entry.lfs is not None:
        return hashlib.sha256(content).hexdigest() == entry.lfs.sha256
    # What git calls the hash of a file.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == entry.blob_id


def _whole(root: Path, name: str) -> bool:
    """Whether a root has a cloud for every model that it has annotations of."""
    path = root / "annotations" / f"{name}.json"
    try:
        models = {record.model_id for record in read_records(path)[0]}
    except (OSError, ValueError):
        return False
    return bool(models) and models <= cloud_files(root / "pcds" / CLASS_IDS[name]).keys()


def _undelivered(what: str, error: Exception, by_hand: str) -> ConnectionError:
    return ConnectionError(f"the Hugging Face hub did not deliver {what} ({_one_line(error)}). {by_hand}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
