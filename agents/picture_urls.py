"""Pictures as data URLs, each encoded once though several requests carry it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from concurrent.futures import Future

from agents.chat_format import data_url
from mmzero_env.protocol import Image

# A picture is asked about several times within seconds: its questions are open together.
_KEPT = 128


class PictureUrls:
    """The data URLs of the pictures that came last."""

    def __init__(self) -> None:
        """See the class."""
        self._known: dict[bytes, Future[str]] = {}
        self._lock = threading.Lock()

    async def url(self, image: Image) -> str:
        """The data URL of a picture; see :func:`agents.chat_format.data_url`.

        Args:
            image: Shape (H, W, 3), dtype uint8.
        """
        return await asyncio.to_thread(self._url, image)

    def _url(self, image: Image) -> str:
        key = hashlib.blake2b(image.tobytes(), key=repr(image.shape).encode()).digest()
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine = self._known[key] = Future()
                if len(self._known) > _KEPT:
                    del self._known[next(iter(self._known))]
        if known is not None:
            # Whoever came first with this picture is at work on it in a thread of its own.
            return known.result()
        try:
            mine.set_result(data_url(image))
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()
