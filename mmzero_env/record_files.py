"""Files of records: JSONL and Parquet, alone or many in a directory.

A reader never takes a torn file for a whole one: a line that was not written to its end
lacks the line end, and a Parquet file gets its name when it is whole.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from mmzero_env import parquet
from mmzero_env.errors import EngineError, UserError
from mmzero_env.record_schema import EpisodeRecord, check, current
from mmzero_env.utf8 import escape, unescape

SUFFIXES = (".jsonl", ".parquet")
# JSON leaves them as they are, but str.splitlines takes them for line ends.
_LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}


class UnfinishedFile(UserError):
    """A JSONL file whose last line was not written to its end, or is being written."""


def write_records(path: str | Path, records: Iterable[EpisodeRecord]) -> int:
    """Append records to a file, and create it if needed.

    A JSONL file grows line by line, and what was stopped in the middle of a line is told
    from a whole file by its missing line end. A Parquet file cannot grow: it is written
    anew beside the old one and then takes its place, so write many records at once.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file; its folder must exist.
        records: Records as :func:`episode_to_record` makes them.

    Returns:
        Number of records written.

    Raises:
        UserError: If the name has another ending, the file cannot be opened, a record is
            not one of this schema, or the existing file is damaged or unfinished.
        EngineError: If the disk failed.
    """
    path = Path(path)
    if _suffix(path) == ".parquet":
        with _replacement(path) as draft:
            old = parquet.read(path) if path.exists() else ()
            kept = parquet.count(path) if path.exists() else 0
            return parquet.write(draft, (r for part in (old, records) for r in part)) - kept
    count = 0
    try:
        if path.exists() and _unfinished(path):
            raise _torn(path, sum(1 for _ in path.open("rb")))
        # Unbuffered: a line goes out in one call, so that writers do not mix theirs.
        with path.open("ab", buffering=0) as file:
            for record in records:
                check(record, f"record {count + 1}")
                line = _to_line(record)
                if file.write(line) != len(line):
                    raise EngineError(f"cannot write {path}: the disk took a part of a line only.")
                count += 1
            os.fsync(file.fileno())
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"cannot write episode records to {path}: {error.strerror}.") from error
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}.") from error
    return count


def read_records(path: str | Path) -> Iterator[EpisodeRecord]:
    """Read records one by one.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file, or a directory of them, read in the order
            of their names.

    Yields:
        Records equal to those that were written.

    Raises:
        UserError: If the path is missing or holds no such file, a record is damaged, or
            it was written under a schema that is not read. The message names file, line (row in
            Parquet) and what was expected.
        UnfinishedFile: At the end, after every whole record, if the last line of a JSONL
            file is unfinished.
    """
    unfinished = None
    for file in record_files(path):
        if file.suffix == ".parquet":
            yield from parquet.read(file)
            continue
        try:
            yield from _read_lines(file)
        except UnfinishedFile as error:
            unfinished = unfinished or error
    if unfinished is not None:
        raise unfinished


def pick_records(path: str | Path, places: Iterable[int]) -> Iterator[tuple[int, EpisodeRecord]]:
    """Read a few records of one file; of JSONL only their lines are parsed.

    Args:
        path: A ``.jsonl`` or ``.parquet`` file.
        places: Which records, counted from 0. Places behind the last record, an unfinished
            one included, are left out.

    Yields:
        Place and record, in the order of the file.

    Raises:
        UserError: If the file is missing, or one of these records is damaged.
    """
    path = Path(path)
    wanted = set(places)
    if _suffix(path) == ".parquet":
        for place, record in enumerate(parquet.read(path)):
            if place in wanted:
                yield place, record
        return
    last = max(wanted, default=-1)
    with _opened(path) as file:
        for place, line in enumerate(file):
            if place > last:
                return
            if place in wanted and line.endswith(b"\n"):
                yield place, _from_line(line, f"{path}, line {place + 1}")


def record_files(path: str | Path) -> list[Path]:
    """The files that :func:`read_records` reads, in its order.

    Raises:
        UserError: If the path is missing, has another ending, or is a directory without
            such files.
    """
    path = Path(path)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not found:
            raise UserError(f"{path} holds no episode records: expected .jsonl or .parquet files.")
        return found
    if not path.exists():
        raise UserError(f"cannot read episode records from {path}: No such file or directory.")
    _suffix(path)
    return [path]


def convert(source: str | Path, target: str | Path) -> int:
    """Write the records of a file or directory as one file of the other form.

    Args:
        source: As for :func:`read_records`.
        target: A ``.jsonl`` or ``.parquet`` file that does not exist yet. It appears when
            it is whole.

    Returns:
        Number of records.

    Raises:
        UserError: If the target exists, or the source is damaged or unfinished.
    """
    target = Path(target)
    suffix = _suffix(target)
    if target.exists():
        raise UserError(f"{target} exists already; choose a new name or remove it first.")
    with _replacement(target) as draft:
        if suffix == ".parquet":
            return parquet.write(draft, read_records(source))
        count = 0
        with draft.open("wb") as file:
            for record in read_records(source):
                file.write(_to_line(record))
                count += 1
        return count


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}.")
    return path.suffix


@contextmanager
def _replacement(path: Path) -> Generator[Path]:
    """A file to write that takes the place of another when it is whole."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"cannot write episode records to {path}: {error.strerror}.") from error
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)


def _to_line(record: EpisodeRecord) -> bytes:
    text = json.dumps(record, ensure_ascii=False, default=_encode_bytes)
    return (escape(text).translate(_LINE_ENDS) + "\n").encode()


def _encode_bytes(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    raise UserError(f"a record holds plain data and PNG bytes, got {type(value).__name__}.")


def _unfinished(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, io.SEEK_END) == 0:
            return False
        file.seek(-1, io.SEEK_END)
        return file.read(1) != b"\n"


def _torn(path: Path, number: int) -> UnfinishedFile:
    return UnfinishedFile(
        f"{path}, line {number} is unfinished: expected a line end, as every whole record has. "
        f"Its writer is at work or was stopped; head -n {number - 1} keeps the whole records."
    )


def _read_lines(path: Path) -> Iterator[EpisodeRecord]:
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                raise _torn(path, number)
            yield _from_line(line, f"{path}, line {number}")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read episode records from {path}: {error.strerror}.") from error


def _from_line(line: bytes, where: str) -> EpisodeRecord:
    try:
        record: Any = json.loads(unescape(line.decode()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: expected one JSON object in UTF-8, but {error}.") from error
    codes = record.get("codes") if isinstance(record, dict) else None
    for code in codes if isinstance(codes, list) else ():
        if isinstance(code, dict) and isinstance(code.get("png"), str):
            try:
                code["png"] = base64.b64decode(code["png"], validate=True)
            except (binascii.Error, ValueError) as error:
                raise UserError(f"{where}: 'png' must be base64, but {error}.") from error
    record = current(record)
    check(record, where)
    return cast("EpisodeRecord", record)
