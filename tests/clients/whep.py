"""A WHEP session over plain HTTP, and what every viewer in Python reports.

In: the endpoint's URL, the token (env PINHOLE_TOKEN). Out: the answer, statuses, figures.
Not here: WebRTC (the *_viewer files), judgement (run.py).
"""
import http.client
import json
import os
import time
import urllib.parse

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


def request(method, url, body=None, headers=None, source=None, timeout=10):
    """One request on a connection of its own: (status, headers, body)."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname, parts.port, timeout=timeout, source_address=source
    )
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def bearer(token=None):
    token = token or os.environ.get("PINHOLE_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def without_candidates(sdp):
    """The offer as a trickling client sends it, and its candidates (`candidate:...`)."""
    lines = sdp.splitlines()
    found = [line[2:] for line in lines if line.startswith("a=candidate:")]
    left = [
        line
        for line in lines
        if not line.startswith("a=candidate:") and line != "a=end-of-candidates"
    ]
    return "\r\n".join(left) + "\r\n", found


def attribute(sdp, name):
    prefix = f"a={name}:"
    return next((x[len(prefix) :] for x in sdp.splitlines() if x.startswith(prefix)), None)


class Session:
    """One viewer's session from POST to DELETE."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.url = None
        self.etag = None
        self.offer = None
        self.posted = None
        self.answered_ms = None
        self.patched = []

    def open(self, offer):
        """POSTs `offer`, returns the answer."""
        self.offer = offer
        self.posted = time.monotonic()
        headers = {"Content-Type": SDP, **bearer()}
        status, headers, body = request("POST", self.endpoint, offer.encode(), headers)
        self.answered_ms = self.since_post_ms()
        if status != 201:
            raise RuntimeError(f"POST: {status} {body.decode(errors='replace')}")
        self.url = urllib.parse.urljoin(self.endpoint, headers["Location"])
        self.etag = headers["ETag"]
        return body.decode()

    def trickle(self, candidates, is_end=True):
        """PATCHes `candidates` (`candidate:...`) of the first media section."""
        lines = [
            f"a=ice-ufrag:{attribute(self.offer, 'ice-ufrag')}",
            f"a=ice-pwd:{attribute(self.offer, 'ice-pwd')}",
            "m=video 9 UDP/TLS/RTP/SAVPF 0",
            f"a=mid:{attribute(self.offer, 'mid')}",
            *(f"a={candidate}" for candidate in candidates),
        ]
        if is_end:
            lines.append("a=end-of-candidates")
        headers = {"Content-Type": FRAGMENT, "If-Match": self.etag, **bearer()}
        body = "\r\n".join(lines) + "\r\n"
        status, _, _ = request("PATCH", self.url, body.encode(), headers)
        self.patched.append(status)

    def close(self):
        """DELETEs twice: the statuses of both."""
        return [request("DELETE", self.url, headers=bearer())[0] for _ in range(2)]

    def since_post_ms(self):
        return (time.monotonic() - self.posted) * 1000


class Figures:
    """Counts pictures as they come, and at the end prints one line of JSON."""

    def __init__(self, stack, session):
        self.stack = stack
        self.session = session
        self.frames = 0
        self.size = None
        self.join_ms = None
        self.last = None
        self.longest_gap_ms = 0

    def on_picture(self, width, height):
        now = time.monotonic()
        self.frames += 1
        self.size = f"{width}x{height}"
        if self.join_ms is None:
            self.join_ms = self.session.since_post_ms()
        else:
            self.longest_gap_ms = max(self.longest_gap_ms, (now - self.last) * 1000)
        self.last = now

    def report(self, state, deleted, **more):
        figures = {
            "stack": self.stack,
            "state": state,
            "answeredMs": self.session.answered_ms,
            "joinMs": self.join_ms,
            "frames": self.frames,
            "size": self.size,
            "longestGapMs": self.longest_gap_ms,
            "patched": self.session.patched,
            "deleted": deleted,
            **more,
        }
        print(json.dumps(figures), flush=True)
