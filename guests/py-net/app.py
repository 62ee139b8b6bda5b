"""Network programs in one: a TCP client and server, UDP, and a page fetched with urllib."""

import encodings.idna  # noqa: F401 - only what is imported when this is built exists when it runs
import hashlib
import socket
import sys
import urllib.request

from wit_world import exports


def client(host, port):
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"ping")
        print("got", connection.recv(100))


def bulk(host, port, size):
    sent, received = hashlib.sha256(), hashlib.sha256()
    block = bytes(range(256)) * 256
    with socket.create_connection((host, port)) as connection:
        for _ in range(size // len(block)):
            connection.sendall(block)
            sent.update(block)
            left = len(block)
            while left:
                data = connection.recv(left)
                if not data:
                    raise OSError("the other side ended early")
                received.update(data)
                left -= len(data)
    print("intact", sent.digest() == received.digest())


def server(host, port):
    with socket.socket() as listening:
        listening.bind((host, port))
        listening.listen()
        print("listening at", listening.getsockname()[1], flush=True)
        connection, _ = listening.accept()
        with connection:
            connection.sendall(connection.recv(100).upper())
    print("served")


def datagram(host, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"ping", (host, port))
        print("got", sender.recvfrom(100)[0])


def fetch(host, port):
    with urllib.request.urlopen(f"http://{host}:{port}/page") as page:
        print(page.status, page.read().decode())


COMMANDS = {"client": client, "bulk": bulk, "server": server, "datagram": datagram, "fetch": fetch}


class Run(exports.Run):
    def run(self):
        name, host, *numbers = sys.argv[1:]
        try:
            COMMANDS[name](host, *map(int, numbers))
        except OSError as error:
            print("refused:", error)
