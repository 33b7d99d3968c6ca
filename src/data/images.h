/* Images: shards of pixels or JPEG files, generated ones, and files that are named (inputs.h). */
#ifndef DT_DATA_IMAGES_H
#define DT_DATA_IMAGES_H

#include "dataset.h"

dt_status dt_images_open(dt_dataset *d, const dt_shard_set *set);
dt_status dt_images_open_synthetic(const dt_data_options *o, dt_dataset *d);
void dt_images_close(dt_dataset *d);
void dt_images_place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row);

/* images_agree.c */
dt_status dt_images_check_config(const dt_data_options *o, int64_t classes, const char *path,
                                 const dt_dataset *d);
dt_status dt_images_agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                          dt_data_note *note);

#endif
