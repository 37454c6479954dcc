"""Records as a Parquet file, in the form that Hugging Face's datasets shows with pictures.

The columns are the fields of :class:`~mmzero_env.record_schema.EpisodeRecord`, with
these changes: the pictures of all codes form the column ``images`` (``{bytes, path}``,
null where a code has none), a mapping is a list of ``{key, value}``, and settings by
name are one JSON text, since their values differ in type. Reading undoes the changes.

Needs pyarrow, which the light core does not install.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast, get_args, get_origin, is_typeddict

from mmzero_env.errors import UserError
from mmzero_env.record_schema import (
    ADDED,
    SCHEMA,
    CodeRecord,
    EpisodeRecord,
    Scalar,
    check,
    current,
    fields_of,
    without_none,
)
from mmzero_env.utf8 import escape, unescape

ROWS_IN_GROUP = 64
"""Records a row group: what a reader has to hold in memory at once."""

_VALUES = {str: "string", int: "int64", float: "float64", bool: "bool"}
_IMAGES = list[bytes | None]


def write(path: Path, records: Iterable[EpisodeRecord]) -> int:
    """Write a new file.

    Args:
        path: The file.
        records: Records of this schema.

    Returns:
        Number of records.

    Raises:
        UserError: If pyarrow is missing or a record does not follow the schema.
    """
    pa, pq = _arrow()
    features = {name: _feature(hint) for name, hint in _columns().items()}
    schema = pa.schema(
        [(name, _type(hint, pa)) for name, hint in _columns().items()],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    count = 0
    stream = iter(records)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(islice(stream, ROWS_IN_GROUP)):
            for number, record in enumerate(group, start=count + 1):
                check(record, f"record {number}")
            writer.write_table(pa.Table.from_pylist([_to_row(each) for each in group], schema))
            count += len(group)
    return count


def read(path: Path) -> Iterator[EpisodeRecord]:
    """Read a file row by row.

    Raises:
        UserError: If pyarrow is missing, the file is missing, not a whole Parquet file or
            has other columns, or a row is damaged.
    """
    pa, pq = _arrow()
    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            later = {name for added in ADDED.values() for name in added}
            if missing := [name for name in _columns() if name not in {*found, *later}]:
                raise UserError(
                    f"{path}: expected the columns of episode records, schema {SCHEMA}; it lacks "
                    f"{', '.join(missing)}."
                )
            number = 0
            for batch in file.iter_batches(batch_size=ROWS_IN_GROUP):
                for row in batch.to_pylist():
                    number += 1
                    yield _from_row(row, f"{path}, row {number}")
    except FileNotFoundError as error:
        raise UserError(f"cannot read episode records from {path}: {error.strerror}.") from error
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: expected a whole Parquet file, but {error}") from error


def count(path: Path) -> int:
    """Number of rows of a file."""
    pa, pq = _arrow()
    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: expected a whole Parquet file, but {error}") from error


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            "Parquet files need pyarrow, which is not installed. Add it with: pip install pyarrow"
        ) from error
    return pyarrow, pyarrow.parquet


def _columns() -> dict[str, Any]:
    return {**fields_of(EpisodeRecord), "images": _IMAGES}


def _fields(shape: type) -> Mapping[str, Any]:
    shown = dict(fields_of(shape))
    if shape is CodeRecord:
        del shown["png"]  # the column of images holds it
    return shown


def _to_row(record: EpisodeRecord) -> dict[str, Any]:
    images = [code["png"] for code in record["codes"]]
    whole = {**record, "images": images}
    return {name: _pack(whole[name], hint) for name, hint in _columns().items()}


def _from_row(row: dict[str, Any], where: str) -> EpisodeRecord:
    try:
        columns = {name: hint for name, hint in _columns().items() if name in row}
        record = {name: _unpack(row[name], hint) for name, hint in columns.items()}
        images = record.pop("images")
        # In the order of the schema, so that JSON made of it is the same to the byte.
        record["codes"] = [
            {name: image if name == "png" else code[name] for name in fields_of(CodeRecord)}
            for code, image in zip(record["codes"], images, strict=True)
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{where}: expected an episode record of schema {SCHEMA}, but {error!r}."
        ) from error
    record = current(record)
    check(record, where)
    return cast("EpisodeRecord", record)


# One walk over the annotations for each of: the type of a column, its Hugging Face
# feature, a value on its way out, a value on its way in.


def _is_settings(hint: Any) -> bool:
    return get_origin(hint) is dict and get_args(hint)[1] == Scalar


def _type(hint: Any, pa: Any) -> Any:
    hint, _ = without_none(hint)
    if _is_settings(hint):
        return pa.string()
    if is_typeddict(hint):
        return pa.struct([(name, _type(each, pa)) for name, each in _fields(hint).items()])
    if get_origin(hint) is dict:
        return pa.list_(pa.struct([("key", pa.string()), ("value", _type(get_args(hint)[1], pa))]))
    if get_origin(hint) is list:
        return pa.list_(_type(get_args(hint)[0], pa))
    if hint is bytes:
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.type_for_alias(_VALUES[hint])


def _feature(hint: Any) -> dict[str, Any]:
    hint, _ = without_none(hint)
    if _is_settings(hint):
        return {"dtype": "string", "_type": "Value"}
    if is_typeddict(hint):
        return {name: _feature(each) for name, each in _fields(hint).items()}
    if get_origin(hint) is dict:
        pair = {"key": _feature(str), "value": _feature(get_args(hint)[1])}
        return {"feature": pair, "_type": "List"}
    if get_origin(hint) is list:
        return {"feature": _feature(get_args(hint)[0]), "_type": "List"}
    if hint is bytes:
        return {"_type": "Image"}
    return {"dtype": _VALUES[hint], "_type": "Value"}


def _pack(value: Any, hint: Any) -> Any:
    hint, _ = without_none(hint)
    if value is None:
        return None
    if _is_settings(hint):
        return escape(json.dumps(value, ensure_ascii=False))
    if is_typeddict(hint):
        return {name: _pack(value[name], each) for name, each in _fields(hint).items()}
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        return [{"key": escape(key), "value": _pack(each, inner)} for key, each in value.items()]
    if get_origin(hint) is list:
        return [_pack(each, get_args(hint)[0]) for each in value]
    if hint is bytes:
        return {"bytes": value, "path": None}
    return escape(value) if hint is str else value


def _unpack(value: Any, hint: Any) -> Any:
    hint, _ = without_none(hint)
    if value is None:
        return None
    if _is_settings(hint):
        return json.loads(unescape(value))
    if is_typeddict(hint):
        return {name: _unpack(value[name], each) for name, each in _fields(hint).items()}
    if get_origin(hint) is dict:
        inner = get_args(hint)[1]
        return {unescape(pair["key"]): _unpack(pair["value"], inner) for pair in value}
    if get_origin(hint) is list:
        return [_unpack(each, get_args(hint)[0]) for each in value]
    if hint is bytes:
        return value["bytes"]
    return unescape(value) if hint is str else value
