"""What the scenario programs of the Python clients share: names, waiting, and the lines that the suite reads.

A scenario is a function that takes the bootstrap address and raises when the broker is wrong. Its name, with dashes for
underscores, is a row of SCENARIOS.md. The program prints one line per scenario, `ok NAME` or `FAIL NAME: why`.
"""

import os
import sys
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# Scenarios mostly wait for rebalances, so a few run at once; more would only crowd a small machine.
AT_ONCE = 4

_scenarios = {}


def scenario(function):
    """Registers a function as the scenario of its name."""
    _scenarios[function.__name__.replace("_", "-")] = function
    return function


def one_for_all(make):
    """Calls `make` once for each argument, whichever scenario asks first."""
    made, lock = {}, threading.Lock()

    def get(argument):
        with lock:
            if argument not in made:
                made[argument] = make(argument)
            return made[argument]

    return get


def unique(name):
    """A topic or group name that no other run has used."""
    return f"{name}-{uuid.uuid4().hex[:8]}"


def equal(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def eventually(what, condition, limit=20.0):
    """Polls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + limit
    while True:
        result = condition()
        if result:
            return result
        check(time.monotonic() < deadline, f"not within {limit:.0f} s: {what}")
        time.sleep(0.05)


def refused(what, action, is_expected):
    """Runs `action`, which must raise an error that `is_expected` accepts."""
    try:
        result = action()
    except Exception as error:  # the clients' errors have no narrower common parent
        check(is_expected(error), f"{what}: refused with another error: {error!r}")
        return
    raise AssertionError(f"{what}: was not refused but gave {result!r}")


# Whom the secured node knows; SCENARIOS.md tells of it.
USER, PASSWORD, WRONG_PASSWORD = "alice", "alice-secret", "wrong-secret"


def listener(protocol):
    """The address of the secured node's listener."""
    return os.environ[f"HIGHWATER_TEST_{protocol}"]


def tls_file(name):
    """The path of a certificate, key or token."""
    return os.path.join(os.environ["HIGHWATER_TEST_TLS"], name)


def token(name="token"):
    with open(tls_file(name)) as file:
        return file.read()


def numbers(start, end, partitions=4):
    """Numbered records dealt out over partitions."""
    return [{"value": b"%d" % n, "partition": n % partitions} for n in range(start, end)]


def two_members(send, join, keeps=False):
    """One member owns all of four partitions, a second takes half, and the first gets that back; nothing is missed.

    `send(start, end)` produces numbered records; `join()` starts a member with `owned`, `revoked`, `values` and
    `leave()`. With `keeps`, a member must not be asked to give up what it keeps.
    """
    send(0, 100)
    first = join()
    eventually("the only member owns all", lambda: first.owned == {0, 1, 2, 3})
    eventually("the first 100 records", lambda: len(first.values) >= 100)
    second = join()
    eventually("two partitions each", lambda: len(first.owned) == len(second.owned) == 2)
    equal(first.owned | second.owned, {0, 1, 2, 3}, "all partitions are owned")
    send(100, 200)
    eventually("the second 100 records", lambda: len(set(first.values + second.values)) == 200)
    check(second.values, "the second member read nothing")
    if keeps:
        equal(first.revoked, second.owned, "what a cooperative member was asked to give up")
    second.leave()
    eventually("the first member owns all again", lambda: first.owned == {0, 1, 2, 3})
    send(200, 300)
    eventually("the third 100 records", lambda: len(set(first.values + second.values)) == 300)
    equal(set(first.values + second.values), {b"%d" % n for n in range(300)}, "values")
    first.leave()


def place(error):
    """The lines of the scenario program that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return " < ".join(str(f.lineno) for f in reversed(frames) if f.filename == sys.argv[0]) or "?"


def main(client):
    """usage: PROGRAM BOOTSTRAP [SCENARIO...]; `client` is the client's name and version"""
    print(f"client {client}", flush=True)
    bootstrap, wanted = sys.argv[1], sys.argv[2:] or list(_scenarios)
    failed = False
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = {pool.submit(_scenarios[name], bootstrap): name for name in wanted}
        for future in as_completed(running):
            error = future.exception()
            if error is None:
                print(f"ok {running[future]}", flush=True)
            else:
                failed = True
                why = " ".join(str(error).split())
                print(f"FAIL {running[future]}: {type(error).__name__} at {place(error)}: {why}", flush=True)
    sys.exit(1 if failed else 0)
