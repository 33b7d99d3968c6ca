/* A picture of augmented samples: `dtrain data show`. */
#ifndef DT_DATA_SHOW_H
#define DT_DATA_SHOW_H

#include "data/loader.h"

enum { DT_SHOW_SAMPLES_MAX = 4096 };

/* Writes the first n samples of training to `path`, a PNG: in rows, as the network sees them, erased and mixed too (with
 * each other, as one micro-batch). The data is o->train; images of 1 or 3 channels. 1 <= n <= DT_SHOW_SAMPLES_MAX. */
dt_status dt_data_show(const dt_data_options *o, const dt_augment_options *augment, uint64_t seed, int64_t n,
                       const char *path);

#endif
