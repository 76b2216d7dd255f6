#!/bin/sh
# A camera made of VLC: a server of another make, which speaks UDP only (461 to TCP).
# Loops CLIP (H.264, passed through untouched) until killed.
#
# usage: vlc_camera.sh PORT CLIP      ->  rtsp://127.0.0.1:PORT/cam
#
# VLC refuses to run as root: then it runs as nobody, which must be able to read CLIP.
# Debian: vlc-bin vlc-plugin-base
set -eu
port=$1
clip=$2
set -- cvlc --quiet --no-dbus --loop "$clip" \
    --sout "#rtp{sdp=rtsp://127.0.0.1:$port/cam}" --sout-keep --sout-all
if [ "$(id -u)" = 0 ]; then
    exec setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/tmp "$@"
fi
exec "$@"
