"""Checkpoints: where one lies, how it gets here, and how a model is built from it or from random numbers.

Three sources: a repository on the Hugging Face Hub at a pinned revision, a local folder, and `bundled:NAME`. Code from
a checkpoint runs only where `model.trust_remote_code` says so; torch's restricted unpickler reads pickled weights.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from visionbench.config import ModelConfig, project_folder
from visionbench.core import first_line
from visionbench.datafiles.download import Unreachable
from visionbench.datafiles.text_file import is_lfs_pointer
from visionbench.registry import ConfigError, nearest

if TYPE_CHECKING:
    import torch

BUNDLED = "bundled:"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Where transformers looks for weights, in its order; an index names the files that hold them."""
NEEDED_FILES = {
    "config.json": ("config.json",),
    "preprocessor_config.json": ("preprocessor_config.json", "processor_config.json"),
    "model.safetensors or pytorch_model.bin": WEIGHT_FILES,
}
"""What no checkpoint goes without, each under any of these names."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Any of them holds a tokenizer's vocabulary; without one transformers makes up an empty tokenizer."""
HARMLESS_UNUSED = re.compile(
    r"(^|\.)(position_ids|num_batches_tracked|inv_freq|attn\.(masked_)?bias|relative_position_index)$"
)
"""Tensors that older checkpoints hold and newer models compute."""
SIDE_SUFFIXES = (".json", ".txt", ".model", ".jinja")
"""Endings of what comes along with the weights: configs, vocabularies, templates."""
JSON_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
)
"""Read here before transformers reads them, so that a damaged one is named."""
NO_NAME = "neither a folder nor the name of a Hub repository, owner/name"
HUB_TIMEOUT_S = 10.0
BLOCK, OFFSETS = 4_194_304, 65_536
"""Random weights are copied from this many normal numbers, from one of so many places on."""


# ------------------------------------------------------------------------------------------------------- where it lies
def folder(model: ModelConfig) -> Path | None:
    """The local or bundled folder that the checkpoint names; None where it names a Hub repository."""
    name = model.checkpoint or ""
    if name.startswith(BUNDLED):
        return project_folder("data") / name.removeprefix(BUNDLED)
    path = Path(name).expanduser()
    return path if path.is_absolute() or name.startswith((".", "~")) or (name and path.is_dir()) else None


def present(model: ModelConfig) -> Path | None:
    """The folder that holds the whole checkpoint on this machine, or None. Asks no network."""
    path = folder(model) or _cached(model)
    return path if path is not None and _lacking(path) is None else None


def ensure(model: ModelConfig) -> None:
    """Have the checkpoint on this machine before anything loads, fetching it if need be. Raises ConfigError."""
    if model.weights == "random" or present(model) is not None:
        return
    path = folder(model)
    if path is None:
        fetch(model)
    elif path.is_dir():
        raise ConfigError(f"model.checkpoint={model.checkpoint}: {_lacking(path)} is missing in {path}")
    else:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
        raise ConfigError(f"model.checkpoint={model.checkpoint}: there is no folder {path}{nearest(path.name, beside)}")


def _cached(model: ModelConfig) -> Path | None:
    """The folder of the pinned revision in the Hub's cache, whole or not."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(model.checkpoint or "", "config.json", revision=model.revision)
    except HFValidationError:
        raise ConfigError(f"model.checkpoint={model.checkpoint}: {NO_NAME}") from None
    return Path(config).parent if isinstance(config, str) else None


def _lacking(path: Path) -> str | None:
    """The first file that the checkpoint in a folder lacks, shards included; None where it is whole."""
    names = {entry.name for entry in path.iterdir() if entry.is_file()} if path.is_dir() else set()
    if lacking := _lacking_among(names):
        return lacking
    return next((shard for shard in _shards(path / _weights_among(names)) if not (path / shard).is_file()), None)


def _lacking_among(names: Collection[str]) -> str | None:
    """The first of the needed files that none of these names stands for."""
    return next((what for what, any_of in NEEDED_FILES.items() if not any(name in names for name in any_of)), None)


def _weights_among(names: Collection[str]) -> str:
    """The file that transformers takes where several formats lie side by side."""
    return next(name for name in WEIGHT_FILES if name in names)


def _shards(weights: Path) -> list[str]:
    """The names of the files that hold the weights: those in the index, or the one file itself."""
    if weights.suffix != ".json":
        return [weights.name]
    try:
        return sorted(set(json.loads(weights.read_text())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{weights}: not an index of weights", "fetch it again") from None


# ---------------------------------------------------------------------------------------------------- how it gets here
def fetch(model: ModelConfig) -> Path:
    """Download the checkpoint at its pinned revision into the Hub's cache; a broken download resumes.

    Only one format of weights is fetched, safetensors where the repository has them. Raises ConfigError where the Hub
    does not give it (Unreachable where it does not answer), and OSError as it comes where the disk does not take it.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, revision = model.checkpoint or "", model.revision
    what = f"model.checkpoint={repo}"
    otherwise = "or measure speed and memory alone with model.weights=random"
    try:
        info = HfApi().model_info(repo, revision=revision, timeout=HUB_TIMEOUT_S)
        names = {item.rfilename for item in info.siblings or []}
        if lacking := _lacking_among(names):
            raise ConfigError(f"{what}: the repository has no {lacking}")
        suffixes = (*SIDE_SUFFIXES, ".py") if model.trust_remote_code else SIDE_SUFFIXES
        for name in sorted(names):
            if "/" not in name and name.endswith(suffixes) and not name.endswith(".index.json"):
                _fetch_file(repo, revision, name)
        weights = _fetch_file(repo, revision, _weights_among(names))
        for shard in _shards(weights):
            _fetch_file(repo, revision, shard)
        return weights.parent
    except HFValidationError:
        raise ConfigError(f"{what}: {NO_NAME}") from None
    except GatedRepoError:
        raise ConfigError(f"{what}: it is gated", f"ask for access on its page and set HF_TOKEN, {otherwise}") from None
    except RepositoryNotFoundError:
        raise ConfigError(f"{what}: the Hub knows no such repository", "if it is private, set HF_TOKEN") from None
    except RevisionNotFoundError:
        raise ConfigError(f"model.revision={revision}: {repo} has no such revision") from None
    except OfflineModeIsEnabled:
        raise Unreachable(
            f"{what}: not on this machine, and HF_HUB_OFFLINE forbids fetching it", f"unset that, {otherwise}"
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's fault, not the Hub's
        refusal = ConfigError if isinstance(error, HfHubHTTPError) else Unreachable
        raise refusal(
            f"{what}: not on this machine, and {constants.ENDPOINT} could not be read ({_first_sentence(error)}); "
            f"run 'visionbench models fetch {model.name}' where there is a network, {otherwise}"
        ) from None


def _fetch_file(repo: str, revision: str | None, name: str) -> Path:
    """One file of a repository in the Hub's cache.

    huggingface_hub throws a half file away when it gives up. So that the next try goes on with it all the same, a big
    file is brought into the cache here, checked by its SHA-256, and then found there.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock

    url = hf_hub_url(repo, name, revision=revision)
    remote = get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S)
    if remote.size and re.fullmatch("[0-9a-f]{64}", remote.etag or ""):
        cache, own = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo, repo_type="model")
        blob, lock = cache / own / "blobs" / remote.etag, cache / ".locks" / own / f"{remote.etag}.lock"
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                _resume(url, remote.size, blob, what=f"model.checkpoint={repo}: {name}")
    return Path(hf_hub_download(repo, name, revision=revision, etag_timeout=HUB_TIMEOUT_S))


def _resume(url: str, size: int, blob: Path, what: str) -> None:
    """Bring a file to the place that its SHA-256 names, going on with what an earlier try has left beside that."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    part = blob.with_name(f"{blob.name}.incomplete")
    with part.open("ab") as file:
        start = file.tell() if file.tell() <= size else file.truncate(0)
        free = shutil.disk_usage(blob.parent).free
        if size - start > free:
            raise ConfigError(
                f"{what}: {(size - start) / 1e6:,.0f} MB are still to come, and {free / 1e6:,.0f} MB of disk are free",
                "make room, or move HF_HOME",
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
            raise ConfigError(
                f"{what}: the connection broke off at {file.tell() / 1e6:.0f} of {size / 1e6:.0f} MB "
                f"({_first_sentence(error)})",
                "run the same command again, and it goes on from there",
            ) from None
    with part.open("rb") as file:
        intact = hashlib.file_digest(file, "sha256").hexdigest() == blob.name
    if not intact:
        part.unlink()
        raise ConfigError(f"{what}: damaged on its way", "run the same command again")
    part.rename(blob)


def _first_sentence(error: BaseException) -> str:
    """What an error says, as far as it fits in a line of ours: its first sentence."""
    return first_line(error).split(". ")[0].rstrip(".")


# ----------------------------------------------------------------------------------------------------- how it is built
@dataclass(frozen=True)
class Built:
    """A model on its device in evaluation mode, and what it is."""

    module: Any
    source: Path | None
    """The checkpoint's folder, for processors and tokenizers; None with random weights."""
    identity: Mapping[str, Any]


def build(model: ModelConfig, auto_class: str, device: torch.device, dtype: torch.dtype) -> Built:
    """Load the checkpoint, or build the architecture with random weights, on the device in the dtype.

    `auto_class` is the name of the class in transformers that a family's checkpoints are read by. Raises ConfigError.
    """
    source = None if model.weights == "random" else present(model)
    if source is None:
        if model.weights != "random":
            raise ConfigError(
                f"model.checkpoint={model.checkpoint}: not on this machine",
                f"run 'visionbench models fetch {model.name}'",
            )
        module = _random(model, auto_class, device, dtype)
    else:
        module = _saved(model, auto_class, source, dtype).to(device)
    module.eval().requires_grad_(False)
    return Built(
        module,
        source,
        {
            "weights": model.weights,
            "checkpoint": model.checkpoint if source else None,
            "revision": source.name if source and folder(model) is None else None,
            "model_class": type(module).__name__,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "weights_bytes": weights_bytes(module),
            "dtype": str(dtype).removeprefix("torch."),
            "attention": model.attention,
        },
    )


def parameter_count(model: ModelConfig, auto_class: str) -> int:
    """How many parameters the YAML's `architecture:` has, tied ones once. Takes no memory for them."""
    import torch

    module = _empty(replace(model, attention=None), auto_class, torch.device("meta"), torch.float32)
    return sum(parameter.numel() for parameter in module.parameters())


def weights_bytes(module: torch.nn.Module) -> int:
    """Bytes of parameters and buffers, shared storage counted once."""
    tensors = [*module.parameters(), *module.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def image_processor(model: ModelConfig, source: Path | None) -> Any:
    """The checkpoint's image processor, or with random weights the one that the YAML's `image_processor:` describes."""
    from transformers import AutoImageProcessor

    def load(path: Path | str) -> Any:
        what = f"model.image_processor of {model.name}" if source is None else f"model.checkpoint={model.checkpoint}"
        with _one_line(model, what):
            return AutoImageProcessor.from_pretrained(
                path, local_files_only=True, trust_remote_code=model.trust_remote_code
            )

    if source is not None:
        return load(source)
    if "image_processor_type" not in model.image_processor:
        raise ConfigError(f"model {model.name}: random weights need an 'image_processor:' with image_processor_type")
    with TemporaryDirectory() as described:  # so that transformers picks the class and its backend in both cases
        (Path(described) / "preprocessor_config.json").write_text(json.dumps(model.image_processor))
        return load(described)


def tokenizer(model: ModelConfig, built: Built) -> Any:
    """The checkpoint's tokenizer. Raises ConfigError where it has none, or one that does not fit the model."""
    from transformers import AutoTokenizer

    source, what = built.source, f"model.checkpoint={model.checkpoint}"
    assert source is not None
    if not any((source / name).is_file() for name in TOKENIZER_FILES):
        raise ConfigError(
            f"{what}: {TOKENIZER_FILES[0]} (or {', '.join(TOKENIZER_FILES[1:])}) is missing in {source}", "complete it"
        )
    with _one_line(model, what):
        found = AutoTokenizer.from_pretrained(source, local_files_only=True)
        ids = found.get_vocab().values()
    if not set(ids) - set(found.all_special_ids):
        raise ConfigError(f"{what}: its tokenizer has no words", f"complete the tokenizer's files in {source}")
    text = getattr(built.module.config, "text_config", built.module.config)
    size = getattr(text, "vocab_size", None)
    if size is not None and max(ids) >= size:
        raise ConfigError(
            f"{what}: its tokenizer has tokens up to {max(ids)}, and the model knows those below {size}",
            "take the tokenizer's files of this checkpoint",
        )
    return found


def check_length(built: Built, tokens: int, keys: str) -> None:
    """Raise ConfigError where a text of so many tokens, set by these keys, has more than the model has positions."""
    text = getattr(built.module.config, "text_config", built.module.config)
    positions = getattr(text, "max_position_embeddings", None)
    if positions is not None and tokens > positions:
        raise ConfigError(f"{keys}: {tokens} tokens, and the model has {positions} positions", "give less")


def describe(image_processor: Any) -> Mapping[str, str]:
    """The class of an image processor and its backend, `torchvision` or `pil`, whose results differ slightly."""
    return {
        "image_processor": type(image_processor).__name__,
        "image_backend": str(getattr(image_processor, "backend", "unknown")),
    }


def place(inputs: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """A batch on the device, its floating-point tensors in the dtype.

    From pinned memory the host goes on while the copy runs; the tensors are then converted on the device.
    """
    placed = {name: tensor.to(device, non_blocking=tensor.is_pinned()) for name, tensor in inputs.items()}
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in placed.items()}


def id2label(model: ModelConfig) -> Mapping[Any, Any]:
    """The classes by index as the config of a checkpoint on this machine names them. Raises ConfigError."""
    source = present(model)
    if source is None:
        raise ConfigError(
            f"model.checkpoint={model.checkpoint}: not on this machine", f"run 'visionbench models fetch {model.name}'"
        )
    try:
        found = json.loads((source / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{source / 'config.json'}: not JSON ({_first_sentence(error)})", "fetch it again") from None
    if isinstance(found, dict) and isinstance(found.get("id2label"), dict):
        names: Mapping[Any, Any] = found["id2label"]
        if wrong := _disagreeing(names, found.get("label2id")):
            raise ConfigError(
                f"{source / 'config.json'}: id2label and label2id disagree on {len(wrong)} classes, such as "
                f"'{next(iter(wrong))}', which label2id gives the index {next(iter(wrong.values()))}",
                "correct the file",
            )
        return names
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=model.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"model.checkpoint={model.checkpoint}: {_first_sentence(error)}") from None
    return dict(config.id2label)


def _disagreeing(id2label: Mapping[Any, Any], label2id: Any) -> dict[str, Any]:
    """Names of `id2label` to which `label2id` gives the index of another name. Names of its own are ignored: they are
    left there where somebody has changed `id2label` alone."""
    if not isinstance(label2id, dict):
        return {}
    by_index = {str(at): name for at, name in id2label.items()}
    known = set(by_index.values())
    return {name: at for name, at in label2id.items() if name in known and by_index.get(str(at)) != name}


def modules(model: ModelConfig) -> list[str]:
    """The transformers modules that hold this architecture, for a fork server to import beforehand."""
    kind = str(model.architecture.get("model_type", "")).replace("-", "_")
    package = f"transformers.models.{kind}"
    return [f"{package}.modeling_{kind}", f"{package}.processing_{kind}"] if kind else []


# ------------------------------------------------------------------------------------------------------- from a folder
def _saved(model: ModelConfig, auto_class: str, source: Path, dtype: torch.dtype) -> Any:
    """The checkpoint in host memory. One that fills only a part of the model is refused: the rest would be random."""
    import transformers

    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"  # else a thread asks the Hub about pickled checkpoints
    transformers.utils.logging.disable_progress_bar()  # nobody sees it, and it leaves a semaphore behind
    what = f"model.checkpoint={model.checkpoint}"
    _check_files(source, what)
    with _one_line(model, what):
        module, report = getattr(transformers, auto_class).from_pretrained(
            source,
            dtype=dtype,
            attn_implementation=model.attention,
            trust_remote_code=model.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    if wrong := sorted(report["mismatched_keys"]):
        name, saved, built = wrong[0]
        more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise ConfigError(
            f"{what}: {name} has the shape {list(saved)}, and config.json describes {list(built)}{more}",
            "bring config.json and weights of one model",
        )
    if missing := sorted(report["missing_keys"]):
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise ConfigError(
            f"{what}: it lacks {missing[0]}{more} of {type(module).__name__}",
            f"model.family={model.family} does not fit it",
        )
    _check_unused(module, report["unexpected_keys"], what)
    return module


def _check_files(source: Path, what: str) -> None:
    """Refuse a folder with a Git LFS pointer, or a file of JSON that cannot be read."""
    for path in sorted(entry for entry in source.iterdir() if entry.is_file()):
        if is_lfs_pointer(path):
            raise ConfigError(
                f"{what}: {path} is a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository"
            )
        if path.suffix == ".json" and path.name in JSON_FILES:
            try:
                content = json.loads(path.read_bytes())
            except ValueError as error:
                raise ConfigError(f"{what}: {path} is not JSON ({error})", "fetch it again") from None
            if not isinstance(content, dict):
                raise ConfigError(f"{what}: {path} holds no JSON object", "fetch it again")
            if path.name == "config.json" and not isinstance(content.get("model_type"), str):
                raise ConfigError(f"{what}: {path} names no model_type, so its architecture is not known", "add it")


def _check_unused(module: Any, unused: Collection[str], what: str) -> None:
    """Refuse a checkpoint with weights of parts that the model has fewer of, such as further layers: `config.json`
    then describes a smaller model. Weights of other parts change nothing, since every part of the model is filled."""
    parts = {re.sub(r"\d+", "N", name) for name in module.state_dict()}
    further = sorted(name for name in unused if not HARMLESS_UNUSED.search(name) and re.sub(r"\d+", "N", name) in parts)
    if further:
        more = f" and {len(further) - 1} more" if further[1:] else ""
        raise ConfigError(
            f"{what}: it holds {further[0]}{more}, which the model of config.json has no place for",
            "bring config.json and weights of one model",
        )


@contextmanager
def _one_line(model: ModelConfig, what: str) -> Iterator[None]:
    """Whatever transformers raises while it reads a checkpoint's files, as a ConfigError; a lack of memory as it is."""
    import torch

    try:
        yield
    except (ConfigError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if re.search("not enough memory|can't allocate memory|out of memory", str(error), re.IGNORECASE):
            raise
        raise _unbuildable(model, what, error) from error


def _unbuildable(model: ModelConfig, what: str, error: Exception) -> ConfigError:
    """What transformers says against building a model, in one line, and the key that would change it."""
    hints = {
        "attn_implementation|flash": "use model.attention=eager",
        "configuration class": f"model.family={model.family} does not fit it",
        "deserializ|corrupt|unexpected EOF|PytorchStreamReader": "a file of weights is cut or damaged; fetch it again",
        "custom code": "model.trust_remote_code=true would run it",
    }
    hint = next((f"; {hint}" for pattern, hint in hints.items() if re.search(pattern, str(error), re.IGNORECASE)), "")
    kind = "" if isinstance(error, (ImportError, ValueError, OSError)) else f"{type(error).__name__}: "
    return ConfigError(f"{what}: {kind}{_first_sentence(error)}{hint}")


# -------------------------------------------------------------------------------------------------- from random numbers
def architecture(model: ModelConfig) -> Any:
    """The transformers config of the YAML's `architecture:`; a key that its class does not know is a ConfigError."""
    if "model_type" not in model.architecture:
        raise ConfigError(f"model {model.name}: random weights need an 'architecture:' with its model_type")
    return _config(model.architecture, None, "model.architecture")


def _config(wanted: Mapping[str, Any], default: Any, where: str) -> Any:
    """A config by what the YAML says of it, parts first; `default` is what stands there where the YAML says nothing."""
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    values = dict(wanted)
    current = getattr(default, "model_type", None)
    kind = str(values.pop("model_type", current))
    if kind != current:
        if kind not in CONFIG_MAPPING:
            raise ConfigError(f"{where}.model_type={kind}: not in transformers{nearest(kind, CONFIG_MAPPING.keys())}")
        default = CONFIG_MAPPING[kind]()
    for key, value in values.items():
        if not hasattr(default, key) or callable(getattr(default, key)):
            known = [name for name in vars(default) if not name.startswith("_")]
            raise ConfigError(f"there is no key '{where}.{key}'{nearest(key, known)}")
        if isinstance(value, Mapping) and hasattr(getattr(default, key), "to_dict"):
            values[key] = _config(value, getattr(default, key), f"{where}.{key}")
    try:
        return type(default)(**values)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {str(error).splitlines()[-1].strip().partition('. Errors:')[0]}") from None


def _empty(model: ModelConfig, auto_class: str, device: torch.device, dtype: torch.dtype) -> Any:
    """The architecture on the device in the dtype, its parameters allocated and not yet filled.

    As in a loaded checkpoint, tied weights are one, and what transformers keeps in fp32 (`_keep_in_fp32_modules`) is.
    """
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    config = architecture(model)
    forked = [device] if device.type == "cuda" else []
    with torch.device(device), torch.random.fork_rng(forked), no_init_weights():
        torch.manual_seed(model.seed)  # some constructors draw their buffers
        try:
            module = getattr(transformers, auto_class).from_config(
                config, dtype=dtype, attn_implementation=model.attention
            )
        except (ImportError, ValueError) as error:
            raise _unbuildable(model, f"model.architecture of {model.name}", error) from error
    module.tie_weights()
    plan = module._get_dtype_plan(dtype)
    for name, tensor in module.state_dict(keep_vars=True).items():
        kept = next((kept for pattern, kept in plan.items() if re.search(pattern, name)), tensor.dtype)
        if tensor.is_floating_point() and kept != tensor.dtype:
            tensor.data = tensor.data.to(kept)
    return module


def _random(model: ModelConfig, auto_class: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Random weights with standard deviation 1/√fan-in, so that signals neither die out nor blow up; scales are 1 and
    biases 0.

    All are copied out of one block of normal numbers: the initialisers of torch and transformers would draw each
    number of each layer anew, minutes for billions.
    """
    import torch

    module = _empty(model, auto_class, device, dtype)
    if device.type == "meta":  # shapes alone: nothing to fill
        return module
    numbers = torch.Generator(device).manual_seed(model.seed)
    block = torch.randn(BLOCK + OFFSETS, generator=numbers, device=device).to(dtype)
    draw = random.Random(model.seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
                continue
            fan_in = parameter[0].numel() if len(parameter) > 1 else parameter.shape[-1]
            for piece in parameter.view(-1).split(BLOCK):
                start = draw.randrange(OFFSETS)
                torch.mul(block[start : start + len(piece)], fan_in**-0.5, out=piece)
    return module
