#!/usr/bin/python3
"""A build hook for tests: build-hook.py STORE-ROOT SCRATCH MODE... VERBOSITY

Writes what it is told to SCRATCH/told, one JSON value a line, and does what MODE says. What it builds it registers in the
store below STORE-ROOT itself: each missing output is a file that holds its inputs' and its own name.
"""

import base64
import glob
import hashlib
import json
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import time

root, scratch, mode = sys.argv[1:4]
arguments = sys.argv[4:-1]


def tell(kind, **what):
    with open(f"{scratch}/told", "a") as file:
        file.write(json.dumps({"kind": kind, "pid": os.getpid(), **what}) + "\n")


def read(length):
    data = b""
    while len(data) < length:
        more = os.read(0, length - len(data))
        if not more:
            tell("end")
            sys.exit(0)
        data += more
    return data


def number():
    return struct.unpack("<Q", read(8))[0]


def string():
    length = number()
    return read((length + 7) // 8 * 8)[:length].decode()


def strings():
    return [string() for _ in range(number())]


def say(text):
    data = text if isinstance(text, bytes) else text.encode()
    while data:
        data = data[os.write(2, data):]


def record(**what):
    say("@nix " + json.dumps(what) + "\n")


def wait_for(name):
    while not os.path.exists(f"{scratch}/{name}"):
        time.sleep(0.01)


def nar(contents):
    parts = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", contents, b")"]
    pad = lambda part: part + b"\0" * (-len(part) % 8)
    return b"".join(struct.pack("<Q", len(part)) + pad(part) for part in parts)


def register(derivation, inputs, outputs):
    text = open(root + derivation).read()
    database = sqlite3.connect(f"{root}/nix/var/nix/db/db.sqlite", timeout=60)
    for output in outputs:
        path = re.search(r'\("%s","(/nix/store/[^"]+)"' % output, text).group(1)
        contents = "".join(f"{line}\n" for line in inputs + [output]).encode()
        with open(root + path, "wb") as file:
            file.write(contents)
        os.chmod(root + path, 0o444)
        os.utime(root + path, (1, 1))
        archive = nar(contents)
        row = (path, "sha256:" + hashlib.sha256(archive).hexdigest(), 1, derivation, len(archive))
        database.execute(
            "insert into ValidPaths (path, hash, registrationTime, deriver, narSize) values (?, ?, ?, ?, ?)", row
        )
        referrer = "(select id from ValidPaths where path = ?)"
        for reference in inputs:
            database.execute(f"insert into Refs values ({referrer}, {referrer})", (path, reference))
    database.commit()
    database.close()


def accept(derivation):
    say("# accept\nssh://machine\n")
    inputs, outputs = strings(), strings()
    tell("work", derivation=derivation, inputs=inputs, outputs=outputs)
    if os.read(0, 1):
        tell("surplus")
    return inputs, outputs


def build(derivation):
    inputs, outputs = accept(derivation)
    os.write(4, b"raw line\nraw end")
    # As a machine tells that is reached by a protocol with activities.
    record(action="start", id=7, level=3, type=104, text="")
    record(action="start", id=1, level=3, type=105, text=f"building '{derivation}'", fields=[derivation, "", 1, 1])
    record(action="result", id=1, type=101, fields=["told line"])
    record(action="result", id=1, type=104, fields=["checkPhase"])
    record(action="result", id=7, type=105, fields=[900, 900, 0, 0])
    record(action="msg", level=1, msg="a message of the hook")
    say("no record\n")
    record(action="stop", id=1)
    register(derivation, inputs, outputs)
    sys.exit(0)


def spawn_child():
    """Something that lives on, with all descriptors of the hook."""
    child = subprocess.Popen(["/bin/sh", "-c", f"sleep 1000 # {scratch}"], close_fds=False)
    tell("child", child=child.pid)


descriptors = {}
for name in glob.glob("/proc/self/fd/*"):
    try:
        descriptors[int(os.path.basename(name))] = os.readlink(name).split(":")[0]
    except FileNotFoundError:
        pass
tell(
    "start",
    arguments=sys.argv[3:],
    descriptors=sorted(descriptors),
    directory=os.getcwd(),
    leads=os.getpgid(0) == os.getpid(),
    home=os.environ.get("HOME"),
)
if mode == "die-at-once":
    say("cannot go on\n")
    sys.exit(9)
settings = {}
while number() == 1:
    name = string()
    settings[name] = string()
tell("settings", settings=settings)
if mode == "die-before-question":
    sys.exit(9)

postponed = 0
while True:
    word = string()
    assert word == "try", word
    willing, system, derivation, features = number(), string(), string(), strings()
    name = derivation.split("-", 1)[1]
    tell("try", willing=willing, system=system, name=name, features=features)
    if mode == "decline":
        record(action="msg", level=1, msg=f"no machine for {name}")
        say("# decline\n")
    elif mode == "decline-permanently":
        say("# decline-permanently\n")
        sys.exit(0)
    elif mode == "accept":
        build(derivation)
    elif mode == "accept-one":
        # One machine, with room for one build, which waits until it is let go.
        try:
            os.close(os.open(f"{scratch}/machine", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            tell("postponed", name=name)
            say("# postpone\n")
            continue
        inputs, outputs = accept(derivation)
        wait_for("go")
        register(derivation, inputs, outputs)
        os.unlink(f"{scratch}/machine")
        sys.exit(0)
    elif mode == "postpone-twice":
        postponed += 1
        if postponed > 2:
            build(derivation)
        tell("postponed", name=name)
        say("# postpone\n")
    elif mode == "die-when-asked":
        say("lost my way\n\x1b]0;title\x07\n")
        sys.exit(9)
    elif mode == "die-killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "die-without-machine":
        say("# accept\n")
        sys.exit(9)
    elif mode == "close":
        os.close(1), os.close(2)
        time.sleep(1000)
    elif mode == "say":
        say(base64.b64decode(arguments[0]))
        time.sleep(1000)
    elif mode == "endless-line":
        while True:
            say(b"x" * 65536)
    elif mode == "die-before-work":
        say("# accept\nssh://machine\n")
        sys.exit(9)
    elif mode == "exit":
        inputs, outputs = accept(derivation)
        os.write(4, b"the last line\n")
        sys.exit(int(arguments[0]))
    elif mode == "half-made":
        # Leaves something at the place of an output, and dies.
        inputs, outputs = accept(derivation)
        path = re.search(r'\("out","(/nix/store/[^"]+)"', open(root + derivation).read()).group(1)
        os.mkdir(root + path)
        tell("half-made", path=path)
        if arguments == ["hang"]:
            spawn_child()
            open(f"{scratch}/hangs", "w").close()
            time.sleep(1000)
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "leave-child":
        inputs, outputs = accept(derivation)
        register(derivation, inputs, outputs)
        spawn_child()
        sys.exit(0)
    elif mode == "close-and-stay":
        inputs, outputs = accept(derivation)
        for descriptor in (1, 2, 4, 5):
            os.close(descriptor)
        time.sleep(1000)
    elif mode == "loud":
        inputs, outputs = accept(derivation)
        while True:
            if arguments == ["records"]:
                record(action="result", id=1, type=101, fields=["x" * 1000])
            else:
                os.write(4, b"x" * 1000 + b"\n")
