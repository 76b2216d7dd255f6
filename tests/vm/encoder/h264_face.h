/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gives the kernel's virtual codec the face of a stateful H.264 encoder, as small boards have one.
 *
 * What comes out is true constrained-baseline H.264 (ITU-T H.264, clauses 7.3 and 9.1) of the
 * simplest kind: a key frame holds every macroblock as plain samples (I_PCM, so it is lossless),
 * any other picture skips every macroblock, so the last key frame stays. Bit rates are accepted,
 * shown and not followed.
 */
#include <linux/bitops.h>
#include <linux/delay.h>
#include <linux/string.h>
#include <linux/workqueue.h>

/* What a test asks of the hardware, and what the hardware was asked: /sys/module/vh264/parameters */
static unsigned int broken_jobs;
module_param(broken_jobs, uint, 0644);
MODULE_PARM_DESC(broken_jobs, " so many of the next pictures end in an error");
static unsigned int job_ms;
module_param(job_ms, uint, 0644);
MODULE_PARM_DESC(job_ms, " every picture takes so long, in milliseconds");
static unsigned int seen_bitrate;
module_param(seen_bitrate, uint, 0444);
static unsigned int seen_forced;
module_param(seen_forced, uint, 0444);
static unsigned int seen_jobs;
module_param(seen_jobs, uint, 0444);
static unsigned int seen_wide;
module_param(seen_wide, uint, 0444);
MODULE_PARM_DESC(seen_wide, " of those, pictures of 640 pixels and more from side to side");

/* One encoder's own state. */
struct h264_face {
	struct work_struct work;
	u8 level_idc;
	bool repeats_headers;
	bool has_begun;
	u8 frame_num;
	u8 idr_pic_id;
};

/* The menu of V4L2_CID_MPEG_VIDEO_H264_LEVEL as level_idc (A.3; 1b is 9 here). */
static const u8 h264_levels[] = {
	10, 9, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51,
};

struct h264_writer {
	u8 *at;
	unsigned int zeros;	/* zero bytes in a row before `at` */
	unsigned int bits;	/* bits in `pending` */
	u8 pending;
};

/* One byte of a NAL unit's payload, escaped where it would look like a start code (7.4.1.1). */
static void h264_byte(struct h264_writer *w, u8 byte)
{
	if (w->zeros == 2 && byte <= 3) {
		*w->at++ = 3;
		w->zeros = 0;
	}
	*w->at++ = byte;
	w->zeros = byte ? 0 : w->zeros + 1;
}

static void h264_bits(struct h264_writer *w, u32 value, unsigned int count)
{
	while (count--) {
		w->pending = w->pending << 1 | (value >> count & 1);
		if (++w->bits == 8) {
			h264_byte(w, w->pending);
			w->bits = 0;
		}
	}
}

/* ue(v), clause 9.1. A se(v) of 0 is the same bit. */
static void h264_ue(struct h264_writer *w, u32 value)
{
	unsigned int length = fls(value + 1);

	h264_bits(w, 0, length - 1);
	h264_bits(w, value + 1, length);
}

static void h264_align(struct h264_writer *w)
{
	while (w->bits)
		h264_bits(w, 0, 1);
}

static void h264_begin(struct h264_writer *w, u8 header)
{
	static const u8 start_code[] = { 0, 0, 0, 1 };

	memcpy(w->at, start_code, sizeof(start_code));
	w->at += sizeof(start_code);
	*w->at++ = header;
	w->zeros = 0;
	w->bits = 0;
}

static void h264_end(struct h264_writer *w)
{
	h264_bits(w, 1, 1);
	h264_align(w);
}

static void h264_headers(struct h264_writer *w, const struct v4l2_fwht_state *s, u8 level_idc)
{
	unsigned int columns = DIV_ROUND_UP(s->visible_width, 16);
	unsigned int rows = DIV_ROUND_UP(s->visible_height, 16);
	bool is_cropped = columns * 16 != s->visible_width || rows * 16 != s->visible_height;

	h264_begin(w, 0x67);
	h264_bits(w, 66, 8);	/* profile_idc: baseline */
	h264_bits(w, 0xc0, 8);	/* constraint_set0, constraint_set1 */
	h264_bits(w, level_idc, 8);
	h264_ue(w, 0);		/* seq_parameter_set_id */
	h264_ue(w, 4);		/* log2_max_frame_num_minus4 */
	h264_ue(w, 2);		/* pic_order_cnt_type: output order is decoding order */
	h264_ue(w, 1);		/* max_num_ref_frames */
	h264_bits(w, 0, 1);
	h264_ue(w, columns - 1);
	h264_ue(w, rows - 1);
	h264_bits(w, 3, 2);	/* frame_mbs_only, direct_8x8_inference */
	h264_bits(w, is_cropped, 1);
	if (is_cropped) {
		h264_ue(w, 0);
		h264_ue(w, (columns * 16 - s->visible_width) / 2);
		h264_ue(w, 0);
		h264_ue(w, (rows * 16 - s->visible_height) / 2);
	}
	h264_bits(w, 0, 1);	/* no VUI */
	h264_end(w);

	h264_begin(w, 0x68);
	h264_ue(w, 0);		/* pic_parameter_set_id */
	h264_ue(w, 0);		/* seq_parameter_set_id */
	h264_bits(w, 0, 2);	/* CAVLC; no field order */
	h264_ue(w, 0);		/* one slice group */
	h264_ue(w, 0);		/* one reference in each list */
	h264_ue(w, 0);
	h264_bits(w, 0, 3);	/* no weighted prediction */
	h264_ue(w, 0);		/* three QP offsets */
	h264_ue(w, 0);
	h264_ue(w, 0);
	h264_bits(w, 4, 3);	/* deblocking_filter_control_present */
	h264_end(w);
}

static void h264_slice_header(struct h264_writer *w, struct h264_face *face, bool is_key)
{
	h264_ue(w, 0);			/* first_mb_in_slice */
	h264_ue(w, is_key ? 7 : 5);	/* all I, all P */
	h264_ue(w, 0);
	h264_bits(w, face->frame_num, 8);
	if (is_key) {
		h264_ue(w, face->idr_pic_id++ & 1);
		h264_bits(w, 0, 2);
	} else {
		h264_bits(w, 0, 3);
	}
	h264_ue(w, 0);			/* slice_qp_delta */
	h264_ue(w, 1);			/* no deblocking */
}

/* Where the samples of one component lie: at start + y * pitch + x * step. */
struct h264_component {
	const u8 *start;
	unsigned int pitch;
	unsigned int step;
	unsigned int width;
	unsigned int height;
};

static void h264_components(struct h264_component *c, const struct v4l2_fwht_state *s,
			    const u8 *src, u32 format)
{
	const u8 *chroma = src + s->stride * s->coded_height;
	unsigned int half = DIV_ROUND_UP(s->visible_width, 2);
	unsigned int low = DIV_ROUND_UP(s->visible_height, 2);

	c[0] = (struct h264_component){ src, s->stride, 1, s->visible_width, s->visible_height };
	switch (format) {
	case V4L2_PIX_FMT_YUYV:
		c[0].step = 2;
		c[1] = (struct h264_component){ src + 1, s->stride * 2, 4, half, low };
		c[2] = (struct h264_component){ src + 3, s->stride * 2, 4, half, low };
		break;
	case V4L2_PIX_FMT_YUV420:
		c[1] = (struct h264_component){ chroma, s->stride / 2, 1, half, low };
		c[2] = c[1];
		c[2].start += s->stride / 2 * (s->coded_height / 2);
		break;
	default: /* NV12, NV21 */
		c[1] = (struct h264_component){ chroma, s->stride, 2, half, low };
		c[2] = c[1];
		c[format == V4L2_PIX_FMT_NV21 ? 1 : 2].start += 1;
		break;
	}
}

static void h264_block(struct h264_writer *w, const struct h264_component *c,
		       unsigned int left, unsigned int top, unsigned int side)
{
	unsigned int x, y;

	for (y = top; y < top + side; y++) {
		const u8 *row = c->start + min(y, c->height - 1) * c->pitch;

		for (x = left; x < left + side; x++)
			h264_byte(w, row[min(x, c->width - 1) * c->step]);
	}
}

static void h264_samples(struct h264_writer *w, const struct v4l2_fwht_state *s,
			 const u8 *src, u32 format)
{
	struct h264_component c[3];
	unsigned int x, y;

	h264_components(c, s, src, format);
	for (y = 0; y < DIV_ROUND_UP(s->visible_height, 16); y++) {
		for (x = 0; x < DIV_ROUND_UP(s->visible_width, 16); x++) {
			h264_ue(w, 25);		/* mb_type: I_PCM */
			h264_align(w);
			h264_block(w, &c[0], x * 16, y * 16, 16);
			h264_block(w, &c[1], x * 8, y * 8, 8);
			h264_block(w, &c[2], x * 8, y * 8, 8);
		}
	}
}

/* Encodes one picture. Returns its bytes, or an error when a test broke the hardware. */
static int h264_encode(struct h264_face *face, struct v4l2_fwht_state *s, const u8 *src, u8 *dst,
		       u32 format, bool *is_key)
{
	struct h264_writer w = { .at = dst };

	seen_jobs++;
	seen_wide += s->visible_width >= 640;
	if (job_ms)
		msleep(job_ms);
	if (broken_jobs) {
		broken_jobs--;
		return -EIO;
	}
	*is_key = s->gop_cnt == 0;
	s->gop_cnt++;
	if (s->gop_size && s->gop_cnt >= s->gop_size)
		s->gop_cnt = 0;
	face->frame_num = *is_key ? 0 : face->frame_num + 1;
	if (*is_key && (face->repeats_headers || !face->has_begun))
		h264_headers(&w, s, face->level_idc);
	face->has_begun = true;
	h264_begin(&w, *is_key ? 0x65 : 0x41);
	h264_slice_header(&w, face, *is_key);
	if (*is_key)
		h264_samples(&w, s, src, format);
	else	/* mb_skip_run: all of them */
		h264_ue(&w, DIV_ROUND_UP(s->visible_width, 16) * DIV_ROUND_UP(s->visible_height, 16));
	h264_end(&w);
	return w.at - dst;
}
