// Watches a camera with werift, WebRTC in TypeScript.   usage: node werift_viewer.mjs ENDPOINT SECONDS

import { setTimeout as sleep } from 'node:timers/promises';
import { RTCPeerConnection, RTCRtpCodecParameters } from 'werift';
import { Figures, Session } from './whep.mjs';

const [endpoint, seconds] = process.argv.slice(2);
const h264 = new RTCRtpCodecParameters({
  mimeType: 'video/H264',
  clockRate: 90000,
  payloadType: 104,
  rtcpFeedback: [{ type: 'nack' }, { type: 'nack', parameter: 'pli' }],
  parameters: 'profile-level-id=42e01f;packetization-mode=1;level-asymmetry-allowed=1',
});
const peer = new RTCPeerConnection({
  iceServers: [],
  iceUseIpv6: false,
  iceAdditionalHostAddresses: ['127.0.0.1'],
  codecs: { video: [h264] },
});
const session = new Session(endpoint);
const figures = new Figures('werift', session);

const video = peer.addTransceiver('video', { direction: 'recvonly' });
video.onTrack.subscribe((track) => {
  track.onReceiveRtp.subscribe(({ header, payload }) => figures.onRtp(header.sequenceNumber, header.marker, payload));
});
const candidates = [];
peer.onIceCandidate.subscribe((candidate) => candidate && candidates.push(candidate.candidate));

await peer.setLocalDescription(await peer.createOffer());
const answer = await session.open(peer.localDescription.sdp);
// Only what this machine's loopback reaches: nothing here may go beyond it.
const found = candidates.length > 0 ? candidates : [...peer.localDescription.sdp.matchAll(/^a=(candidate:.*?)\r?$/gm)].map((m) => m[1]);
await session.trickle(found.map((c) => (c.startsWith('candidate:') ? c : `candidate:${c}`)).filter((c) => c.includes(' 127.')), true);
await peer.setRemoteDescription({ type: 'answer', sdp: answer });
await sleep(seconds * 1000);
const state = peer.connectionState;
const deleted = await session.close();
figures.report(state, deleted);
await Promise.race([peer.close(), sleep(1000)]);
process.exit(0);
