/* A set seen as samples 0..n-1: what the loader, the checks and the benchmark read from. */
#ifndef DT_DATA_DATASET_H
#define DT_DATA_DATASET_H

#include "arrays.h"
#include "data/loader.h"
#include "kind.h"
#include "shard.h"
#include "token_shard.h"

struct dt_dataset {
    const dt_data_row *row;
    dt_dataset_info info;
    char *path;
    dt_arrays arrays; /* of that kind */
    dt_token_set tokens;
    /* images */
    int64_t n_shards;
    dt_shard *shard;
    int64_t *first;    /* [n_shards + 1] first sample of each shard */
    char **class_name; /* [n_classes] or NULL */
    uint8_t *noise;    /* the synthetic set: bytes that its images are cut from; NULL otherwise */
    bool has_stats;
    dt_recipe recipe;
    struct dt_inputs *inputs; /* samples that are named (inputs.h), NULL else; there are no shards then */
};

typedef struct dt_sample {
    const dt_shard *shard; /* NULL: synthetic */
    int64_t row;           /* in the shard; synthetic: offset in the noise */
    int32_t label;
    int64_t height, width;
    int64_t n_bytes;
    bool jpeg;
    const struct dt_input_file *file; /* of its own, read by fetch.c; NULL: none */
    const uint8_t *bytes;             /* in memory already, borrowed; NULL: not */
} dt_sample;

/* Opens a directory or a file, not a generated set. */
dt_status dt_dataset_open_path(const char *path, dt_dataset **out);
/* DT_ERR_DATA where it is of another kind. */
dt_status dt_dataset_need_images(const dt_dataset *d, const char *path);
/* Of arrays and generated fields: all that training has must be there in validation. */
dt_status dt_fields_agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                          dt_data_note *note);
/* synthetic_fields.c: the fields that o->synthetic_fields names. */
dt_status dt_synthetic_open(const dt_data_options *o, dt_dataset *d);

void dt_dataset_locate(const dt_dataset *d, int64_t sample, dt_sample *out);
/* Bytes [begin, begin + n) of the sample. */
dt_status dt_sample_read(const dt_dataset *d, const dt_sample *s, int64_t begin, int64_t n, uint8_t *dst);

/* Splits newline-separated names into n of them; NULL when there are not n. Free with dt_class_names_free. */
char **dt_class_names_split(const char *text, int64_t n);
void dt_class_names_free(char **name, int64_t n);

#endif
