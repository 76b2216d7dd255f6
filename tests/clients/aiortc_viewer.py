"""Watches a camera with aiortc and decodes it.   usage: aiortc_viewer.py ENDPOINT SECONDS

Trickles by PATCH: aiortc cannot, so its candidates are taken out of the offer and sent after it.
"""
import asyncio
import logging
import sys

import aioice.ice
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

import whep

logging.getLogger("libav").setLevel(logging.CRITICAL)
# aioice leaves loopback out; nothing here may reach beyond it.
aioice.ice.get_host_addresses = lambda **_: ["127.0.0.1"]


async def pull(track, figures):
    while True:
        try:
            picture = await track.recv()
        except MediaStreamError:
            return
        figures.on_picture(picture.width, picture.height)


async def main(endpoint, seconds):
    session = whep.Session(endpoint)
    figures = whep.Figures("aiortc", session)
    peer = RTCPeerConnection()
    video = peer.addTransceiver("video", direction="recvonly")
    known = RTCRtpReceiver.getCapabilities("video").codecs
    wanted = ("video/H264", "video/rtx")
    video.setCodecPreferences([codec for codec in known if codec.mimeType in wanted])
    peer.on("track", lambda track: asyncio.ensure_future(pull(track, figures)))
    await peer.setLocalDescription(await peer.createOffer())
    offer, candidates = whep.without_candidates(peer.localDescription.sdp)
    answer = await asyncio.to_thread(session.open, offer)
    await asyncio.to_thread(session.trickle, candidates)
    await peer.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    await asyncio.sleep(seconds)
    state = peer.connectionState
    inbound = [s for s in (await peer.getStats()).values() if s.type == "inbound-rtp"]
    deleted = await asyncio.to_thread(session.close)
    await peer.close()
    figures.report(
        state,
        deleted,
        packets=sum(s.packetsReceived for s in inbound),
        lost=sum(s.packetsLost for s in inbound),
    )


asyncio.run(main(sys.argv[1], float(sys.argv[2])))
