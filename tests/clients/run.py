#!/usr/bin/env python3
"""Foreign WebRTC stacks, plain HTTP and strangers against the real Pinhole.

usage: run.py [part of a case's name]...

env PINHOLE        the binary (default target/release/pinhole)
    AIORTC_PYTHON  a Python that has requirements.txt (default target/test-cache/aiortc/bin/python)

Prints one line per case with its figures and ends with `N passed, M failed`; exit 1 on failure.
Node's packages: `npm ci` in this folder. What else it needs: `tests/run clients` says.
"""
import json
import os
import pathlib
import subprocess
import sys
import time

import hostile
import processes
import protocol
from processes import by_the_clock

HERE = pathlib.Path(__file__).resolve().parent
AIORTC = os.environ.get("AIORTC_PYTHON", processes.ROOT / "target/test-cache/aiortc/bin/python")
STACKS = {
    "aiortc": [AIORTC, HERE / "aiortc_viewer.py"],
    "webrtcbin": ["/usr/bin/python3", HERE / "gst_viewer.py"],
    "werift": ["node", HERE / "werift_viewer.mjs"],
    "libdatachannel": ["node", HERE / "libdatachannel_viewer.mjs"],
}
WATCH_S = 4
# From POST to the first whole key frame, ICE and DTLS of a slow stack within it. Half a second is
# the aim; the camera's own next key frame is up to 4 s away.
JOIN_MS = 3 * 500
FREEZE_MS = 3 * 300
# Both cameras give at least 25 pictures a second; a third of them is the least on a busy machine.
LEAST_FRAMES = WATCH_S * 25 / 3


def watch(site, stack, camera, address="127.0.0.1"):
    """What the stack's viewer reports of `camera`."""
    environment = {**os.environ, "PINHOLE_TOKEN": site.token, "VIEWER_ADDRESS": address}
    command = [*STACKS[stack], site.endpoint(camera), WATCH_S]
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WATCH_S + 30,
    )
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr[-1500:]}")
    return json.loads(lines[-1])


def stack_watches(stack, camera, **more):
    def case(site):
        figures = watch(site, stack, camera, **more)
        assert figures["state"] == "connected", figures
        assert figures["joinMs"] is not None, figures
        by_the_clock(figures["joinMs"] < JOIN_MS, figures)
        by_the_clock(figures["frames"] > LEAST_FRAMES, figures)
        assert figures.get("keyFrames", 1) > 0, figures
        by_the_clock(figures["longestGapMs"] < FREEZE_MS, figures)
        assert figures["patched"] and set(figures["patched"]) == {204}, figures
        assert figures["deleted"] == [200, 404], figures
        # Its own certificate, the only one here that is not ECDSA.
        assert figures.get("key") == ("rsaEncryption" if stack == "webrtcbin" else None), figures
        known = ("frames", "packets", "keyFrames", "lost", "missing")
        counts = ", ".join(f"{figures[name]} {name}" for name in known if name in figures)
        return (
            f"answer {figures['answeredMs']:.0f} ms, join {figures['joinMs']:.0f} ms, {counts}, "
            f"longest gap {figures['longestGapMs']:.0f} ms, {len(figures['patched'])} PATCH"
        )

    return case


def cases():
    for case in protocol.CASES[:-1]:
        yield f"protocol: {case.__name__}", lambda site, case=case: case(protocol.Client(site))
    for stack in STACKS:
        for camera in ("door", "test"):
            yield f"{stack} watches {camera}", stack_watches(stack, camera)
    yield "libdatachannel watches door over IPv6", stack_watches("libdatachannel", "door", address="::1")
    yield "hostile", hostile.a_viewer_plays_on_through_garbage_and_abuse
    last = protocol.CASES[-1]
    yield f"protocol: {last.__name__}", lambda site: last(protocol.Client(site))
    yield "ends in order", ends_in_order


def ends_in_order(site):
    code = site.pinhole.end()
    assert code == 0, f"exit code {code}: {site.pinhole.output()[-2000:]}"


def run(name, case, site, tries=2):
    """Runs a case; once more where all that it missed is a figure by the clock. Both are printed."""
    start = time.monotonic()
    try:
        verdict, told = "ok  ", case(site) or "as told"
    except processes.TooSlow as error:
        verdict, told = ("again" if tries > 1 else "FAIL"), f"{type(error).__name__}: {error}"
    except Exception as error:  # whatever it is, it is this case's, and the next one runs
        verdict, told = "FAIL", f"{type(error).__name__}: {error}"
    print(f"{verdict} {name}: {told} ({time.monotonic() - start:.1f} s)", flush=True)
    return verdict == "ok  " or (verdict == "again" and run(name, case, site, tries - 1))


def main(wanted):
    if not processes.BINARY.exists():
        sys.exit(f"{processes.BINARY} does not exist: build it, or name it by PINHOLE")
    chosen = [(n, c) for n, c in cases() if not wanted or any(part in n for part in wanted)]
    results = []
    with processes.site() as site:
        results = [run(name, case, site) for name, case in chosen]
        if not all(results):
            print("--- the end of Pinhole's log\n" + site.pinhole.output()[-3000:])
    print(f"{sum(results)} passed, {results.count(False)} failed")
    sys.exit(0 if results and all(results) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
