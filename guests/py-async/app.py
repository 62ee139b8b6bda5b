"""A program for WASI 0.3: several waits at once, and files, directories and standard streams as streams."""

import asyncio

import componentize_py_async_support as support
import wit_world
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import environment, exit, monotonic_clock, preopens, stdin, stdout, system_clock
from wit_world.imports.wasi_filesystem_types import DescriptorFlags, OpenFlags, PathFlags

PIECE = 65536


class Run(exports.Run):
    async def run(self):
        command, *words = environment.get_arguments()[1:] or ["hello"]
        await getattr(self, command)(*words)

    async def say(self, text):
        """Write to standard output through a stream of this program."""
        writer, reader = wit_world.byte_stream()
        end = stdout.write_via_stream(reader)
        with writer:
            await writer.write_all(text.encode())
        result = await end.read()
        if isinstance(result, Err):
            raise SystemExit(4)

    async def hello(self):
        await self.say(f"hello {dict(environment.get_environment()).get('NAME', 'nobody')}\n")

    async def echo(self):
        """Pass standard input on to standard output, without reading it."""
        data, _ = stdin.read_via_stream()
        await stdout.write_via_stream(data).read()

    async def upper(self):
        data, end = stdin.read_via_stream()
        with data:
            while not data.writer_dropped:
                await self.say((await data.read(PIECE)).decode().upper())
        await end.read()

    async def sleep(self, count, milliseconds):
        """Sleep ``count`` times at once; print how many of these times passed on the clock of this program."""
        begin, pause = monotonic_clock.now(), int(milliseconds) * 1_000_000
        await asyncio.gather(*(monotonic_clock.wait_for(pause) for _ in range(int(count))))
        await self.say(f"{(monotonic_clock.now() - begin) // pause} {system_clock.now().seconds}\n")

    async def ls(self, path):
        root = preopens.get_directories()[0][0]
        folder = await root.open_at(PathFlags(0), path, OpenFlags.DIRECTORY, DescriptorFlags.READ)
        entries, end = folder.read_directory()
        with entries:
            while not entries.writer_dropped:
                for entry in await entries.read(10):
                    await self.say(f"{entry.name} {type(entry.type).__name__.partition('_')[2]}\n")
        await end.read()

    async def copy(self, source, target):
        """Copy a file by its stream, and print how the writing ended."""
        root = preopens.get_directories()[0][0]
        try:
            origin = await root.open_at(PathFlags(0), source, OpenFlags(0), DescriptorFlags.READ)
            new = await root.open_at(PathFlags(0), target, OpenFlags.CREATE, DescriptorFlags.WRITE)
        except Err as error:
            await self.say(f"{type(error.value).__name__}\n")
            return
        data, _ = origin.read_via_stream(0)
        await self.say(f"{await new.write_via_stream(data, 0).read()}\n")

    async def pieces(self, source):
        """Read a file in pieces, append them to another, and print the number of bytes."""
        root = preopens.get_directories()[0][0]
        origin = await root.open_at(PathFlags(0), source, OpenFlags(0), DescriptorFlags.READ)
        new = await root.open_at(PathFlags(0), source + ".new", OpenFlags.CREATE, DescriptorFlags.WRITE)
        data, end = origin.read_via_stream(0)
        writer, reader = wit_world.byte_stream()
        written, total = new.append_via_stream(reader), 0
        with data, writer:
            while not data.writer_dropped:
                piece = await data.read(1 << 20)
                total += len(piece)
                await writer.write_all(piece)
        await end.read()
        await written.read()
        await self.say(f"{total}\n")

    async def store(self, target):
        """Wait for the disk, and write to standard output meanwhile."""
        root = preopens.get_directories()[0][0]
        new = await root.open_at(PathFlags(0), target, OpenFlags.CREATE, DescriptorFlags.WRITE)
        await asyncio.gather(new.sync(), new.sync_data(), root.sync(), self.say("meanwhile\n"))
        await self.say("stored\n")

    async def leave(self, code):
        exit.exit_with_code(int(code))

    async def fail(self):
        raise Err(None)

    async def wait(self):
        """Wait for a byte that nothing ever writes."""
        writer, reader = wit_world.byte_stream()
        await reader.read(1)
        writer.__exit__(None, None, None)


assert support
