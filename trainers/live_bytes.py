"""Counts the bytes of the tensors that are alive while torch computes.

Every operation passes through here; the storage of each result is counted once, until it is
freed. It works on any device, also on torch's meta device, where nothing is computed: the
memory that a computation would need is then found without having it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts within a ``with`` block.

    Args:
        known: Tensors that were there before, which are not counted.

    Attributes:
        live: Bytes of the storages that were made in the block and are still there.
        peak: The most there ever were.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        """See the class."""
        super().__init__()
        self.live = self.peak = 0
        # The tensors stay referenced, or a new storage could come to their address.
        self._known = list(known)
        self._seen = {tensor.untyped_storage()._cdata for tensor in self._known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size
