"""The Hugging Face hub as a place of saved models: fetch one by name, or push one."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnerkit.errors import CheckpointError, UsageError, first_line, shown
from mnerkit.methods.model_folder import DATA, DESCRIPTION, MAX_TEXT, MAX_WEIGHTS, SUPPORT, TOKENIZER, WEIGHTS, WORDS
from mnerkit.towers.hub import hub_reachable

_NAME = re.compile(r"(?P<repo>\w[\w.-]{0,95}/\w[\w.-]{0,95})(@(?P<revision>\w[\w./-]{0,199}))?")
_LIBRARY = "mnerkit"


def is_hub_name(text: str | Path) -> bool:
    """Whether a text is a name on the hub: `owner/name`, perhaps with `@revision`, and nothing that is here."""
    name = str(text)
    if not _NAME.fullmatch(name) or name.endswith(".ckpt"):
        return False
    path = Path(name)
    return not path.exists() and not path.parent.exists()


def fetched(name: str) -> Path:
    """The folder of a saved model of the hub, in the hub's cache; only the files of a saved model are fetched.

    Raises:
        CheckpointError: there is none of this name, it is no saved model, too large, or the hub can't be reached and
            the cache lacks it.
    """
    repo, revision = _parts(name)
    from huggingface_hub import HfApi

    api = HfApi(library_name=_LIBRARY)
    if not hub_reachable():
        try:
            return Path(api.hf_hub_download(repo, DESCRIPTION, revision=revision, local_files_only=True)).parent
        except Exception:  # whatever the library raises for a name that its cache lacks
            raise CheckpointError(
                f"{shown(name)}: no checkpoint or folder is called so, the hub can't be reached, and its cache lacks it"
            ) from None
    with _explained(name):
        info = api.model_info(repo, revision=revision, files_metadata=True)
    sizes = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    if DESCRIPTION not in sizes:
        raise CheckpointError(f"{shown(name)} on the hub is no model that mnerkit saved: it has no {DESCRIPTION}")
    files = [
        each for each in sizes if each in (DESCRIPTION, WEIGHTS, DATA, WORDS, SUPPORT) or TOKENIZER.fullmatch(each)
    ]
    for file in files:
        most = MAX_WEIGHTS if file in (WEIGHTS, DATA) else MAX_TEXT
        if sizes[file] > most:
            raise CheckpointError(
                f"{shown(name)}: {file} has {sizes[file] >> 20} MiB, more than the {most >> 20} MiB that are read"
            )
    with _explained(name):
        folder = Path(api.hf_hub_download(repo, DESCRIPTION, revision=revision)).parent
        for file in files:
            if file != DESCRIPTION:
                api.hf_hub_download(repo, file, revision=folder.name)  # the commit of the first one
    return folder


def push(folder: Path, name: str, private: bool = False) -> str:
    """Make a repository of the hub, if there is none of this name, and commit a saved model to it.

    Args:
        folder: of the model.
        name: `owner/name`.
        private: make a new repository private.

    Returns:
        The name with the commit: `owner/name@revision`.

    Raises:
        UsageError: it is no name, or nobody is logged in.
        CheckpointError: the hub refused it, or can't be reached.
    """
    check_name(name)
    from huggingface_hub import HfApi

    api = HfApi(library_name=_LIBRARY)
    with _explained(name):
        api.create_repo(name, private=private, exist_ok=True)
        commit: Any = api.upload_folder(repo_id=name, folder_path=folder, commit_message="Add a model of mnerkit")
    return f"{name}@{commit.oid}"


def check_name(name: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UsageError: with an example.
    """
    found = _NAME.fullmatch(name)
    if found is None or found["revision"]:
        raise UsageError(f"{shown(name)!r} is no name on the hub; give OWNER/NAME")


def _parts(name: str) -> tuple[str, str | None]:
    found = _NAME.fullmatch(name)
    assert found is not None
    return found["repo"], found["revision"]


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the hub's library raises into one line with the way out."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except GatedRepoError:
        raise CheckpointError(f"{name}: its owner asks for consent on its page first; then {login}") from None
    except RevisionNotFoundError:
        raise CheckpointError(f"{name}: the hub has the model, but not this revision") from None
    except RepositoryNotFoundError:
        raise CheckpointError(
            f"{name}: no checkpoint or folder is called so, nor a model of the hub that you may see; is the name "
            f"right? For a private one {login}"
        ) from None
    except LocalTokenNotFoundError:
        raise UsageError(f"{name}: the hub wants to know who you are: {login}") from None
    except HFValidationError as problem:
        raise UsageError(f"{shown(name)}: {shown(first_line(problem), 200)}") from None
    except HfHubHTTPError as problem:
        code = problem.response.status_code if problem.response is not None else 0
        if code in (401, 403):
            raise UsageError(f"{name}: the hub refuses ({code}): {login}, with a token that may write there") from None
        raise CheckpointError(f"{name}: the hub answers {code}: {shown(first_line(problem), 200)}") from None
    except Exception as problem:  # of the HTTP library, and of the disk
        raise CheckpointError(f"{name}: the hub can't be reached or read: {shown(first_line(problem), 200)}") from None
