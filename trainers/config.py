"""Where the settings of a run come from: a preset, overrides, a run directory."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from mmzero_env.errors import UserError, unknown
from mmzero_env.rewards import get_design
from mmzero_env.rewards.design_files import SUFFIX, read_settings
from trainers import atomic
from trainers.monitor_config import MonitorConfig
from trainers.run_config import FilterConfig, ProbeConfig, RunConfig, ServeConfig
from trainers.stage_config import StageConfig

PRESETS = Path(__file__).parent / "presets"

_TABLES: Mapping[
    str, type[StageConfig | FilterConfig | ProbeConfig | ServeConfig | MonitorConfig]
] = {
    "proposer": StageConfig,
    "coder": StageConfig,
    "solver": StageConfig,
    "filters": FilterConfig,
    "probe": ProbeConfig,
    "serve": ServeConfig,
    "monitor": MonitorConfig,
}


_REWARD = "reward."


def presets() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load(preset: str, overrides: Mapping[str, str]) -> RunConfig:
    """A preset with changes.

    Args:
        preset: One of :func:`presets`.
        overrides: Values as text by key; a key inside a table is ``"solver.steps"``, a
            setting of the reward ``"reward.solvability_cap"`` or
            ``"reward.coder.render"``.

    Raises:
        UserError: If the preset, a key, or the type of a value is wrong.
    """
    if preset not in presets():
        raise unknown("preset", preset, presets())
    values = _flat(tomllib.loads((PRESETS / f"{preset}.toml").read_text(encoding="utf-8")))
    return _build({"out": f"runs/{preset}", **values, **overrides, "preset": preset})


def save(config: RunConfig, folder: Path) -> None:
    """Write ``config.json`` into a run directory, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(folder / "config.json", json.dumps(asdict(config), indent=2) + "\n")


def read(folder: Path) -> RunConfig:
    """The config of an existing run.

    Raises:
        UserError: If the file is damaged or holds keys of another version.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"a JSON object was expected, got {type(values).__name__}")
        flat = _flat(values)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: expected the JSON object of `mmzero evolve` ({error})."
        ) from error
    try:
        return _build({**flat, "out": str(folder)})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": v for inner, v in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _build(flat: Mapping[str, Any]) -> RunConfig:
    types = key_types()
    parts: dict[str, dict[str, Any]] = {table: {} for table in _TABLES}
    top: dict[str, Any] = {}
    reward: dict[str, Any] = {}
    for key, value in flat.items():
        if key.startswith(_REWARD):
            reward[key.removeprefix(_REWARD)] = _literal(value)
            continue
        if key not in types:
            raise unknown("setting", key, (*types, f"{_REWARD}SETTING"))
        table, _, name = key.rpartition(".")
        (parts[table] if table else top)[name] = _typed(key, value, types[key])
    for table, cls in _TABLES.items():
        try:
            top[table] = cls(**parts[table])
        except UserError as error:
            raise UserError(f"{table}.{error}") from error
    if str(top.get("reward_design", "")).endswith(SUFFIX):
        # The run must not change with the file, so its content goes into the config.
        path = top["reward_design"]
        get_design(path)
        found = read_settings(Path(path))
        top["reward_design"], reward = found.base, {**found.settings, **reward}
    return RunConfig(**top, reward=reward)


def key_types() -> dict[str, type]:
    """Every setting with its type, keys of tables with a dot; without those of the reward."""
    types: dict[str, type] = {}
    for name, hint in get_type_hints(RunConfig).items():
        if name == "reward":
            continue
        if name in _TABLES:
            inner = get_type_hints(_TABLES[name])
            types |= {f"{name}.{f.name}": inner[f.name] for f in fields(_TABLES[name])}
        else:
            types[name] = hint
    return types


def _literal(value: Any) -> Any:
    """A setting of the reward as a TOML value: a number, true or false, else the text."""
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _typed(key: str, value: Any, kind: type) -> Any:
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or not all(isinstance(each, str) for each in parts):
            raise UserError(f"{key} expects names with commas between, got {value!r}")
        return tuple(each.strip() for each in parts)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is bool and value in ("true", "false"):
        return value == "true"
    if isinstance(value, str) and kind is not bool:
        try:
            return kind(value)
        except ValueError:
            pass
    wanted = "true or false" if kind is bool else f"a value of type {kind.__name__}"
    raise UserError(f"{key} expects {wanted}, got {value!r}")
