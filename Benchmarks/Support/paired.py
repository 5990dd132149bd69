"""Paired, alternating runs of programs that do the same work, and the ratios of their times."""

import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

LIMIT = 1800  # seconds that one run may take


@dataclass
class Contestant:
    """A program, what to do before and after each run, and what was measured."""

    name: str
    command: list
    before: object = None
    after: object = None
    size: object = None  # gives the bytes that a run has written, asked before `after`
    seconds: list = field(default_factory=list)
    cpu: list = field(default_factory=list)
    peak: int = 0  # kB, of the largest single process
    bytes: int = 0


def fail(message):
    sys.exit("%s: %s" % (os.path.basename(sys.argv[0]), message))


def require(programs):
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        fail("not installed: %s. Scripts/install-prerequisites bench installs them" % " ".join(missing))


def end_on_signals():
    """SIGTERM and SIGHUP end the script as Ctrl-C does: through every `finally`."""

    def end(number, frame):
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def run(command, user=None, environment=None, cwd=None, stdout=subprocess.DEVNULL):
    """Runs a program and returns seconds, CPU seconds and the peak of resident memory in kB. A failure ends the script."""
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, cwd=cwd, env=environment,
        user=user, group=user, extra_groups=[] if user else None, start_new_session=True)
    said = []
    reader = threading.Thread(target=lambda: said.append(process.stderr.read()), daemon=True)
    reader.start()
    late = threading.Timer(LIMIT, lambda: os.killpg(process.pid, signal.SIGKILL))
    late.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        elapsed = time.monotonic() - started
    finally:
        late.cancel()
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    reader.join(10)
    if process.returncode != 0:
        text = b"".join(said).decode(errors="replace").strip()
        fail("'%s' ended with status %d: %s" % (shlex.join(command), process.returncode, text[-2000:]))
    peak = usage.ru_maxrss // 1024 if sys.platform == "darwin" else usage.ru_maxrss
    return elapsed, usage.ru_utime + usage.ru_stime, peak


def set_aside(path):
    """Gives a folder's name free for a run. What was written there before stays until the end, on the disk and out of memory: to
    make files where others were just removed is slow on ext4, and slower for whoever comes second."""
    if not os.path.exists(path):
        return
    for folder, _, names in os.walk(path):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)
    number = 1
    while os.path.exists("%s-%d" % (path, number)):
        number += 1
    os.rename(path, "%s-%d" % (path, number))


def compare(contestants, pairs, user=None, environment=None, warm=True):
    """Runs the contestants in turn, `pairs` times: A B A B. Disks are synced between runs, so none pays for another."""
    for round in range(-1 if warm else 0, pairs):
        for one in contestants:
            if one.before:
                one.before()
            os.sync()
            seconds, cpu, peak = run(one.command, user, environment)
            if one.size:
                one.bytes = one.size()
            if one.after:
                one.after()
            if round >= 0:
                one.seconds.append(seconds)
                one.cpu.append(cpu)
                one.peak = max(one.peak, peak)
                print(".", end="", file=sys.stderr, flush=True)
    print("", file=sys.stderr)


def ratios(ours, theirs):
    """How many times as fast ours was, pair by pair: median, least, most."""
    each = sorted(their / our for our, their in zip(ours.seconds, theirs.seconds))
    return statistics.median(each), each[0], each[-1]


def report(title, ours, others, raw_bytes):
    """Prints a table of one comparison."""
    print("\n## %s" % title)
    print("%-22s %8s %8s %8s %9s %11s  %s" % ("", "s", "MB/s", "cpu s", "peak MB", "bytes", "ours is so many times as fast"))
    for one in [ours] + others:
        median = statistics.median(one.seconds)
        size = "%d" % one.bytes if one.bytes else ""
        ratio = "" if one is ours else "%.2f (%.2f to %.2f)" % ratios(ours, one)
        if one is not ours and one.bytes and ours.bytes:
            ratio += ", size %.3f of theirs" % (ours.bytes / one.bytes)
        print("%-22s %8.2f %8.0f %8.2f %9.0f %11s  %s" % (
            one.name, median, raw_bytes / 1e6 / median, statistics.median(one.cpu), one.peak / 1024, size, ratio))
    for one in [ours] + others:
        print("    %s" % shlex.join(one.command))
    sys.stdout.flush()


def tree_size(folder):
    """The bytes of all files under a folder."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)
