"""Every function of every interface of the host exists under the name by which a guest's call looks it up."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import pytest

from aegis.bindings.index import INDEX
from aegis.host.preview2.http_fields import fields_class
from aegis.host.preview3.http_fields import message_fields_class
from aegis.wit.index import GUEST, Provided
from aegis.wit.naming import pascal, snake
from aegis.wit.types import Interface

NEVER_MADE = {"incoming-request"}  # for a server's caller, which does not exist here
CALLED_OTHERWISE = {
    "bucket": "BucketResource", "error": "IoError", "wasi:filesystem/types@0.3.0 descriptor": "StreamingDescriptor",
    "wasi:sockets/types@0.3.0 tcp-socket": "AsyncTcpSocket", "wasi:sockets/types@0.3.0 udp-socket": "AsyncUdpSocket",
    "wasi:http/types@0.3.0 fields": "MessageFields", "wasi:http/types@0.3.0 request": "StreamingRequest",
    "wasi:http/types@0.3.0 response": "StreamingResponse", "wasi:http/types@0.3.0 request-options": "RequestTimeouts",
}  # fmt: skip


def classes(package: str) -> dict[str, type]:
    found = {}
    for item in pkgutil.iter_modules(import_module(package).__path__):
        module = import_module(f"{package}.{item.name}")
        made = inspect.getmembers(module, inspect.isclass)
        found |= {name: cls for name, cls in made if cls.__module__ == module.__name__}
    made_anew = {"Fields": fields_class, "MessageFields": message_fields_class}  # for each sandbox
    return found | {name: function(None) for name, function in made_anew.items()}  # type: ignore[operator]


@pytest.mark.parametrize("row", [row for row in INDEX.rows if row.place != GUEST], ids=lambda row: row.name)
def test_a_method_of_wasi_has_the_name_that_it_is_called_by(row: Provided) -> None:
    known = classes(row.implementation.rpartition(".")[0])
    table: Interface = import_module(row.bindings).INTERFACE
    for function in table.functions:
        kind, _, rest = function.partition("]")
        resource, _, own = rest.partition(".")
        if kind in ("[method", "[static") and resource not in NEVER_MADE:
            other = CALLED_OTHERWISE.get(resource, pascal(resource))
            cls = known[CALLED_OTHERWISE.get(f"{row.name} {resource}", other)]
            if kind == "[static" and row.name == "wasi:sockets/types@0.3.0":
                cls = known["_SocketClass"]  # creates the sockets of one sandbox
            assert callable(getattr(cls, snake(own), None)), f"{row.name}: {cls.__name__} lacks {snake(own)}"
