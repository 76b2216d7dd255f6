#!/usr/bin/python3
"""An RTSP camera for the browser tests, by GStreamer's RTSP server.

usage: camera.py PORT        prints its URL when it is ready
env    GOP  pictures between key frames (default 100: 4 s), SIZE (1280x720), FPS (25)
needs  python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly}
"""
import os
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
port = sys.argv[1]
width, height = os.environ.get("SIZE", "1280x720").split("x")
fps = os.environ.get("FPS", "25")
gop = os.environ.get("GOP", "100")

factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 "
    f"! timeoverlay ! x264enc key-int-max={gop} bitrate=1500 speed-preset=ultrafast tune=zerolatency bframes=0 "
    "! video/x-h264,profile=baseline ! rtph264pay name=pay0 pt=96 config-interval=0 )"
)
factory.set_shared(True)
factory.set_latency(0)

server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(port)
server.get_mount_points().add_factory("/camera", factory)
if not server.attach(None):
    sys.exit(f"port {port} cannot be used")
print(f"rtsp://127.0.0.1:{port}/camera", flush=True)
GLib.MainLoop().run()
