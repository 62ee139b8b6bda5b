"""Code of an embedder that both type checkers must accept: the library with explicit keywords, and its results."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from aegis import Aegis, Err, FilesystemCapability, NetworkCapability, Policy, Sandbox


def runtimes() -> list[Aegis]:
    network = NetworkCapability(allow=["https://api.example.com", "tcp://10.0.0.0/8:5432"], deny=["metadata"])
    return [
        Aegis(memory="64MiB", timeout=timedelta(seconds=2), fuel=None, network=network),
        Aegis(Policy.from_keywords(network=network), max_concurrent_calls=8),
        Aegis(filesystem=FilesystemCapability.read_only(["/data", "/more"]), isolation="strict"),
        Aegis(limits=Policy().limits.with_(memory=1 << 20), imports={"acme:kv/store": "shop:Store"}),
        Aegis.builder().with_memory_limit("32MiB").with_network(network).with_max_concurrent_calls(4).build(),
        Aegis.from_config("aegis.toml", cache=False, max_concurrent_calls=2),
    ]


async def serve(runtime: Aegis) -> bytes:
    plugin = runtime.load_file("plugin.wasm")
    async with asyncio.timeout(1), runtime.asandbox(plugin, args=["plugin"]) as sandbox:
        await sandbox.acall("transform", {"name": "tea"})
        await sandbox.areset()
    kept: Sandbox = await runtime.asandbox(plugin, isolate=True)
    async with kept:
        try:
            await kept.acall("check", "x")
        except Err as error:
            print(error.value)
    await kept.aclose()
    return kept.stdout
