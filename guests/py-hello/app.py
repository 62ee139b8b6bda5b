"""A program in Python: arguments, environment, files, standard input, clocks and randomness."""

import os
import sys
import time

from wit_world import exports


class Run(exports.Run):
    def run(self):
        print("hello", *sys.argv[1:], os.environ.get("NAME", "nobody"))
        if sys.argv[1:2] == ["cat"]:
            self.cat(sys.argv[2:])
        if sys.argv[1:2] == ["write"]:
            with open(sys.argv[2], "w") as file:
                file.write("written\n")
        if sys.argv[1:2] == ["stdin"]:
            print(sys.stdin.read().upper(), end="")
        if sys.argv[1:2] == ["clock"]:
            print(time.time() < 10, len(os.urandom(8)))
        if sys.argv[1:2] == ["loop"]:
            print(self.loop(int(sys.argv[2])))
        if sys.argv[1:2] == ["fail"]:
            raise SystemExit(3)

    def loop(self, turns):
        total = 0
        for number in range(turns):
            total = (total * 31 + number) & 0xFFFFFF
        return total

    def cat(self, names):
        for name in names:
            try:
                with open(name) as file:
                    print(file.read(), end="")
            except OSError as error:
                print(f"{name}: {error.strerror}")
