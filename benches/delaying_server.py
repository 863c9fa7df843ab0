"""Serves the files of a directory by HTTP/1.1, each answer a while after its request, as a server far away would.

    python3 delaying_server.py DIRECTORY MILLISECONDS

Prints its port, and serves until its standard input ends.
"""
import asyncio
import os
import sys
import threading

root, delay = sys.argv[1], float(sys.argv[2]) / 1000


async def answer(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            if delay:
                await asyncio.sleep(delay)
            try:
                file = open(os.path.join(root, path.lstrip("/")), "rb")
            except OSError:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            with file:
                length = os.fstat(file.fileno()).st_size
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())
                if method == "GET" and length < 1 << 16:
                    writer.write(file.read())
                elif method == "GET":
                    await writer.drain()
                    await asyncio.get_running_loop().sendfile(writer.transport, file)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def serve():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
asyncio.run(serve())
