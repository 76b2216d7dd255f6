// Watches a camera with libdatachannel (libjuice, OpenSSL).   usage: node libdatachannel_viewer.mjs ENDPOINT SECONDS
//
// Trickles each candidate by a PATCH of its own as libjuice finds it. Cheap: it decodes nothing,
// so it is also the viewer of hostile.py.   env VIEWER_ADDRESS: where it is (default 127.0.0.1)

import { setTimeout as sleep } from 'node:timers/promises';
import datachannel from 'node-datachannel';
import { Figures, Session } from './whep.mjs';

const [endpoint, seconds] = process.argv.slice(2);
const session = new Session(endpoint);
const figures = new Figures('libdatachannel', session);
const peer = new datachannel.PeerConnection('viewer', { iceServers: [], bindAddress: process.env.VIEWER_ADDRESS ?? '127.0.0.1' });
const offered = new Promise((done) => { peer.onLocalDescription((sdp) => done(sdp)); });
const early = [];
let onCandidate = (candidate) => early.push(candidate);
peer.onLocalCandidate((candidate) => onCandidate(candidate.replace(/^a=/, '')));

const video = new datachannel.Video('pictures', 'RecvOnly');
video.addH264Codec(105, 'profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1');
const track = peer.addTrack(video);
track.setMediaHandler(new datachannel.RtcpReceivingSession());
track.onMessage((packet) => {
  if (packet[1] >= 192 && packet[1] <= 223) return; // RTCP (RFC 5761, section 4)
  const words = packet[0] & 0x10 ? 1 + packet.readUInt16BE(14 + 4 * (packet[0] & 15)) : 0;
  const header = 12 + 4 * (packet[0] & 15) + 4 * words;
  if (packet.length > header) figures.onRtp(packet.readUInt16BE(2), packet[1] > 127, packet.subarray(header));
});
peer.setLocalDescription();

const answer = await session.open(await offered);
peer.setRemoteDescription(answer, 'answer');
const patches = early.map((candidate) => session.trickle([candidate], false));
onCandidate = (candidate) => patches.push(session.trickle([candidate], false));
await sleep(seconds * 1000);
await Promise.all(patches);
const state = peer.state();
figures.report(state, await session.close());
peer.close();
datachannel.cleanup();
process.exit(0);
