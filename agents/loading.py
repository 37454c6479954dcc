"""Loading a model folder or hub id, with errors that say what to mend."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import logging

from mmzero_env.errors import UserError

ADAPTER_FILE = "adapter_config.json"
"""What tells an adapter folder, as peft writes it."""

_BOUNDARY = 64
"""Bytes at whose multiples torch allocates memory on a CPU."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model and what it takes to write prompts for it.

    Attributes:
        model: In evaluation mode, on its device.
        tokenizer: The tokenizer.
        image_processor: PIL image processor of the Qwen-VL family, or None.
        processor: The family's own processor where it can be built, or None.
    """

    model: Any
    tokenizer: Any
    image_processor: Any = None
    processor: Any = None


def load(path: str, *, dtype: str = "auto", device: str = "auto") -> LoadedModel:
    """Load an image-text-to-text model.

    A folder with a LoRA adapter is loaded over the base model that it names, and merged
    into it.

    Args:
        path: A folder, or the id of a model on the Hugging Face hub.
        dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: float32 on
            a CPU (bfloat16 is emulated and slow there), the checkpoint's own elsewhere.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …, or ``"auto"``: the first GPU if
            there is one.

    Raises:
        UserError: If the path is not a model folder, its weights are damaged or
            incomplete, or the model cannot take an image and text.
    """
    where = _device(device)
    precision = _dtype(dtype, where)
    local = _is_local(path)
    if local and _is_adapter(Path(path)):
        return _merged(Path(path), dtype=dtype, device=device)
    if local:
        check_folder(Path(path))
    config = _hub(path, transformers.AutoConfig.from_pretrained)
    if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UserError(
            f"{path}: model type {config.model_type!r} does not take an image and text; "
            "expected an image-text-to-text model such as Qwen3-VL"
        )
    with _quiet():
        model, report = _hub(
            path,
            transformers.AutoModelForImageTextToText.from_pretrained,
            config=config,
            dtype=precision,
            output_loading_info=True,
            # Collected instead of raised, so that the message below can name the keys.
            ignore_mismatched_sizes=True,
        )
    wrong_shape = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    lost = sorted({*report["missing_keys"], *wrong_shape})
    if lost:
        raise UserError(
            f"{path}: the weights do not fit config.json; missing or of another shape: "
            f"{', '.join(lost[:5])}{' …' if len(lost) > 5 else ''}. Save the model again, or "
            "restore the config.json that belongs to these weights."
        )
    tokenizer = _hub(path, transformers.AutoTokenizer.from_pretrained)
    image_processor, processor = _processors(path)
    return LoadedModel(_aligned(model.to(where).eval()), tokenizer, image_processor, processor)


def _aligned(model: Any) -> Any:
    """Move weights to memory as torch allocates it.

    Those of a file lie where its header ends. Off the usual boundary a CPU's kernels add in
    another order, and a model that was saved and loaded would not play to the bit as before.
    """
    for weight in model.parameters():
        if weight.device.type == "cpu" and weight.data_ptr() % _BOUNDARY:
            weight.data = weight.data.clone()
    return model


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_FILE).is_file() and not (folder / "config.json").is_file()


def _merged(folder: Path, *, dtype: str, device: str) -> LoadedModel:
    """The base model that an adapter names, with the adapter added to its weights."""
    settings = _read_json(folder / ADAPTER_FILE, "the settings of a LoRA adapter, a JSON object")
    base = settings.get("base_model_name_or_path")
    try:
        if not isinstance(base, str):
            raise UserError("no base_model_name_or_path")
        loaded = load(base, dtype=dtype, device=device)
    except UserError as error:
        raise UserError(
            f"{folder} is a LoRA adapter, and the base model that it names cannot be loaded "
            f"({error}). Load it over a base by transformers:BASE?adapters=DIR, DIR holding the "
            "adapter in a folder named after its role."
        ) from error
    try:
        whole = PeftModel.from_pretrained(loaded.model, folder).merge_and_unload()
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"the adapter in {folder} does not fit {base}: {first}") from error
    return replace(loaded, model=whole.eval())


def check_folder(folder: Path) -> None:
    """See that a folder holds a readable configuration and whole weight files.

    Args:
        folder: A model folder.

    Raises:
        UserError: Naming the file and what was expected of it.
    """
    _read_json(folder / "config.json", "the model's configuration, a JSON object")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        table = _read_json(index, "a JSON object with 'weight_map'").get("weight_map")
        if not isinstance(table, dict):
            raise UserError(f"{index}: expected a JSON object with 'weight_map'; it has none")
        shards = [folder / name for name in sorted(set(table.values()))]
    else:
        shards = [folder / "model.safetensors"]
    for shard in shards:
        if not shard.is_file():
            raise UserError(
                f"{shard} is missing; expected the model's weights in safetensors format"
            )
        try:
            with safe_open(shard, framework="pt") as weights:
                weights.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"{shard} is damaged ({error}); expected a whole safetensors file, "
                f"{shard.stat().st_size} bytes came. Copy or save the model again."
            ) from error


def _read_json(file: Path, expected: str) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{file} is missing; expected {expected}. A model folder has config.json, "
            "model.safetensors, tokenizer.json and preprocessor_config.json."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is damaged ({error}); expected {expected}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file}: expected {expected}, came a {type(content).__name__}")
    return content


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' progress bars and reports: the caller says what matters."""
    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _is_local(path: str) -> bool:
    """Whether a path names a folder; a hub id is ``name`` or ``owner/name``."""
    place = Path(path)
    if place.is_dir():
        return True
    if not path or place.exists() or place.is_absolute() or path.startswith((".", "~")):
        raise UserError(f"{path!r} is not a folder; expected a model folder or a hub id")
    if path.count("/") > 1:
        raise UserError(
            f"no folder {path!r} here, and it is no hub id (owner/name); "
            "expected a model folder or a hub id"
        )
    return False


def _hub(path: str, load_from: Any, **options: Any) -> Any:
    """Call a ``from_pretrained`` and translate its failures."""
    try:
        return load_from(path, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"{path} could not be loaded: {first[0]} "
            "Expected a folder written by save_pretrained, or the id of a public model on the "
            "Hugging Face hub and a connection to it."
        ) from error


def _processors(path: str) -> tuple[Any, Any]:
    """The image processor of the Qwen-VL family, or else the family's own processor.

    The former needs PIL alone. The latter exists only where torchvision imports.
    """
    try:
        settings, _ = transformers.ImageProcessingMixin.get_image_processor_dict(path)
    except OSError:
        return None, None
    kind = settings.get("image_processor_type", "")
    if kind.startswith("Qwen2VLImageProcessor"):
        return Qwen2VLImageProcessorPil.from_pretrained(path), None
    try:
        return None, transformers.AutoProcessor.from_pretrained(path)
    except ImportError as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"{path}: its processor ({kind or 'unnamed'}) cannot be built here: {first} "
            "Install torchvision from the same package index as torch, or use a model of the "
            "Qwen-VL family, which needs none."
        ) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"device {name!r} cannot be used: {first}. Expected 'auto', 'cpu' or a device that "
            "this installation of torch reaches, such as 'cuda'."
        ) from error
    return device


def _dtype(name: str, device: torch.device) -> Any:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if name not in ("float32", "bfloat16", "float16"):
        raise UserError(f"dtype {name!r}: expected 'auto', 'float32', 'bfloat16' or 'float16'")
    return getattr(torch, name)
