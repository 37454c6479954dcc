"""Episodes that were played, on disk: a record that can be replayed, and its pictures."""

from __future__ import annotations

from pathlib import Path

from mmzero_env.errors import UserError
from mmzero_env.record import EpisodeRecord, write_records
from trainers import atomic


class Keeper:
    """Writes episodes into a directory; what lies there already is never written over.

    Attributes:
        folder: The directory.
    """

    def __init__(self, folder: Path) -> None:
        """Make the directory, so that a name that cannot be is found out before the game.

        Raises:
            UserError: If it cannot be made or written to.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".mmzero-play"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"--out {folder} cannot be used: {error.strerror}; expected a writable directory."
            ) from error

    def keep(self, record: EpisodeRecord) -> list[Path]:
        """Write one episode.

        Args:
            record: The episode, as it is recorded.

        Returns:
            The written files, the record first.

        Raises:
            EngineError: If the disk failed.
        """
        name, number = record["id"], 1
        while (self.folder / f"{name}.jsonl").exists():
            number += 1
            name = f"{record['id']}-{number}"
        files = [self.folder / f"{name}.jsonl"]
        write_records(files[0], [record])
        for index, code in enumerate(record["codes"], start=1):
            if code["png"] is not None:
                path = self.folder / f"{name}-picture-{index}.png"
                atomic.write_bytes(path, code["png"])
                files.append(path)
        return files
