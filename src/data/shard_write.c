/* Writing one shard: equal content gives equal bytes, and the final name appears only when all of it is on
 * disk. */
#include "shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "recipe.h"

static dt_status write_samples(dt_h5 *h, const dt_shard_content *k) {
    int64_t n = k->n_samples, n_offsets = n + 1;
    if (!k->jpeg)
        return dt_h5_write(h, "images", DT_DTYPE_U8, 4, (int64_t[]){n, k->height, k->width, k->channels},
                           k->bytes);
    DT_TRY(dt_h5_attr_set_i64(h, "channels", k->channels));
    DT_TRY(dt_h5_write(h, "jpeg/bytes", DT_DTYPE_U8, 1, &k->offset[n], k->bytes));
    DT_TRY(dt_h5_write(h, "jpeg/offsets", DT_DTYPE_I64, 1, &n_offsets, k->offset));
    DT_TRY(dt_h5_write(h, "jpeg/height", DT_DTYPE_I32, 1, &n, k->jpeg_height));
    return dt_h5_write(h, "jpeg/width", DT_DTYPE_I32, 1, &n, k->jpeg_width);
}

static dt_status write_checksums(dt_h5 *h, const dt_shard_content *k) {
    int64_t n = k->n_samples, sample_bytes = k->height * k->width * k->channels;
    int64_t *checksum = malloc((size_t)n * sizeof *checksum);
    if (!checksum) return dt_fail(DT_ERR_MEMORY, "out of memory for checksums");
    for (int64_t i = 0; i < n; i++) {
        int64_t begin = k->jpeg ? k->offset[i] : i * sample_bytes;
        int64_t bytes = k->jpeg ? k->offset[i + 1] - begin : sample_bytes;
        checksum[i] = dt_sample_checksum(k->bytes + begin, bytes, k->label[i]);
    }
    dt_status status = dt_h5_write(h, "checksum", DT_DTYPE_I64, 1, &n, checksum);
    free(checksum);
    return status;
}

/* What was not done leaves no attribute. */
static dt_status write_recipe(dt_h5 *h, dt_recipe r) {
    for (int i = 0; i < DT_RECIPE_ROWS; i++) {
        const int64_t value = *dt_recipe_field(&r, i);
        if (value != 0) DT_TRY(dt_h5_attr_set_i64(h, dt_recipe_table[i].name, value));
    }
    return DT_OK;
}

static dt_status write_all(dt_h5 *h, const dt_shard_content *k) {
    DT_TRY(dt_h5_attr_set_str(h, "format", DT_SHARD_FORMAT));
    DT_TRY(dt_h5_attr_set_i64(h, "version", DT_SHARD_VERSION));
    DT_TRY(dt_h5_attr_set_str(h, "split", k->split));
    DT_TRY(dt_h5_attr_set_i64(h, "count", k->n_samples));
    DT_TRY(dt_h5_attr_set_i64(h, "skipped", k->n_skipped));
    DT_TRY(dt_h5_attr_set_i64(h, "classes", k->n_classes));
    if (k->class_names) DT_TRY(dt_h5_attr_set_str(h, "class_names", k->class_names));
    DT_TRY(dt_h5_attr_set_str(h, "source", k->source));
    DT_TRY(write_recipe(h, k->recipe));
    DT_TRY(write_samples(h, k));
    DT_TRY(dt_h5_write(h, "labels", DT_DTYPE_I32, 1, &k->n_samples, k->label));
    DT_TRY(write_checksums(h, k));
    int64_t stats[2 * DT_CHANNELS_MAX];
    memcpy(stats, k->sum, (size_t)k->channels * sizeof *stats);
    memcpy(stats + k->channels, k->sum_sq, (size_t)k->channels * sizeof *stats);
    DT_TRY(dt_h5_attr_set_i64(h, "stats_pixels", k->stats_pixels));
    return dt_h5_write(h, "stats", DT_DTYPE_I64, 2, (int64_t[]){2, k->channels}, stats);
}

dt_status dt_shard_write(const char *dir, const char *name, const dt_shard_content *content) {
    char *temporary = NULL, *path = NULL;
    dt_h5 *h = NULL;
    dt_status status = DT_OK;
    if (asprintf(&temporary, "%s/" DT_TEMPORARY_PREFIX "%s", dir, name) < 0 ||
        asprintf(&path, "%s/%s", dir, name) < 0)
        return dt_fail(DT_ERR_MEMORY, "%s/%s: out of memory", dir, name);
    DT_TRY_GOTO(status, dt_h5_create(temporary, &h), done);
    status = write_all(h, content);
    dt_status closed = dt_h5_close(h);
    if (status == DT_OK) status = closed;
    if (status == DT_OK) status = dt_file_publish(temporary, path);
    if (status != DT_OK) unlink(temporary);
done:
    free(temporary);
    free(path);
    return status;
}
