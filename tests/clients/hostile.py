"""Strangers who want a viewer's picture to stop: garbage on the media port, abuse over HTTP.

In: a running Pinhole (processes.Site). Out: figures; an AssertionError where the viewer froze.
All of it goes to loopback, from loopback addresses, and ends by itself after ATTACK_S.
"""
import asyncio
import json
import multiprocessing
import os
import pathlib
import random
import resource
import socket
import subprocess
import time

import protocol
import whep
from processes import by_the_clock

ATTACK_S = 10
DATAGRAMS_PER_S = 50_000
SOURCES = 1_000
SLOW_CONNECTIONS = 100
REQUESTS_PER_S = 400
# The same attack every time: a failure must be the change's, not chance's.
SEED = 1
# The budget is 300 ms between two pictures; this is wall clock on a machine with other work.
FREEZE_MS = 3 * 300
VIEWER = pathlib.Path(__file__).with_name("libdatachannel_viewer.mjs")


def garbage(chance):
    """What is almost one of the protocols of the port (RFC 7983), and what is none."""
    noise = chance.randbytes
    stun = b"\x00\x01%s\x21\x12\xa4\x42" + noise(12)
    user = b"\x00\x06\x00\x09aaaa:bbbb\x00\x00\x00"
    return [
        b"",
        b"\x00",
        noise(20),
        noise(1200),
        noise(1472),
        stun % b"\x00\x00",
        stun % b"\xff\xfc",
        stun % b"\x00\x10" + user,
        stun % b"\x00\x28" + user + b"\x00\x08\x00\x14" + noise(20),
        stun % b"\x00\x04" + b"\x00\x06\xff\xff",
        b"\x16\xfe\xfd\x00\x00" + noise(6) + b"\x00\x40\x01" + noise(63),
        b"\x16\xfe\xff" + bytes(8) + b"\xff\xff" + noise(40),
        b"\x17\xfe\xfd" + noise(200),
        b"\x80\x60" + noise(1000),
        b"\x90\x60" + noise(10) + b"\xbe\xde\xff\xff" + noise(30),
        b"\x81\xc9\x00\x07" + noise(40),
        b"\x80\xc8\xff\xff" + noise(24),
    ]


def flood(port, seed, sent, slept):
    """UDP garbage from SOURCES addresses for ATTACK_S; `sent` takes how many, `slept` the seconds
    that were left over."""
    chance = random.Random(seed)
    payloads = garbage(chance)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOURCES + 64,) * 2)
    sockets = []
    for i in range(SOURCES):
        source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        source.bind((f"127.{1 + i // 250}.{i % 250}.{chance.randrange(1, 255)}", 0))
        source.connect(("127.0.0.1", port))
        source.setblocking(False)
        sockets.append(source)
    pairs = [(chance.choice(sockets).send, chance.choice(payloads)) for _ in range(20_000)]
    start, count = time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < ATTACK_S:
        for _ in range(int(elapsed * DATAGRAMS_PER_S) - count):
            send, payload = pairs[count % len(pairs)]
            count += 1
            try:
                send(payload)
            except OSError:
                pass  # refused by the kernel: lost, as datagrams are
        sent.value = count
        before = time.monotonic()
        time.sleep(0.002)
        slept.value += time.monotonic() - before


def abuse(url, token, seed, answers):
    """Slow heads, and bad requests as fast as REQUESTS_PER_S, for ATTACK_S."""
    asyncio.run(abuse_http(url, token, random.Random(seed), answers))


async def abuse_http(url, token, chance, answers):
    host, port = url.removeprefix("http://").split(":")
    end = time.monotonic() + ATTACK_S
    counts = {}

    def source(net):
        return f"127.{net}.{chance.randrange(250)}.{chance.randrange(1, 255)}", 0

    async def connect(net):
        return await asyncio.open_connection(host, int(port), local_addr=source(net))

    async def slow():
        while time.monotonic() < end:
            try:
                _, writer = await connect(9)
                writer.write(b"POST /whep/door HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                while time.monotonic() < end and not writer.transport.is_closing():
                    writer.write(b"y")
                    await writer.drain()
                    await asyncio.sleep(0.3)
                writer.close()
            except OSError:
                await asyncio.sleep(0.3)

    async def bad(requests, pause):
        while time.monotonic() < end:
            status = "closed"
            try:
                reader, writer = await connect(8)
                writer.write(chance.choice(requests))
                line = await asyncio.wait_for(reader.readline(), 3)
                status = line.split()[1].decode() if line.startswith(b"HTTP/") else "closed"
                writer.close()
            except (OSError, IndexError, asyncio.TimeoutError):
                pass
            counts[status] = counts.get(status, 0) + 1
            await asyncio.sleep(pause)

    workers = 20
    requests = bad_requests(token, chance)
    await asyncio.gather(
        *(slow() for _ in range(SLOW_CONNECTIONS)),
        *(bad(requests, workers / REQUESTS_PER_S) for _ in range(workers)),
    )
    answers.put(counts)


def bad_requests(token, chance):
    def post(body, token):
        head = "POST /whep/door HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
        head += f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    good = protocol.offer()
    return [
        chance.randbytes(300) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 3000 + b"\r\n",
        b"GET /whep/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /?token=guess HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(good, "guess"),
        post(b"v=0\r\n" + b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" * 500, token),
        post(good[: len(good) // 2], token),
        post(chance.randbytes(5000), token),
        post(good, token),  # half-open: it never connects
    ]


def viewer_of(site, seconds):
    environment = {**os.environ, "PINHOLE_TOKEN": site.token}
    return subprocess.Popen(
        ["node", VIEWER, site.endpoint("door"), str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def figures_of(viewer, seconds):
    text, _ = viewer.communicate(timeout=seconds + 20)
    return json.loads(text)


def a_viewer_plays_on_through_garbage_and_abuse(site):
    seed = SEED
    seconds = ATTACK_S + 5
    viewer = viewer_of(site, seconds)
    time.sleep(2)
    before = site.pinhole.memory_kib(), site.pinhole.cpu_seconds()
    seen = site.counter("pinhole_udp_datagrams_in_total")
    slow_turns = site.slower_than("pinhole_loop_turn_seconds", "0.05")
    sent, answers = multiprocessing.Value("q", 0), multiprocessing.Queue()
    slept = multiprocessing.Value("d", 0.0)
    attackers = [
        multiprocessing.Process(target=flood, args=(site.media_port, seed, sent, slept)),
        multiprocessing.Process(target=abuse, args=(site.url, site.token, seed, answers)),
    ]
    for attacker in attackers:
        attacker.start()
    counts = answers.get(timeout=ATTACK_S + 30)
    for attacker in attackers:
        attacker.join(timeout=20)
        if attacker.is_alive():
            attacker.kill()
    cpu = site.pinhole.cpu_seconds() - before[1]
    watched = figures_of(viewer, seconds)
    after = later_viewer(site)
    taken = site.counter("pinhole_udp_datagrams_in_total") - seen
    slow_turns = site.slower_than("pinhole_loop_turn_seconds", "0.05") - slow_turns
    memory = site.pinhole.memory_kib()
    rate = sent.value / ATTACK_S
    busy = 1 - slept.value / ATTACK_S
    # As fast as was meant, or as this machine can: a sender that had time left over sent too little.
    is_full = rate > 0.98 * DATAGRAMS_PER_S
    is_all_there_was = busy > 0.9
    meant = f" of {DATAGRAMS_PER_S} meant (its sender was busy {100 * busy:.0f} % of the time)"
    short = "" if is_full else meant
    whose = "Pinhole's own loop was slow" if slow_turns else "Pinhole's loop never was: the host is slow"
    told = (
        f"{rate:.0f} datagrams/s sent{short}, {taken / ATTACK_S:.0f}/s read, "
        f"HTTP {' '.join(f'{k}:{v}' for k, v in sorted(counts.items()))}; "
        f"viewer: longest gap {watched['longestGapMs']:.0f} ms, {watched['frames']} frames, "
        f"{watched['missing']} packets missing; Pinhole: {100 * cpu / ATTACK_S:.0f} % CPU, "
        f"{slow_turns} turns of its loop over 50 ms, "
        f"{before[0] / 1024:.1f} to {memory / 1024:.1f} MiB, {site.pinhole.files()} files; "
        f"afterwards a join takes {after:.0f} ms (seed {seed})"
    )
    assert watched["state"] == "connected" and watched["deleted"] == [200, 404], told
    assert memory < before[0] + 32 * 1024, told
    assert "panicked" not in site.pinhole.output(), told
    assert is_full or is_all_there_was, f"fewer datagrams than this machine can send: {told}"
    by_the_clock(rate > DATAGRAMS_PER_S / 2, f"too few datagrams to prove anything: {told}")
    by_the_clock(watched["longestGapMs"] < FREEZE_MS, f"{whose}: {told}")
    by_the_clock(watched["frames"] > 20 * seconds, f"{whose}: {told}")
    return told


def later_viewer(site):
    """Once the half-open sessions are gone, a viewer joins as ever: its join time, ms."""

    def is_quiet():
        status, body = site.get("/api/sessions")
        return status == 200 and json.loads(body) == []

    site.pinhole.until(is_quiet, 20)
    watched = figures_of(viewer_of(site, 2), 2)
    assert watched["joinMs"] is not None, watched
    return watched["joinMs"]
