"""A slow link: `python -m tests.lab.delay HOST PORT ONE_WAY_MS` prints its own port."""

from __future__ import annotations

import asyncio
import sys

_CHUNK_BYTES = 1 << 16


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float
) -> None:
    """Pass bytes on, each some time after it came, however many are on the way."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(256)

    async def deliver() -> None:
        while True:
            due_s, chunk = await under_way.get()
            await asyncio.sleep(due_s - loop.time())
            if not chunk:
                return writer.close()
            writer.write(chunk)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    try:
        while True:
            chunk = await reader.read(_CHUNK_BYTES)
            await under_way.put((loop.time() + delay_s, chunk))
            if not chunk:
                break
        await delivery
    except OSError:
        delivery.cancel()
        writer.close()


async def serve(host: str, port: int, delay_s: float) -> None:
    """Pass on connections until the process is ended."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(
            _carry(reader, far_writer, delay_s), _carry(far_reader, writer, delay_s)
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
