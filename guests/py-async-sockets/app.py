"""Network programs for WASI 0.3 in one: TCP clients and a server that wait together, UDP, and name lookup."""

import asyncio
import encodings.idna  # noqa: F401 - only what is imported when this is built exists when it runs
import socket

import componentize_py_async_support as support
import wit_world
from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import environment, ip_name_lookup, stdout
from wit_world.imports.wasi_sockets_types import (
    IpAddressFamily,
    IpSocketAddress_Ipv4,
    Ipv4SocketAddress,
    TcpSocket,
    UdpSocket,
)

PIECE = 65536


def at(host, port):
    return IpSocketAddress_Ipv4(Ipv4SocketAddress(int(port), tuple(map(int, host.split(".")))))


def named(error):
    return type(error.value).__name__.partition("_")[2]


async def read_all(made):
    """Return all bytes that the peer of a socket sends."""
    data, end = made.receive()
    pieces = []
    with data:
        while not data.writer_dropped:
            pieces.append(await data.read(PIECE))
    result = await end.read()
    if isinstance(result, Err):
        raise result
    return b"".join(pieces)


async def send_all(made, text):
    """Send bytes, and shut the direction down after them."""
    writer, reader = wit_world.byte_stream()
    end = made.send(reader)
    with writer:
        for n in range(0, len(text), PIECE):
            await writer.write_all(text[n : n + PIECE])
    result = await end.read()
    if isinstance(result, Err):
        raise result


async def exchange(host, port, text):
    """Send bytes on a connection; return the answer."""
    with TcpSocket.create(IpAddressFamily.IPV4) as made:
        await made.connect(at(host, port))
        _, answer = await asyncio.gather(send_all(made, text), read_all(made))
        return answer


async def answer_in_capitals(made):
    with made:
        await send_all(made, (await read_all(made)).upper())


async def echo(made):
    """Pass the bytes from the peer back to it, without reading them."""
    with made:
        data, _ = made.receive()
        await made.send(data).read()


class Run(exports.Run):
    async def run(self):
        command, *words = environment.get_arguments()[1:]
        try:
            await getattr(self, command)(*words)
        except Err as error:
            await self.say(f"refused: {named(error)}\n")
        except OSError as error:
            await self.say(f"refused: {error}\n")

    async def say(self, text):
        writer, reader = wit_world.byte_stream()
        end = stdout.write_via_stream(reader)
        with writer:
            await writer.write_all(text.encode())
        await end.read()

    async def client(self, host, port, text):
        await self.say(f"got {await exchange(host, port, text.encode())}\n")

    async def clients(self, host, port, count):
        """Connect often at once; print how many answers were right."""
        texts = [f"text {n}".encode() for n in range(int(count))]
        answers = await asyncio.gather(*(exchange(host, port, text) for text in texts))
        await self.say(f"{sum(map(bytes.__eq__, texts, answers))} right\n")

    async def server(self, port, count):
        """Answer ``count`` connections in capitals, all at once."""
        with TcpSocket.create(IpAddressFamily.IPV4) as made:
            made.bind(at("127.0.0.1", port))
            with made.listen() as connections:
                await self.say(f"listening at {made.get_local_address().value.port}\n")
                tasks = []
                while len(tasks) < int(count):
                    tasks += [asyncio.ensure_future(answer_in_capitals(one)) for one in await connections.read(10)]
                await asyncio.gather(*tasks)
        await self.say("served\n")

    async def both(self, count):
        """Be the server and all its clients at once, over loopback."""
        with TcpSocket.create(IpAddressFamily.IPV4) as made:
            made.bind(at("127.0.0.1", 0))
            with made.listen() as connections:
                port = made.get_local_address().value.port
                clients = [asyncio.ensure_future(exchange("127.0.0.1", port, b"%d" % n)) for n in range(int(count))]
                served = []
                while len(served) < int(count):
                    served += [asyncio.ensure_future(echo(one)) for one in await connections.read(10)]
                answers = await asyncio.gather(*clients)
                await asyncio.gather(*served)
        await self.say(f"{sum(answer == b'%d' % n for n, answer in enumerate(answers))} right\n")

    async def bulk(self, host, port, size):
        """Send many bytes and read them back meanwhile."""
        data = bytes(range(256)) * (int(size) // 256)
        await self.say(f"intact {await exchange(host, port, data) == data}\n")

    async def datagram(self, host, port):
        with UdpSocket.create(IpAddressFamily.IPV4) as made:
            await made.send(b"ping", at(host, port))
            data, sender = await made.receive()
            await self.say(f"got {data} from {sender.value.port}\n")

    async def lookup(self, *names):
        found = await asyncio.gather(*map(ip_name_lookup.resolve_addresses, names))
        await self.say(f"{[[address.value for address in addresses] for addresses in found]}\n")

    async def mixed(self, host, port):
        """Use the sockets of WASI 0.2, by Python's own library, and those of 0.3 at the same time."""
        with socket.create_connection((host, int(port))) as older:
            older.sendall(b"older")
            newer = await exchange(host, port, b"newer")
            await self.say(f"got {older.recv(100)} and {newer}\n")


assert support
assert Ok
