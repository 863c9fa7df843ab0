"""What the benchmarks beside real Nix have in common: derivations, stores to begin with, build users, tables.

They need root, real Nix and busybox-static, and work in a mount namespace of their own, so that the build users that are
added to /etc/passwd and /etc/group are gone when they end.
"""
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

GROUP = "kilnbench"
USERS = 8
# Of this run alone: real Nix ends all that a build user of its runs, whoever has started it.
FIRST_ID = 61000 + os.getpid() % 400 * 10

TRIVIAL = 'derivation {{ name = "{name}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "{script}" ]; {more} }}'
# What the builder says last is when it ended, by the clock of `now`, in hundredths of a second. One that has failed has not.
END = "{ read now rest < /proc/uptime && echo builder-ended $now >&2; }"


def now():
    """The machine's clock, as builders see it: seconds since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def after_end(text, ended):
    """The seconds between the last builder's end, as it said in `text`, and `ended`."""
    return ended - float(re.findall(r"builder-ended ([0-9.]+)", text)[-1])


def wide(count=300):
    return "[ " + " ".join(
        "(" + TRIVIAL.format(name=f"wide-{n}", script=f"echo {n} > $out", more="") + ")" for n in range(count)
    ) + " ]"


def chain(count=100):
    bindings = []
    for n in range(count):
        below = f"below = d{n - 1};" if n else ""
        bindings.append(f"d{n} = " + TRIVIAL.format(name=f"chain-{n}", script=f"echo {n} > $out", more=below) + ";")
    return "let " + " ".join(bindings) + f" in [ d{count - 1} ]"


def slow_chain(count):
    """Builds that take 0.1 s and say when they begin."""
    script = 'read now rest < /proc/uptime; echo small-began $now >&2; /bin/busybox sleep 0.1; echo {n} > $out'
    bindings = []
    for n in range(count):
        below = f"below = d{n - 1};" if n else ""
        bindings.append(f"d{n} = " + TRIVIAL.format(name=f"small-{n}", script=script.format(n=n), more=below) + ";")
    return "let " + " ".join(bindings) + f" in d{count - 1}"


def began(text):
    """When the builds of a `slow_chain` began, as they said in `text`."""
    return [float(moment) for moment in re.findall(r"small-began ([0-9.]+)", text)]


def files(count=50_000):
    script = (
        "/bin/busybox mkdir $out && cd $out && /bin/busybox awk 'BEGIN { x = sprintf(\\\"%190s\\\", \\\"x\\\"); "
        f"for (i = 0; i < {count}; i++) {{ f = \\\"f\\\" i; print x i > f; close(f) }} }}' && " + END
    )
    return "[ (" + TRIVIAL.format(name="files", script=script, more="") + ") ]"


def large(mebibytes=1024):
    script = f"/bin/busybox dd if=/dev/urandom of=$out bs=1M count={mebibytes} 2>/dev/null && " + END
    return "[ (" + TRIVIAL.format(name="large", script=script, more="") + ") ]"


def huge():
    return large(4096)


def references(count=200, mebibytes=300):
    inputs = " ".join(
        "(" + TRIVIAL.format(name=f"input-{n}", script=f"echo {n} > $out", more="") + ")" for n in range(count)
    )
    script = f"/bin/busybox dd if=/dev/urandom of=$out bs=1M count={mebibytes} 2>/dev/null && echo $inputs >> $out && " + END
    return "[ (" + TRIVIAL.format(name="references", script=script, more=f"inputs = [ {inputs} ];") + ") ]"


def private_users(root):
    """In a mount namespace of our own: /etc/passwd and /etc/group with build users."""
    for name, lines in {
        "passwd": [f"{GROUP}{n}:x:{FIRST_ID + n}:{FIRST_ID}:build user:/var/empty:/usr/sbin/nologin" for n in range(1, USERS + 1)],
        "group": [f"{GROUP}:x:{FIRST_ID}:" + ",".join(f"{GROUP}{n}" for n in range(1, USERS + 1))],
    }.items():
        copy = os.path.join(root, name)
        with open(f"/etc/{name}") as old, open(copy, "w") as new:
            new.write(old.read().rstrip("\n") + "\n" + "\n".join(lines) + "\n")
        subprocess.run(["mount", "--bind", copy, f"/etc/{name}"], check=True)


class Bench:
    def __init__(self, root, kiln):
        self.root, self.kiln, self.cleared, self.kept = root, kiln, 0, 0
        busybox = shutil.which("busybox")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.path.join(root, "home"),
            "NIX_REMOTE": "",
            "NIX_STORE_DIR": os.path.join(root, "store"),
            "NIX_STATE_DIR": os.path.join(root, "state"),
            "NIX_LOG_DIR": os.path.join(root, "log"),
            "NIX_CONF_DIR": os.path.join(root, "etc"),
            "NIX_USER_CONF_FILES": "",
        }
        os.makedirs(os.path.join(root, "etc"))
        with open(os.path.join(root, "etc/nix.conf"), "w") as conf:
            conf.write(
                f"build-users-group = {GROUP}\nsandbox = true\nsubstitute = false\nsubstituters =\nmax-jobs = 2\ncores = 1\n"
                f"sandbox-paths = /bin/sh={busybox} /bin/busybox={busybox}\n"
            )

    def run(self, command):
        return subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def instantiate(self, expression):
        """Adds the derivations of the expression to an empty store, kept aside as the start of every run."""
        self.clear()
        made = self.add(expression)
        self.keep()
        return made

    def add(self, expression):
        """Adds the derivations of the expression to the store."""
        path = os.path.join(self.root, "expression.nix")
        with open(path, "w") as file:
            file.write(expression)
        made = self.run(["nix-instantiate", path])
        if made.returncode != 0:
            sys.exit(made.stderr)
        return made.stdout.split()

    def keep(self):
        """Keeps the store as it is aside, as the start of every run."""
        pristine = os.path.join(self.root, "pristine")
        if os.path.exists(pristine):
            self.kept += 1
            os.rename(pristine, f"{pristine}-{self.kept}")
        os.mkdir(pristine)
        for name in ("store", "state"):
            subprocess.run(["cp", "-a", os.path.join(self.root, name), pristine], check=True)

    def clear(self):
        """Moves what an earlier run has left aside. It is deleted in the end only: file systems without a journal search past
        every inode that was deleted a moment ago, which would disturb the run to come."""
        self.cleared += 1
        for name in ("store", "state", "log"):
            path = os.path.join(self.root, name)
            if os.path.exists(path):
                os.rename(path, os.path.join(self.root, f"{name}-{self.cleared}"))

    def restore(self):
        self.clear()
        for name in ("store", "state"):
            subprocess.run(["cp", "-a", os.path.join(self.root, "pristine", name), self.root], check=True)
        subprocess.run(["sync"], check=True)


def main(parser, measure):
    """Reads the command line, and calls `measure` with a Bench and the arguments."""
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["nix", "kiln"], help="measure one of the two; the figures of the other are nan")
    parser.add_argument("--kiln", default=os.path.join(os.path.dirname(__file__), "../target/release/kiln"))
    parser.add_argument("--place", default="/var/tmp", metavar="DIRECTORY", help="where the stores are made (%(default)s)")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit(f"{parser.prog} needs root: build users and the sandbox of real Nix do")
    if "KILN_BENCH_NAMESPACE" not in os.environ:
        os.environ["KILN_BENCH_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    # By default outside of /tmp, which may be a tmpfs, and short, since Nix's socket lives below it.
    with tempfile.TemporaryDirectory(prefix="kiln-bench-", dir=arguments.place) as root:
        os.chmod(root, 0o755)
        private_users(root)
        measure(Bench(root, os.path.abspath(arguments.kiln)), arguments)


def alternate(arguments, measure):
    """Measures both programs `--runs` times, in turn; the medians of each figure of each."""
    figures = {program: [] for program in ("nix", "kiln") if arguments.only in (None, program)}
    for _ in range(arguments.runs):
        for program, results in figures.items():
            results.append(measure(program))
    medians = {program: [statistics.median(column) for column in zip(*results)] for program, results in figures.items()}
    unknown = [math.nan] * len(next(iter(medians.values())))
    return {"nix": unknown, "kiln": unknown} | medians
