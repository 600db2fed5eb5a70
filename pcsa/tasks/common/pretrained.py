"""Models to give away and to get: a folder, or a repository on the Hugging Face hub.

>>> from pcsa.tasks import Pretrained, open_run
>>> Pretrained(open_run("runs/bed/last.ckpt")).push_to_hub("someone/beds")  # doctest: +SKIP
>>> run = Pretrained.from_pretrained("someone/beds").run  # doctest: +SKIP
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin

from pcsa.datasets.files import replacing
from pcsa.tasks.common.hub import check_repository, fetch, is_hub_id, said_by_hub
from pcsa.tasks.common.model_card import CARD, CardText, model_card
from pcsa.tasks.common.run import open_run
from pcsa.tasks.common.shared import (
    DESCRIPTION,
    WEIGHTS,
    portable,
    read_model,
    shared_weights,
    write_shared,
)
from pcsa.tasks.common.task import Run


def open_pretrained(
    folder_or_id: str | os.PathLike[str], *, revision: str | None = None, trust: bool = False
) -> Run[Any, Any]:
    """Open a shared model.

    Of a repository, the two files of the model are fetched, once, into the cache of the hub's client, and nothing else.

    Args:
        folder_or_id: Folder that :meth:`Pretrained.save_pretrained` or ``pcsa share`` wrote; or ``owner/name``, or
            ``owner/name@revision``, on the hub.
        revision: Branch, tag or commit on the hub; default the newest of its main branch.
        trust: Whether a backbone outside of pcsa that the model names may be imported.

    Returns:
        What :func:`pcsa.tasks.open_run` returns for a checkpoint.

    Raises:
        FileNotFoundError: If there is no such folder and no such repository, or it lacks a file.
        ConnectionError: If the hub cannot be reached or does not deliver.
        ValueError: If the files are damaged, too large or not of this package.
    """
    name = os.fspath(folder_or_id)
    if is_hub_id(name):
        return open_run(fetch(name, revision), trust=trust)
    if revision is not None:
        raise ValueError(f"`revision` (={revision!r}) must not be given for a folder: `{name}`")
    folder = Path(name)
    if not folder.exists():
        raise FileNotFoundError(f"`{name}` is neither a folder nor an owner/name of the Hugging Face hub")
    if shared_weights(folder) is None:
        raise FileNotFoundError(f"`{folder / WEIGHTS}` is missing: weights in other formats are not read")
    return open_run(folder, trust=trust)


class Pretrained(ModelHubMixin, library_name="pcsa"):
    """An opened run that can be given away.

    ``push_to_hub(repo_id)`` is the hub's own, see `ModelHubMixin
    <https://huggingface.co/docs/huggingface_hub/package_reference/mixins>`_.

    Args:
        run: What :func:`pcsa.tasks.open_run` opened, of one network. Its weights and temperatures are shared as they
            are in the file that it was opened from.
    """

    def __init__(self, run: Run[Any, Any]) -> None:
        self.run = run

    # The mixin's own writes what others may see half done, and reads what nobody has checked.
    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *,
        model_card_kwargs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write ``model.safetensors``, ``config.json`` and the card, ``README.md``.

        Args:
            save_directory: Folder, made if need be: a new one, or one of a shared model, which is replaced.
            model_card_kwargs: Fields of :class:`pcsa.tasks.common.model_card.CardText`.

        Raises:
            FileExistsError: If the folder has a `config.json` of something else, as that of a run.
            ValueError: If the run is a mean of networks, or its file has changed since it was opened.
        """
        folder, run = Path(save_directory), self.run
        if run.members or run.way is not None:
            raise ValueError(f"`run` ({run.way}) must be of one network to be shared: share its members one by one")
        if (folder / DESCRIPTION).exists() and not (folder / WEIGHTS).exists():
            raise FileExistsError(
                f"`{folder}` must be a folder of its own: it has the `{DESCRIPTION}` of something else"
            )
        checkpoint = read_model(run.path)
        about = checkpoint["pcsa"]
        about = {**about, "config": portable(run.config, about["config"])}
        card = model_card(run, CardText(**{"name": folder.name, **(model_card_kwargs or {})}))
        write_shared(folder, {**checkpoint, "pcsa": about})
        with replacing(folder / CARD) as temporary:
            temporary.write_text(card, encoding="utf-8")

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Make a repository on the hub, if there is none, and put the same files there.

        Args:
            repo_id: ``owner/name``.
            options: Those of huggingface_hub's: ``private``, ``token``, ``branch``, ``commit_message``,
                ``model_card_kwargs`` and more.

        Returns:
            Address of the commit.

        Raises:
            ConnectionError: If the hub cannot be reached, or does not let you; `hf auth login` says who you are.
            ValueError: See :meth:`save_pretrained`.
        """
        check_repository(repo_id)
        card = {"name": repo_id, **(options.pop("model_card_kwargs", None) or {})}
        try:
            return str(super().push_to_hub(repo_id, model_card_kwargs=card, **options))
        except Exception as error:
            if isinstance(error, ValueError) or getattr(error, "filename", None) is not None:
                raise
            raise ConnectionError(f"`{repo_id}` cannot be put on the Hugging Face hub: {said_by_hub(error)}") from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **options: Any) -> Pretrained:
        """Open a folder or a repository; ``options`` are those of :func:`open_pretrained`."""
        return cls(open_pretrained(pretrained_model_name_or_path, **options))
