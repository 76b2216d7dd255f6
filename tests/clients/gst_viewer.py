#!/usr/bin/python3
"""Watches a camera with GStreamer's webrtcbin and decodes it.   usage: gst_viewer.py ENDPOINT SECONDS

libnice for ICE, OpenSSL for DTLS with the certificate that GStreamer makes by itself (RSA, unlike
those of all others here), mids that are no numbers. Trickles each candidate by a PATCH of its own
as libnice finds it.

Debian: openssl python3-gi gir1.2-gst-plugins-bad-1.0 gstreamer1.0-{nice,libav} gstreamer1.0-plugins-{base,good,bad}
"""
import subprocess
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

import whep  # noqa: E402

H264 = (
    "application/x-rtp,media=video,encoding-name=H264,payload=103,clock-rate=90000,"
    "packetization-mode=(string)1,profile-level-id=(string)42e01f,"
    "level-asymmetry-allowed=(string)1,rtcp-fb-nack-pli=(boolean)true"
)
DECODE = "rtph264depay ! h264parse ! avdec_h264 ! fakesink name=shown sync=false signal-handoffs=true"


def algorithm_of(pem):
    """The kind of key in a certificate, as OpenSSL names it."""
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-text"], input=pem, check=True, capture_output=True, text=True
    )
    return shown.stdout.partition("Public Key Algorithm: ")[2].splitlines()[0]


class Viewer:
    def __init__(self, endpoint, on_joined):
        self.on_joined = on_joined
        self.session = whep.Session(endpoint)
        self.figures = whep.Figures("webrtcbin", self.session)
        self.early = []
        self.pipeline = Gst.Pipeline.new(None)
        self.peer = Gst.ElementFactory.make("webrtcbin")
        self.peer.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.peer.set_property("latency", 40)
        # libnice leaves loopback out unless it is named; nothing here may reach beyond it. Python
        # takes over the agent's only reference (it is floating), so it is kept here.
        self.agent = self.peer.get_property("ice-agent")
        self.agent.emit("add-local-ip-address", "127.0.0.1")
        self.peer.connect("on-ice-candidate", self.on_candidate)
        self.peer.connect("pad-added", self.on_pad)
        self.peer.connect("deep-element-added", self.on_element)
        self.dtls = None
        self.pipeline.add(self.peer)

    def on_element(self, _peer, _bin, element):
        factory = element.get_factory()
        if factory and factory.get_name() == "dtlssrtpdec":
            self.dtls = element

    def start(self):
        self.pipeline.set_state(Gst.State.READY)
        receive = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self.peer.emit("add-transceiver", receive, Gst.Caps.from_string(H264))
        self.pipeline.set_state(Gst.State.PLAYING)
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise):
        reply = promise.get_reply()  # the offer is part of it, and gone with it
        offer = reply.get_value("offer")
        text = offer.sdp.as_text()
        self.peer.emit("set-local-description", offer, Gst.Promise.new())
        GLib.idle_add(self.join, text)

    def join(self, offer):
        offer, _ = whep.without_candidates(offer)
        answer = self.session.open(offer)
        self.on_joined()
        sdp = GstSdp.SDPMessage.new_from_text(answer)[1]
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.peer.emit("set-remote-description", described, Gst.Promise.new())
        early, self.early = self.early, None
        for candidate in early:
            self.session.trickle([candidate], is_end=False)

    def on_candidate(self, _peer, _index, candidate):
        GLib.idle_add(self.trickle, candidate)

    def trickle(self, candidate):
        if self.early is None:
            self.session.trickle([candidate], is_end=False)
        else:
            self.early.append(candidate)

    def on_pad(self, _peer, pad):
        if pad.direction != Gst.PadDirection.SRC:
            return
        decoder = Gst.parse_bin_from_description(DECODE, True)
        decoder.get_by_name("shown").connect("handoff", self.on_picture)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def on_picture(self, _sink, _buffer, pad):
        caps = pad.get_current_caps().get_structure(0)
        self.figures.on_picture(caps.get_value("width"), caps.get_value("height"))

    def end(self):
        state = self.peer.get_property("connection-state").value_nick
        deleted = self.session.close() if self.session.url else []
        key = algorithm_of(self.dtls.get_property("pem"))
        self.pipeline.set_state(Gst.State.NULL)
        self.figures.report(state, deleted, key=key)


def main(endpoint, seconds):
    Gst.init(None)
    loop = GLib.MainLoop()
    # From the answer on: an RSA key takes a busy machine seconds to make.
    viewer = Viewer(endpoint, lambda: GLib.timeout_add(int(seconds * 1000), loop.quit))
    viewer.start()
    loop.run()
    viewer.end()


main(sys.argv[1], float(sys.argv[2]))
