//! Against VLC's RTSP server: another make, and one that speaks UDP only.

use pinhole::config::Transport;
use pinhole::media::DownReason;

use crate::servers::Server;
use crate::watch::{Watch, camera, with_transport};

#[tokio::test]
async fn vlc_refuses_tcp_and_plays_over_udp() {
    let Some(server) = Server::vlc() else { return };
    let mut watch = Watch::open(&camera(&server.url));
    let note = watch.note().await;
    assert!(note.contains("RTSP/UDP"), "{note}");
    let units = watch.units(50).await;
    assert!(units[0].is_key_frame);

    let tcp = with_transport(camera(&server.url), Transport::Tcp);
    let down = Watch::open(&tcp).down().await;
    assert_eq!(down.reason, DownReason::Unsupported);
    assert!(down.detail.contains("461"), "{}", down.detail);
}
