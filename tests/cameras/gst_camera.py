#!/usr/bin/python3
"""A camera made of GStreamer's RTSP server: real H.264, real RTSP, no hardware.

usage: gst_camera.py [--address IP] [--port N] [--user U --password P [--auth digest|basic]]
                     [--transport both|tcp|udp] [--size WxH] [--fps N] [--gop N] [--bitrate KBIT]
                     [--until-eof]
Listens on 127.0.0.1 unless told otherwise. Port 0 (the default) takes a free one. Its first line of output is the
base URL; then it serves until killed (--until-eof: until its standard input ends).

  /h264   H.264 baseline, SPS and PPS in the stream and in the SDP
  /sdp    the same, SPS and PPS in the SDP alone
  /opus   the same as /h264, with Opus beside it
  /audio  no video at all
  /h265   H.265 alone
  /main   H.264 main profile with B-frames

Debian: python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,bad,ugly}
"""
import argparse
import os
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--auth", choices=["digest", "basic"], default="digest")
    parser.add_argument("--transport", choices=["both", "tcp", "udp"], default="both")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--gop", type=int, default=25)
    parser.add_argument("--bitrate", type=int, default=500)
    parser.add_argument("--until-eof", action="store_true")
    return parser.parse_args()


def mounts(options):
    width, height = options.size.split("x")
    picture = (
        "videotestsrc is-live=true pattern=ball ! "
        f"video/x-raw,format=I420,width={width},height={height},framerate={options.fps}/1 ! "
    )
    x264 = f"x264enc key-int-max={options.gop} bitrate={options.bitrate} speed-preset=ultrafast "
    baseline = picture + x264 + "tune=zerolatency bframes=0 ! video/x-h264,profile=baseline ! "
    pay = "rtph264pay name=pay0 pt=96 "
    tone = "audiotestsrc is-live=true ! audioconvert ! audioresample ! "
    opus = tone + "audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay pt=97 "
    return {
        "/h264": baseline + "h264parse config-interval=-1 ! " + pay,
        "/sdp": baseline + "h264parse ! video/x-h264,stream-format=avc ! " + pay,
        "/opus": baseline + "h264parse config-interval=-1 ! " + pay + opus + "name=pay1 ",
        "/audio": opus + "name=pay0 ",
        "/h265": picture
        + f"x265enc key-int-max={options.gop} bitrate={options.bitrate} "
        + "speed-preset=ultrafast tune=zerolatency ! rtph265pay name=pay0 pt=96 ",
        "/main": picture
        + f"x264enc key-int-max={options.gop} bitrate={options.bitrate} bframes=2 b-adapt=false "
        + "speed-preset=veryfast ! video/x-h264,profile=main ! h264parse config-interval=-1 ! "
        + pay,
    }


def guard(server, options):
    """Asks for the user and the password, and returns what a factory must allow."""
    method = GstRtsp.RTSPAuthMethod
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if options.auth == "basic":
        auth.set_supported_methods(method.BASIC)
        basic = GstRtspServer.RTSPAuth.make_basic(options.user, options.password)
        auth.add_basic(basic, token)
    else:
        auth.set_supported_methods(method.DIGEST)
        auth.add_digest(options.user, options.password, token)
    server.set_auth(auth)
    role = Gst.Structure.new_empty("viewer")
    role.set_value("media.factory.access", True)
    role.set_value("media.factory.construct", True)
    permissions = GstRtspServer.RTSPPermissions.new()
    permissions.add_role_from_structure(role)
    return permissions


def main():
    options = parse_arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(options.address)
    server.set_service(str(options.port))
    permissions = guard(server, options) if options.user else None
    lower = {
        "tcp": GstRtsp.RTSPLowerTrans.TCP,
        "udp": GstRtsp.RTSPLowerTrans.UDP,
        "both": GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP,
    }[options.transport]
    for path, pipeline in mounts(options).items():
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {pipeline})")
        factory.set_shared(True)
        factory.set_latency(0)
        factory.set_protocols(lower)
        if permissions:
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)
    if server.attach(None) == 0:
        sys.exit(f"cannot listen on port {options.port}")
    print(f"rtsp://{options.address}:{server.get_bound_port()}", flush=True)
    if options.until_eof:

        def wait_for_end():
            sys.stdin.buffer.read()
            os._exit(0)

        threading.Thread(target=wait_for_end, daemon=True).start()
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
