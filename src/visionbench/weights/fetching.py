"""Fetch a checkpoint from the Hugging Face Hub into its cache, if it is not on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path

from visionbench.config import ModelConfig, models, project_folder
from visionbench.core import ConfigError
from visionbench.datafiles.download import Unreachable
from visionbench.registry import nearest
from visionbench.weights.errors import first_sentence
from visionbench.weights.identification import check_adapter
from visionbench.weights.location import (
    NO_NAME,
    OPEN_CLIP,
    choose_open_clip_weights,
    choose_weights,
    find_checkpoint,
    find_missing_file,
    find_missing_kind,
    has_files,
    is_open_clip,
    list_shards,
    local_folder,
    refuse_pickled,
)
from visionbench.weights.open_clip import convert as convert_open_clip

SIDE_SUFFIXES = (".json", ".txt", ".model", ".jinja")
"""Suffixes of the files beside the weights: configs, vocabularies, templates."""
HUB_TIMEOUT_S = 10.0


def ensure_checkpoint(model: ModelConfig) -> None:
    """Fetch the checkpoint if the run needs it and it is not on this machine. Raises ConfigError."""
    if model.weights != "random" and has_files(model):
        obtain_checkpoint(model)


def obtain_checkpoint(model: ModelConfig) -> Path:
    """Return the folder of the checkpoint; fetch it if it is not on this machine. Raises ConfigError."""
    if not has_files(model):
        raise ConfigError(f"model {model.name} is at an endpoint, so it has no files", "choose another model")
    if (complete := find_checkpoint(model)) is not None:
        return complete
    path = local_folder(model)
    if path is None:
        path = fetch_checkpoint(model)
        return convert_open_clip(model, path) if is_open_clip(path) else path
    if is_open_clip(path):
        return convert_open_clip(model, path)
    if path.is_dir():
        check_adapter(f"model.checkpoint={model.checkpoint}", path)
        raise ConfigError(
            f"model.checkpoint={model.checkpoint}: {find_missing_file(path)} is missing in {path}", "add the file"
        )
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    suggestion = nearest(path.name, siblings)
    raise ConfigError(
        f"model.checkpoint={model.checkpoint}: there is no folder {os.path.abspath(path)}{suggestion}",
        _remedy_of_bundled(model),
    )


def _remedy_of_bundled(model: ModelConfig) -> str:
    """Return the remedy if the folder is that of a bundled model, whose file has the commands that write the folder."""
    file = project_folder("conf") / "model" / f"{model.name}.yaml"
    bundled = models().get(model.name)
    if bundled is None or bundled.checkpoint != model.checkpoint:
        return ""
    return f"the first lines of {file} have the commands that write it; or use model.weights=random"


def fetch_description(model: ModelConfig) -> Path:
    """Download the files of a checkpoint that describe it, without its weights. Raises as `fetch_checkpoint` does."""
    return fetch_checkpoint(model, with_weights=False)


def fetch_checkpoint(model: ModelConfig, with_weights: bool = True) -> Path:
    """Download the checkpoint at its pinned revision into the Hub's cache. An interrupted download is resumed.

    Only one format of weights is fetched, safetensors if available. Raises ConfigError if the Hub refuses the request,
    Unreachable if it does not answer, and OSError if the disk cannot be written.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    setting = f"model.checkpoint={model.checkpoint or ''}"
    fallback = "or measure only speed and memory with model.weights=random"
    try:
        return _fetch_files(model, setting, with_weights)
    except HFValidationError:
        raise ConfigError(f"{setting}: {NO_NAME}") from None
    except GatedRepoError:
        raise ConfigError(
            f"{setting}: it is gated", f"request access on its page and set HF_TOKEN, {fallback}"
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(f"{setting}: the Hub has no such repository", "if it is private, set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise ConfigError(f"model.revision={model.revision}: {model.checkpoint} has no such revision") from None
    except OfflineModeIsEnabled:
        raise Unreachable(
            f"{setting}: not on this machine, and HF_HUB_OFFLINE forbids fetching it", f"unset it, {fallback}"
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk, not of the Hub
        kind = ConfigError if isinstance(error, HfHubHTTPError) else Unreachable
        raise kind(
            f"{setting}: not on this machine, and {constants.ENDPOINT} cannot be read ({first_sentence(error)})",
            f"run 'visionbench models fetch {model.name}' on a machine with a network, {fallback}",
        ) from None


def _fetch_files(model: ModelConfig, setting: str, with_weights: bool) -> Path:
    """Fetch the files of the checkpoint, and return their folder."""
    from huggingface_hub import HfApi

    repo, revision = model.checkpoint or "", model.revision
    info = HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S)
    names = {item.rfilename for item in info.siblings or []}
    description, chosen = "config.json", choose_open_clip_weights(names)
    if OPEN_CLIP in names and "config.json" not in names and chosen is not None:
        description = OPEN_CLIP
    elif kind := find_missing_kind(names, timm=getattr(info, "library_name", None) == "timm"):
        raise ConfigError(f"{setting}: the repository has no {kind}")
    else:
        chosen = choose_weights(names)
    refuse_pickled(model, chosen)
    suffixes = (*SIDE_SUFFIXES, ".py") if model.trust_remote_code else SIDE_SUFFIXES
    for name in sorted(names):
        if "/" not in name and name.endswith(suffixes) and not name.endswith(".index.json"):
            _fetch_file(repo, revision, name)
    if not with_weights:
        return _fetch_file(repo, revision, description).parent
    weights = _fetch_file(repo, revision, chosen)
    for shard in list_shards(weights):
        _fetch_file(repo, revision, shard)
    return weights.parent


def _fetch_file(repo: str, revision: str | None, name: str) -> Path:
    """Fetch one file of a repository into the Hub's cache, and return its path.

    huggingface_hub deletes an incomplete file when it fails. Large files are therefore downloaded into the cache here,
    so that the next attempt resumes the download, and are checked by their SHA-256.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock

    url = hf_hub_url(repo, name, revision=revision)
    remote = get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)
    if remote.size and re.fullmatch("[0-9a-f]{64}", remote.etag or ""):
        cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo, repo_type="model")
        blob, lock = cache / folder / "blobs" / remote.etag, cache / ".locks" / folder / f"{remote.etag}.lock"
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                _download_blob(url, remote.size, blob, setting=f"model.checkpoint={repo}: {name}")
    return Path(hf_hub_download(repo, name, revision=revision, etag_timeout=HUB_TIMEOUT_S))


def _download_blob(url: str, size: int, blob: Path, setting: str) -> None:
    """Download a file to the path that its SHA-256 names, and resume an earlier attempt."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = blob.with_name(f"{blob.name}.incomplete")
    with part.open("ab") as file:
        start = file.tell() if file.tell() <= size else file.truncate(0)
        free = shutil.disk_usage(blob.parent).free
        if size - start > free:
            raise ConfigError(
                f"{setting}: {(size - start) / 1e6:,.0f} MB must be downloaded, but only {free / 1e6:,.0f} MB of disk "
                "are free",
                "free disk space, or move HF_HOME",
            )
        try:
            http_get(
                url,
                file,
                resume_size=start,
                headers=build_hf_headers(),
                expected_size=size,
                displayed_filename=url.rpartition("/")[2],
            )
        except HTTPError as error:
            if isinstance(error, HfHubHTTPError):
                raise
            position = file.tell()
            raise ConfigError(
                f"{setting}: the connection was lost at {position / 1e6:.0f} of {size / 1e6:.0f} MB "
                f"({first_sentence(error)})",
                "run the same command again to resume the download",
            ) from None
    with part.open("rb") as file:
        intact = hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    if not intact:
        part.unlink()
        raise ConfigError(f"{setting}: damaged during the download", "run the same command again")
    part.rename(blob)
