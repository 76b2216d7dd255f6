"""What runs beside the viewers: a camera and Pinhole itself. Each is ended by its own id.

env PINHOLE  the binary (default target/release/pinhole)
"""
import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import time

import whep

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("PINHOLE", ROOT / "target/release/pinhole"))
CAMERA = ROOT / "tests/cameras/gst_camera.py"
USER, PASSWORD = "watcher", "p@ss:wörd/1"


class Died(RuntimeError):
    pass


class Process:
    """A child in a session of its own, its output in a file."""

    def __init__(self, command, **options):
        self.log = tempfile.TemporaryFile("w+b")
        self.name = pathlib.Path(str(command[0])).name
        self.child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            **options,
        )

    def output(self):
        # The child writes where the shared file stands, so reading must not move that.
        file = self.log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def until(self, condition, seconds=20):
        """Waits until `condition` is true of something, and returns that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise Died(f"{self.name} is not ready:\n{self.output()[-2000:]}")

    def is_alive(self):
        return self.child.poll() is None

    def end(self):
        """SIGTERM, and SIGKILL 5 s later: the exit code."""
        if self.is_alive():
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait()

    def memory_kib(self):
        text = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1])

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))


class TooSlow(AssertionError):
    """A figure by the wall clock was missed, and nothing else: other work on this machine does that."""


def by_the_clock(is_good, told):
    if not is_good:
        raise TooSlow(told)


def free_port(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """A Pinhole with two cameras: `door` (RTSP, digest, a key frame every 4 s) and `test` (pattern)."""

    def __init__(self, camera, pinhole, port, media_port, token):
        self.camera = camera
        self.pinhole = pinhole
        self.url = f"http://127.0.0.1:{port}"
        self.media_port = media_port
        self.token = token

    def endpoint(self, camera):
        return f"{self.url}/whep/{camera}"

    def get(self, path):
        status, _, body = whep.request("GET", self.url + path, headers=whep.bearer(self.token))
        return status, body.decode()

    def counter(self, name):
        """The sum over all labels of a counter in /metrics; None where there is none."""
        values = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self.get("/metrics")[1], re.M)
        return sum(map(float, values)) if values else None

    def slower_than(self, name, bound):
        """How many of a histogram's values in /metrics are above its bucket `bound`."""
        within = self.counter(rf'{name}_bucket\{{le="{bound}"\}}')
        return int(self.counter(f"{name}_count") - within)


@contextlib.contextmanager
def site():
    with contextlib.ExitStack() as ends, tempfile.TemporaryDirectory() as folder:
        camera = Process(
            ["/usr/bin/python3", CAMERA, "--user", USER, "--password", PASSWORD]
            + ["--auth", "digest", "--gop", 100, "--size", "640x480", "--bitrate", 1000]
        )
        ends.callback(camera.end)
        source = camera.until(lambda: re.search(r"^rtsp://\S+", camera.output(), re.M))[0]
        port, media_port = free_port(), free_port(socket.SOCK_DGRAM)
        token = secrets.token_hex(16)
        config = pathlib.Path(folder, "pinhole.toml")
        pathlib.Path(folder, "token").write_text(token)
        pathlib.Path(folder, "password").write_text(PASSWORD)
        config.write_text(
            f'[server]\nlisten = "127.0.0.1:{port}"\n'
            '[access]\ntoken_file = "token"\n'
            # Loopback alone: nothing here may reach beyond it.
            '[limits]\nsetup_timeout = "5s"\n'
            f'[ice]\nport = {media_port}\ninterfaces = ["lo"]\n'
            f'[[camera]]\nname = "door"\nsource = "{source}/h264"\n'
            f'username = "{USER}"\npassword_file = "password"\n'
            '[[camera]]\nname = "test"\nsource = "pattern:"\nsize = "640x360"\n'
        )
        pinhole = Process([BINARY, "run", "--config", config])
        ends.callback(pinhole.end)
        found = Site(camera, pinhole, port, media_port, token)
        pinhole.until(lambda: answers(found))
        yield found


def answers(site):
    """Pinhole answers, and both of its cameras give pictures."""
    try:
        cameras = json.loads(site.get("/api/cameras")[1])
    except OSError:
        return False
    return all(camera["state"] == "playing" for camera in cameras)
