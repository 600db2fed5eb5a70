"""The release on the Hugging Face hub."""

import os
from collections.abc import Iterable
from pathlib import Path

from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.keypointnet.layout import MISALIGNED, cloud_files

REPO_ID = "qq456cvb/KeypointNet"


def download(
    root: str | os.PathLike[str],
    categories: Iterable[str],
    *,
    meshes: bool = False,
    revision: str | None = None,
) -> None:
    """Download categories of KeypointNet from the Hugging Face hub (`qq456cvb/KeypointNet`) into `root`.

    Files of the root that are up to date are not fetched again. With the knives comes ``knife_misaligned.txt``, which
    :class:`KeypointNet` applies. The annotations are under the MIT license, the shapes
    under ShapeNet's terms (research).

    Args:
        root: The folder, made if it is missing.
        categories: Names out of :data:`CLASS_IDS`.
        meshes: Whether to fetch the meshes too (``ShapeNetCore.v2.ply/<class_id>``).
        revision: A commit or tag of the hub's repository. Default: the newest commit.

    Raises:
        ValueError: If a category is unknown.
        ConnectionError: If the hub cannot be reached or does not deliver.

    """
    from huggingface_hub import snapshot_download

    names = list(categories)
    if not names or not set(names) <= set(CLASS_IDS):
        raise ValueError(f"`categories` (={names}) must be one or more of {', '.join(CLASS_IDS)}")
    patterns = ["splits/*.txt"]
    for name in names:
        patterns += [f"annotations/{name}.json", f"pcds/{CLASS_IDS[name]}/*"]
        if meshes:
            patterns.append(f"ShapeNetCore.v2.ply/{CLASS_IDS[name]}/*")
        if name == "knife":
            patterns.append(MISALIGNED)
    by_hand = (
        f"Check the network, or fetch {', '.join(patterns)} by hand from "
        f"https://huggingface.co/datasets/{REPO_ID} into `{os.fspath(root)}`."
    )
    try:
        snapshot_download(
            REPO_ID,
            repo_type="dataset",
            revision=revision,
            local_dir=os.fspath(root),
            allow_patterns=patterns,
        )
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:  # a file here, not the network
            raise
        raise ConnectionError(f"the Hugging Face hub did not deliver `{REPO_ID}` ({error}). {by_hand}") from error
    # Offline, the hub's client may hand back what the folder already holds and raise nothing.
    for name in names:
        annotations, clouds = Path(root, "annotations", f"{name}.json"), Path(root, "pcds", CLASS_IDS[name])
        if not annotations.is_file() or not cloud_files(clouds):
            raise ConnectionError(f"the Hugging Face hub did not deliver `{name}` of `{REPO_ID}`. {by_hand}")
