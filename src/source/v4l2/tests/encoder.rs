//! An encoder that does as it is told.

use super::*;

pub(super) struct FakeEncoder {
    pub(super) world: Arc<World>,
    pub(super) wants_key_frame: bool,
    pub(super) kept: Option<Unit>,
}

impl Encoder for FakeEncoder {
    fn encode(&mut self, picture: &Picture<'_>) -> Result<Coded, EncodeError> {
        let left = &self.world.refused_pictures;
        if left
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return Err(EncodeError::Bitrate(0));
        }
        let brightness = picture.planes()[0].data[0];
        let mut coded = self.world.coded.lock().unwrap();
        coded.push((picture.ticks, brightness));
        drop(coded);
        let unit = Unit {
            data: vec![0, 0, 1, 0x65].into(),
            is_key_frame: std::mem::take(&mut self.wants_key_frame),
            ticks: picture.ticks,
            taken: picture.taken,
        };
        if self.world.is_pipelined.load(SeqCst) {
            let earlier = self.kept.replace(unit);
            return Ok(earlier.map_or(Coded::Pending, Coded::Unit));
        }
        Ok(Coded::Unit(unit))
    }

    fn drain(&mut self) -> Result<Vec<Unit>, EncodeError> {
        Ok(self.kept.take().into_iter().collect())
    }

    fn force_key_frame(&mut self) {
        self.wants_key_frame = true;
        self.world.key_frames_asked.fetch_add(1, SeqCst);
    }

    fn set_bitrate(&mut self, bps: u32) -> Result<(), EncodeError> {
        self.world.bitrate.store(bps, SeqCst);
        Ok(())
    }

    fn set_frame_rate(&mut self, _: u32) -> Result<(), EncodeError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "fake"
    }

    fn poll_news(&mut self) -> Option<News> {
        let falls = self.world.falls.swap(false, SeqCst);
        falls.then(|| News::Fault("no answer".to_owned()))
    }
}
