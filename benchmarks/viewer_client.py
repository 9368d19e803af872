"""A client of the viewer's socket in a process of its own, which counts the strips that arrive.

It takes all that the server sends, as fast as it comes, and unpacks the part that holds the strips.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from multiprocessing.connection import Connection
from types import TracebackType

import msgspec
import viser
import zstandard
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

_STRIP = b"camera-strip"
_QUIET_S = 2.0  # without a message, all have arrived


class StripClient:
    """Client in a process of its own; it counts the camera strips and their bytes."""

    def __init__(self) -> None:
        self.count, self.num_bytes = 0, 0
        self.last_s = 0.0  # ``time.perf_counter`` at the last strip
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_listen, args=(other,), daemon=True)
        self._process.start()
        other.close()
        self._pipe.recv()  # it has loaded its modules

    def connect(self, address: str) -> None:
        """Connect to a viewer, ``http://host:port``, and wait for its first strip."""
        self._pipe.send(address)
        self.wait_for(self.count + 1)

    def wait_for(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until a number of strips have arrived.

        Raises:
            TimeoutError: they do not come.
        """
        end = time.perf_counter() + timeout_s
        while self.count < count:
            left_s = end - time.perf_counter()
            if left_s <= 0 or not self._pipe.poll(left_s):
                raise TimeoutError(
                    f"{count} strips must arrive in {timeout_s:g} s; got {self.count}"
                )
            self._take()

    def settle(self) -> None:
        """Take all strips that are under way."""
        while self._pipe.poll(_QUIET_S):
            self._take()

    def _take(self) -> None:
        self.last_s, num_bytes = self._pipe.recv()
        self.count += 1
        self.num_bytes += num_bytes

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()

    def __enter__(self) -> StripClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _listen(pipe: Connection) -> None:
    """Connect like a browser to an address, and send the time and size of each strip."""
    pipe.send("ready")
    asyncio.run(_receive(pipe.recv(), pipe))


async def _receive(address: str, pipe: Connection) -> None:
    camera = {
        "type": "ViewerCameraMessage",
        "wxyz": (1.0, 0.0, 0.0, 0.0),
        "position": (-17.0, 0.0, 11.0),
        "look_at": (9.0, 0.0, 0.0),
        "up_direction": (0.0, 0.0, 1.0),
        "fov": 1.0,
        "near": 0.01,
        "far": 1000.0,
        "image_height": 540,
        "image_width": 960,
    }
    protocol = Subprotocol(f"viser-v{viser.__version__}")
    url = address.replace("http", "ws", 1)
    unpack = zstandard.ZstdDecompressor()
    async with connect(url, subprotocols=[protocol], max_size=None, compression=None) as socket:
        await socket.send(msgspec.msgpack.encode(camera))
        async for data in socket:
            assert isinstance(data, bytes)
            size, packed = (int.from_bytes(data[at : at + 8], "little") for at in (0, 8))
            text = unpack.decompress(data[16 : 16 + packed], max_output_size=size)
            for _ in range(text.count(_STRIP)):
                pipe.send((time.perf_counter(), len(data)))
