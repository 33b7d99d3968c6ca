/* Writer of TensorBoard event files: scalars and texts, in TFRecord frames of protobuf messages (events.proto). */
#ifndef DT_TRAIN_TFEVENTS_H
#define DT_TRAIN_TFEVENTS_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_tfevents dt_tfevents;

typedef struct dt_tfscalar {
    const char *tag; /* "train/loss" */
    double value;
} dt_tfscalar;

/* Starts a new file events.out.tfevents.<time>.<host>.<pid> in `dir` that sorts after those already there,
 * and tells TensorBoard to forget what they hold of steps >= first_step (0: all). */
dt_status dt_tfevents_open(const char *dir, int64_t first_step, dt_tfevents **out);
/* One event with n scalars. Buffered. DT_ERR_IO as dt_append_record. */
dt_status dt_tfevents_write(dt_tfevents *t, int64_t step, int n, const dt_tfscalar *scalars);
/* One event with a text of n bytes, UTF-8, which TensorBoard shows as Markdown. */
dt_status dt_tfevents_text(dt_tfevents *t, int64_t step, const char *tag, const char *text, size_t n);
dt_status dt_tfevents_flush(dt_tfevents *t, bool durable);
/* Closes without writing the buffer out. Accepts NULL. */
void dt_tfevents_close(dt_tfevents *t);

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), and TFRecord's mask of it: rotated right by 15, plus
 * 0xa282ead8. */
uint32_t dt_crc32c(const void *data, size_t size);
uint32_t dt_crc32c_masked(const void *data, size_t size);

#endif
