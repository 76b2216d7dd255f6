"""WHEP as its draft tells it (draft-ietf-wish-whep), request by request, from outside.

In: a running Pinhole (processes.Site). Out: an AssertionError that says what was answered.
Not here: media (the viewers), bounds under load (hostile.py).
"""
import json
import re

import whep
from processes import PASSWORD, ROOT

OFFERS = ROOT / "tests/data/offers"


def offer(name="chromium-video-data"):
    return (OFFERS / f"{name}.sdp").read_bytes()


class Client:
    def __init__(self, site):
        self.site = site

    def __call__(self, method, path, body=None, *, content=None, token=True, **headers):
        """One request; `expect` it. Header names are written with _ for -."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if content:
            headers["Content-Type"] = content
        if token:
            headers |= whep.bearer(self.site.token if token is True else token)
        return whep.request(method, self.site.url + path, body, headers)

    def expect(self, status, *words, **options):
        found, headers, body = self(*words, **options)
        asked = " ".join(str(word)[:40] for word in words[:2])
        assert found == status, f"{asked}: {found} in place of {status}: {body[:300]!r}"
        if status >= 400:
            assert headers["Content-Type"] == "application/problem+json", f"{asked}: no problem+json"
            assert json.loads(body)["detail"], f"{asked}: the problem says nothing"
        return headers, body.decode()

    def open(self):
        headers, answer = self.expect(201, "POST", "/whep/door", offer(), content=whep.SDP)
        return headers["Location"], headers["ETag"], answer


def the_answer_is_one_that_every_stack_takes(client):
    location, etag, answer = client.open()
    assert re.fullmatch(r"/whep/session/[0-9a-f]{32}", location), location
    assert re.fullmatch(r'"[^"]+"', etag), etag
    lines = answer.splitlines()
    assert answer.count("\r\n") == len(lines), "every line ends in CR LF"
    assert "a=ice-lite" in lines
    prints = {line for line in lines if line.startswith("a=fingerprint:")}
    assert len(prints) == 1 and prints.pop().startswith("a=fingerprint:sha-256 "), prints
    setups = {line for line in lines if line.startswith("a=setup:")}
    assert setups == {"a=setup:passive"}, setups
    extensions = {line.split()[-1] for line in lines if line.startswith("a=extmap:")}
    assert extensions <= {
        "urn:ietf:params:rtp-hdrext:sdes:mid",
        "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
    }, extensions
    candidates = [line for line in lines if line.startswith("a=candidate:")]
    assert any(" 127.0.0.1 " in line for line in candidates), candidates
    codecs = {line.split()[1] for line in lines if line.startswith("a=rtpmap:")}
    assert codecs == {"H264/90000", "rtx/90000"}, codecs
    client.expect(200, "DELETE", location)
    return f"{len(candidates)} candidates, {len(answer)} bytes"


def the_endpoint_tells_what_it_takes(client):
    client.expect(200, "HEAD", "/whep/door")
    headers, _ = client.expect(200, "OPTIONS", "/whep/door", token=False)
    assert headers["Accept-Post"] == whep.SDP, headers["Accept-Post"]
    headers, _ = client.expect(405, "GET", "/whep/door")
    assert headers["Allow"] == "POST, HEAD, OPTIONS", headers["Allow"]
    assert client("HEAD", "/whep/nobody")[0] == 404


def a_post_that_cannot_be_served_says_why(client):
    post = ("POST", "/whep/door")
    headers, _ = client.expect(401, *post, offer(), content=whep.SDP, token=False)
    assert headers["WWW-Authenticate"].startswith("Bearer"), headers["WWW-Authenticate"]
    client.expect(401, *post, offer(), content=whep.SDP, token="not-the-token-at-all")
    client.expect(404, "POST", "/whep/nobody", offer(), content=whep.SDP)
    client.expect(400, *post, b"v=0\r\nthis is no offer\r\n", content=whep.SDP)
    client.expect(400, *post, b"\xff\xfe\x00", content=whep.SDP)
    client.expect(400, *post, b"", content=whep.SDP)
    client.expect(415, *post, offer(), content="text/plain")
    client.expect(415, *post, offer())
    client.expect(413, *post, b"v=0\r\n" + b"a=x\r\n" * 20_000, content=whep.SDP)
    client.expect(403, *post, offer(), content=whep.SDP, Origin="http://elsewhere.example")
    client.expect(421, *post, offer(), content=whep.SDP, Host="elsewhere.example")
    for stack in ("firefox-video-data", "firefox-offer"):  # VP8, VP9 and AV1
        _, body = client.expect(422, *post, offer(stack), content=whep.SDP)
        assert "H264" in body and "VP8" in body, body


def a_patch_needs_the_session_as_it_is_now(client):
    location, etag, _ = client.open()
    candidate = b"a=mid:0\r\na=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host\r\n"
    patch = ("PATCH", location)
    client.expect(428, *patch, candidate, content=whep.FRAGMENT)
    client.expect(412, *patch, candidate, content=whep.FRAGMENT, If_Match='"another"')
    client.expect(415, *patch, candidate, content=whep.SDP, If_Match=etag)
    client.expect(400, *patch, b"a=candidate:1\r\n", content=whep.FRAGMENT, If_Match=etag)
    client.expect(401, *patch, candidate, content=whep.FRAGMENT, If_Match=etag, token=False)
    client.expect(204, *patch, candidate, content=whep.FRAGMENT, If_Match=etag)
    client.expect(204, *patch, candidate, content=whep.FRAGMENT, If_Match="*")
    stranger = "/whep/session/" + 32 * "0"
    client.expect(404, "PATCH", stranger, candidate, content=whep.FRAGMENT, If_Match=etag)
    restart = b"a=ice-ufrag:anew\r\na=ice-pwd:anewanewanewanewanewanew\r\n" + candidate
    headers, body = client.expect(200, *patch, restart, content=whep.FRAGMENT, If_Match=etag)
    assert headers["ETag"] != etag, "a restart changes the ETag"
    assert "a=ice-ufrag:" in body and "a=ice-pwd:" in body, body
    client.expect(412, *patch, candidate, content=whep.FRAGMENT, If_Match=etag)
    client.expect(200, "DELETE", location)


def a_session_ends_once(client):
    location, etag, _ = client.open()
    client.expect(200, "OPTIONS", location, token=False)
    client.expect(405, "GET", location)
    client.expect(401, "DELETE", location, token=False)
    client.expect(200, "DELETE", location)
    client.expect(404, "DELETE", location)
    client.expect(404, "PATCH", location, b"", content=whep.FRAGMENT, If_Match=etag)
    client.expect(404, "DELETE", "/whep/session/nonsense")


def what_is_told_holds_no_secret(client):
    told = [client.site.get(path)[1] for path in ("/api/cameras", "/api/sessions", "/metrics")]
    told.append(client.site.pinhole.output())
    for secret in (PASSWORD, client.site.token):
        assert not any(secret in text for text in told), "a secret was told"
    assert "panicked" not in told[-1], told[-1][-2000:]
    return f"{sum(map(len, told))} bytes read"


CASES = [
    the_answer_is_one_that_every_stack_takes,
    the_endpoint_tells_what_it_takes,
    a_post_that_cannot_be_served_says_why,
    a_patch_needs_the_session_as_it_is_now,
    a_session_ends_once,
    what_is_told_holds_no_secret,
]
