"""Fetching shared models from the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pcsa.datasets.limits import MOST_READ
from pcsa.tasks.common.shared import DESCRIPTION, WEIGHTS

_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_AT = re.compile(rf"({_ID.pattern})(@\w[\w./-]*)?", re.ASCII)
# Names that end in these are those of files, of which the user has mistaken the path.
_FILES = (".ckpt", ".safetensors")


def check_repository(repo_id: str) -> None:
    """Raise unless a name is ``owner/name``."""
    if not _ID.fullmatch(repo_id):
        raise ValueError(f"`repo_id` (={repo_id!r}) must be owner/name")


def is_hub_id(name: str) -> bool:
    """Whether a name is ``owner/name`` or ``owner/name@revision`` on the hub, and that of nothing here."""
    is_id = _AT.fullmatch(name) and ".." not in name and not name.endswith(_FILES)
    return bool(is_id) and not os.path.exists(name)


def hub_name(path: Path) -> str | None:
    """The ``owner/name@commit`` that a file comes from, if it lies where the hub's client keeps what it fetched."""
    folders = [parent.name for parent in path.parents[:3]]
    if len(folders) < 3 or folders[1] != "snapshots" or not folders[2].startswith("models--"):
        return None
    return f"{folders[2].removeprefix('models--').replace('--', '/')}@{folders[0]}"


def fetch(repo_id: str, revision: str | None = None) -> Path:
    """Fetch the files of a shared model from the hub, where they are not here already, and return their folder.

    Args:
        repo_id: ``owner/name`` or ``owner/name@revision``; no name of a file or folder here.
        revision: Branch, tag or commit; default the newest of the main branch.

    Raises:
        FileNotFoundError: If there is no such repository, or it lacks a file.
        ConnectionError: If the hub cannot be reached or does not deliver.
        ValueError: If a file is too large, or two revisions are given.
    """
    from huggingface_hub import errors

    repo_id, _, at_revision = repo_id.partition("@")
    if at_revision and revision:
        raise ValueError(f"`revision` (={revision!r}) must not be given with `{repo_id}@{at_revision}`")
    revision = revision or at_revision or None
    try:
        return _fetched(repo_id, revision)
    except errors.LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"`{repo_id}` is no file or folder here, and the Hugging Face hub, which may have it, cannot be reached"
        ) from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        at = f" at {revision!r}" if revision else ""
        raise FileNotFoundError(
            f"`{repo_id}`{at} is not on the Hugging Face hub, or not for you to see, and no file or folder here"
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(
            f"`{repo_id}` must have `{DESCRIPTION}` and `{WEIGHTS}`, lacks one: weights in other formats are not read"
        ) from error
    except Exception as error:
        if isinstance(error, ValueError) or getattr(error, "filename", None) is not None:
            raise
        raise ConnectionError(f"the Hugging Face hub did not deliver `{repo_id}`: {said_by_hub(error)}") from error


def _fetched(repo_id: str, revision: str | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    place = Path()
    for file in (DESCRIPTION, WEIGHTS):
        try:
            about = get_hf_file_metadata(hf_hub_url(repo_id, file, revision=revision))
        except Exception as error:
            if getattr(error, "response", None) is not None:
                raise
            # Nobody answers: what is here is as good as it was.
            place = Path(hf_hub_download(repo_id, file, revision=revision, local_files_only=True))
            continue
        if about.size is not None and about.size > MOST_READ:
            raise ValueError(f"`{file}` of `{repo_id}`: {about.size} bytes, must be at most {MOST_READ}")
        # Both of one commit, whatever is pushed meanwhile.
        revision = about.commit_hash or revision
        place = Path(hf_hub_download(repo_id, file, revision=revision))
    return place.parent


def said_by_hub(error: Exception) -> str:
    """The first words of what the hub's client said, on one line."""
    return " ".join(str(error).split())[:200]
