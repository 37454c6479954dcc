"""One base model, one LoRA adapter a role: three players in the memory of one.

    policy = with_adapters(agents.make("nano"), AdapterSettings(rank=8), seed=0)
    coder = RoleView(policy, "coder")  # generates, trains and saves the Coder alone

The base stays as it is; a role's weights are a few per cent of its size and are switched,
not copied, between calls. Adapters sit on the language layers: that is what serving
engines load. On the vision tower they sit by option, for a model that samples by itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agents.registry import missing_extra
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Request, Response, Role

try:
    from peft import LoraConfig, PeftModel, get_peft_model
    from peft.utils import load_peft_weights, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from agents.encoding import EncodedPrompt
    from agents.loading import ADAPTER_FILE
    from agents.transformers import BARE, TransformersPolicy
    from agents.vision import in_vision, vision_layers
except ModuleNotFoundError as error:
    raise missing_extra(error, "train") from error

# The linear layers of a decoder block in the Llama and Qwen families, as peft and vLLM
# name them; vision towers of those families call theirs otherwise.
_LAYERS = frozenset("q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split())

SHARED = "shared"
"""Name of the one adapter of roles that share their weights."""


@dataclass(frozen=True)
class AdapterSettings:
    """Shape of the adapters, the same for every role.

    Attributes:
        rank: Rank of the update. vLLM serves 1, 8, 16, 32, 64, 128, 256, 320 and 512.
        alpha: The update is scaled by ``alpha / rank``.
        vision: Put them on the vision tower, too. Engines do not serve that.

    Raises:
        UserError: If a value is not positive.
    """

    rank: int = 16
    alpha: int = 32
    vision: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise UserError(f"adapter {name} must be at least 1, got {getattr(self, name)}")


def with_adapters(
    policy: TransformersPolicy,
    settings: AdapterSettings,
    seed: int,
    names: Sequence[str] = ROLES,
) -> TransformersPolicy:
    """Put fresh adapters onto a policy's model, in place: one a role, or one for all.

    A fresh adapter changes nothing: its second factor is zero.

    Args:
        policy: A policy whose model has no adapters.
        settings: Shape of the adapters.
        seed: Seeds the first factors.
        names: The roles, or :data:`SHARED` alone.

    Returns:
        The same policy; requests of each role are now answered through its adapter, or all
        through the shared one.

    Raises:
        UserError: If the model has no layer that an adapter could sit on.
    """
    layers = language_layers(policy.model)
    if settings.vision:
        layers += vision_layers(policy.model)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=layers)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = get_peft_model(policy.model, config, adapter_name=names[0])
        for name in names[1:]:
            model.add_adapter(name, config)
    model.eval()
    policy.model = model
    return policy


def load_adapters(policy: TransformersPolicy, folder: Path) -> TransformersPolicy:
    """Put saved adapters onto a policy's model, in place.

    Args:
        policy: A policy whose model has no adapters.
        folder: Holds one adapter folder a role, named ``proposer``, ``coder`` and ``solver``.
            A role without one plays with the bare base model.

    Raises:
        UserError: If there is no adapter, or one does not fit the model.
    """
    found = [role for role in ROLES if (folder / role / ADAPTER_FILE).is_file()]
    if not found:
        raise UserError(
            f"{folder} holds no adapters; expected folders named {', '.join(ROLES)}, each with "
            f"{ADAPTER_FILE} and adapter_model.safetensors"
        )
    model = policy.model
    try:
        for role in found:
            if isinstance(model, PeftModel):
                model.load_adapter(folder / role, adapter_name=role)
            else:
                model = PeftModel.from_pretrained(model, folder / role, adapter_name=role)
    except (ValueError, RuntimeError, KeyError, OSError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(
            f"an adapter in {folder} does not fit the model of {policy.name}: {first} "
            "Load it over the base model that it was trained on."
        ) from error
    policy.model = model.eval()
    return policy


def language_layers(model: Any) -> list[str]:
    """Names of the linear layers of the language model.

    Raises:
        UserError: If there are none by the usual names.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and name.rpartition(".")[2] in _LAYERS
        and not in_vision(name)
    ]
    if not names:
        raise UserError(
            f"{type(model).__name__} has no linear layers called {', '.join(sorted(_LAYERS))}; "
            "adapters of a role need a model of the Llama or Qwen families"
        )
    return names


class RoleView:
    """One role of a policy with adapters: a policy, a learner and something to save.

    Whoever asks for ``model`` gets the shared model with this role's adapter switched on,
    and only that adapter's weights open to training.

    Args:
        policy: A policy with adapters.
        role: Whose view this is.
        adapter: Name of its adapter, by default the role's; several roles may have one.

    Attributes:
        policy: The shared policy.
        role: The role.
        adapter: Name of its adapter.
        name: The policy's name with the role behind it.
    """

    def __init__(self, policy: TransformersPolicy, role: Role, adapter: str = "") -> None:
        """See the class."""
        if (adapter or role) not in getattr(policy.model, "peft_config", {}):
            raise UserError(
                f"{policy.name} has no adapter for the {role}; make them by with_adapters()"
            )
        self.policy = policy
        self.role: Role = role
        self.adapter = adapter or role
        self.name = f"{policy.name}/{role}"

    @property
    def model(self) -> Any:
        """The shared model, this role's adapter switched on and trainable."""
        model = self.policy.model
        model.set_adapter(self.adapter)
        return model

    @property
    def tokenizer(self) -> Any:
        """The shared tokenizer."""
        return self.policy.tokenizer

    @property
    def image_processor(self) -> Any:
        """The shared image processor, or None."""
        return self.policy.image_processor

    def encode(self, request: Request) -> EncodedPrompt:
        """What the model reads for a request; see :class:`TransformersPolicy`."""
        return self.policy.encode(request)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer requests of any role through this role's adapter."""
        return self.policy.generate_as(self.adapter, requests)

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """What this role thinks of a completion; see :meth:`TransformersPolicy.score`."""
        return self.policy.score(replace(request, role=self.role), completion_ids)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as a folder that peft and vLLM load.

        The folder appears under its name only when it is complete.

        Args:
            folder: Where to; replaced if it exists.
        """
        draft = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        self.policy.model.save_pretrained(draft, selected_adapters=[self.adapter])
        if folder.exists():
            shutil.rmtree(folder)
        # peft writes an adapter that is not called "default" into a folder of its name, and the
        # names of its layers, a set, in another order every time.
        written = draft / self.adapter
        config = written / ADAPTER_FILE
        shape = json.loads(config.read_text(encoding="utf-8"))
        shape["target_modules"] = sorted(shape["target_modules"])
        config.write_text(json.dumps(shape, indent=2, sort_keys=True), encoding="utf-8")
        written.replace(folder)
        shutil.rmtree(draft)

    def load_adapter(self, folder: Path) -> None:
        """Put saved weights into this role's adapter, in place.

        Raises:
            UserError: If the folder holds no adapter of this shape.
        """
        put_weights(self.policy.model, self.adapter, adapter_weights(folder))


class BaseView:
    """The model under the adapters: a policy that plays every role without any.

    Args:
        policy: A policy with adapters.

    Attributes:
        name: The policy's name.
    """

    def __init__(self, policy: TransformersPolicy) -> None:
        """See the class."""
        self.name = policy.name
        self._policy = policy

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`."""
        return self._policy.generate_as(BARE, requests)

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """What it thinks of a completion; see :meth:`TransformersPolicy.score`."""
        return self._policy.score_as(BARE, request, completion_ids)


def save_idle(view: RoleView, folder: Path) -> None:
    """Write an adapter of a view's shape that changes nothing, for engines that want one.

    Args:
        view: Whose shape it has; it stays as it is.
        folder: As for :meth:`RoleView.save_adapter`.
    """
    view.save_adapter(folder)
    weights = adapter_weights(folder)
    for name, weight in weights.items():
        if "lora_B" in name:
            weight.zero_()
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})


def adapter_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a saved adapter, on the CPU, under peft's names.

    Raises:
        UserError: If the folder holds no adapter.
    """
    try:
        return load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} holds no adapter: {error}") from error


def put_weights(model: Any, adapter: str, weights: Mapping[str, torch.Tensor]) -> None:
    """Put weights into an adapter of a model, in place.

    Raises:
        UserError: If the model's adapters have another shape.
    """
    try:
        outcome = set_peft_model_state_dict(model, dict(weights), adapter_name=adapter)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"the weights for the adapter {adapter!r} have another shape: {first} "
            "Use the lora_rank that they were trained with."
        ) from error
    lost = [name for name in outcome.missing_keys if f".{adapter}." in name]
    if outcome.unexpected_keys or lost:
        wrong = [*outcome.unexpected_keys, *lost]
        raise UserError(
            f"the weights for the adapter {adapter!r} sit on other layers than this model's, "
            f"such as {', '.join(wrong[:3])}. Use the vision setting that they were trained with."
        )
