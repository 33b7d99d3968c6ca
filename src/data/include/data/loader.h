/* The loader: worker threads that fill a ring of slots with the micro-batches of this rank, in order.
 *
 * What a run sees is a pure function of (seed, global sample counter). Sample counter t belongs to epoch t /
 * N and is sample perm(seed, epoch, t % N) of the N training samples. Step s covers counters [s*B, (s+1)*B),
 * B the global batch. They are dealt to M micro-batches: number m takes the counters with (t - s*B) % M == m,
 * in ascending order, rank r of W runs those with m % W == r in ascending order. So
 * the samples of a micro-batch depend on M alone, not on the number of ranks or threads. Augmentation draws
 * are Philox(seed, AUGMENT; epoch, sample). Evaluation: samples 0..N-1 in order, rank r of W takes i % W ==
 * r, centre crop, no randomness; the tail of the last batch has label -1 and n_valid says how many are real.
 * With whole_batches rank r takes batches r, r + W, ... of `batch` samples each instead, so that what a batch
 * holds does not depend on the number of ranks. */
#ifndef DT_DATA_LOADER_H
#define DT_DATA_LOADER_H

#include "core/backend.h"
#include "core/field.h"
#include "core/status.h"
#include "core/types.h"
#include "data/options.h"

typedef struct dt_dataset dt_dataset; /* an opened set, of whatever kind; immutable, shared */
typedef struct dt_loader dt_loader;

typedef struct dt_dataset_info {
    int64_t n_samples;
    const char *kind; /* "images", "arrays", "tokens", "synthetic": of fields */
    int32_t n_field;
    dt_field field[DT_FIELDS_MAX]; /* of a row as stored */
    /* Of images; 0 else. */
    int64_t height, width, channels; /* as stored; for JPEG the largest height and width */
    int64_t n_classes;
    bool jpeg;
    double mean[4], stddev[4]; /* per channel, 0..1; of the data, stored in the shard; 0.5/0.25 if absent */
    /* Of tokens; 0 else. */
    int64_t n_vocab;   /* ids are 0 to n_vocab - 1 */
    int64_t end_token; /* the id that ends a document; -1: there is none */
    int64_t n_tokens, n_documents;
    int64_t text_bytes; /* of all tokens, for bits per byte; -1: not known */
    bool isolated;      /* data.documents */
    bool masked;        /* the task hides tokens; the mask may be the last of the vocabulary */
    uint64_t tokenizer_xxh3;
} dt_dataset_info;

/* Opens a directory of shard-*.h5, one .h5 file, or "synthetic" (uses synthetic_* and image_size).
 * `path` relative to the working directory. The kind is told by the files. Validates shapes, types and label range
 * of every shard. */
dt_status dt_dataset_open(const dt_data_options *o, const char *path, dt_dataset **out);
void dt_dataset_close(dt_dataset *d); /* accepts NULL */
void dt_dataset_info_get(const dt_dataset *d, dt_dataset_info *out);
/* What a row is: "28x28x1, 10 classes", "x f32 [13], y f32 []". */
typedef struct dt_dataset_text {
    char s[512];
} dt_dataset_text;
dt_dataset_text dt_dataset_describe(const dt_dataset_info *info);
/* Owned by the dataset; "" when the data has no names. */
const char *dt_dataset_class_name(const dt_dataset *d, int64_t label);
/* Where a sample lies: the shard's file (owned by the dataset, "" where there is none) and the row in it. */
void dt_dataset_place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row);

typedef struct dt_loader_options {
    /* These three must outlive the loader. */
    const dt_data_options *data;
    const dt_augment_options *augment;
    const dt_dataset *dataset;
    bool eval;
    /* Of images, and ignored for other kinds, as is `augment`: */
    bool source_crop;     /* raw data: deliver whole stored images + aug rows; the device crops and flips */
    bool edits;           /* deliver images before their colours are edited + edit rows; the device edits */
    bool compressed;      /* JPEG data: deliver files + windows, the device decodes (data/jpeg_device.h) */
    int64_t out_h, out_w; /* of delivered images (stored size when source_crop) */
    uint64_t seed;
    bool whole_batches;   /* eval */
    bool forgiving;       /* a sample that cannot be read is told in its row, and does not end the reading */
    int64_t batch;        /* eval: rows per batch. train: ignored, see n_micro_all */
    int64_t global_batch; /* train */
    int64_t n_micro_all;  /* train: M >= world */
    int32_t rank, world;
    int64_t first_step; /* train: where to start */
    int64_t n_steps;    /* train: stop after this many steps; < 0: never */
    int32_t threads;    /* >= 1 */
    int32_t n_slots;    /* >= 2 */
    /* Slot memory, e.g. pinned. NULL: the loader allocates with aligned_alloc. */
    dt_status (*alloc)(void *arg, int64_t bytes, void **out);
    void (*free)(void *arg, void *ptr);
    void *alloc_arg;
} dt_loader_options;

enum { DT_ROW_ERROR_BYTES = 512 };

/* Of images the fields are "image" u8 [out_h, out_w, C] (the stored size when source_crop), "label" i32, -1 where
 * a row is padding, and when source_crop "aug" i32 [8] {x0, y0, w, h, flip, 0, 0, 0}, when edits "edit" (core/edit.h); of arrays those of the files,
 * zero where a row is padding; of tokens "tokens" i32 [T], "label" i32 [T], the token that follows or, where tokens are masked, the one that stood there, -1
 * where there is none, and
 * where documents are isolated "segment" i32 [T], which document of the row a token is of. Of text with classes a row is a document: "tokens", "label" i32, its class,
 * "lengths" i32, how many of the tokens are its own. The last one is always "valid" i32: 1 where the row holds a sample, else 0. */
typedef struct dt_batch {
    const dt_field *field;     /* [n_field], owned by the loader: what each of `data` holds */
    void *data[DT_FIELDS_MAX]; /* [rows] rows of that field */
    int32_t n_field;
    void *beside;        /* what of the rows is in no field; NULL: nothing. Compressed: a dt_jpeg_files */
    const char *error;   /* [rows, DT_ROW_ERROR_BYTES]: why a row has no sample, "" where it has; NULL unless
                          forgiving */
    int64_t rows;        /* rows of the slot (the micro-batch) */
    int64_t n_valid;     /* rows that hold samples */
    int64_t step, micro; /* train: which step and micro-batch of all ranks' */
    int32_t slot;        /* 0..n_slots-1 */
    bool last;           /* eval: no batch follows */
} dt_batch;

/* The rows of the field of that name, NULL where there is none. */
void *dt_batch_field(const dt_batch *b, const char *name);

/* Slot memory from the backend, pinned where it is a GPU's; the backend must outlive the loader. */
void dt_loader_pin(dt_loader_options *o, dt_backend *be);
/* Whether a loader can be opened so: DT_ERR_CONFIG, with the reason, where the data does not allow it. */
dt_status dt_loader_check(const dt_loader_options *o);
/* Starts the workers. */
dt_status dt_loader_open(const dt_loader_options *o, dt_loader **out);
/* Rows of micro-batch number i of this rank (0-based among its own). */
int64_t dt_loader_rows(const dt_loader_options *o, int64_t i);
/* Waits for the next batch of this rank in order. A worker's error (damaged sample, read error) is returned
 * here. `wait_s` (may be NULL) gets the time spent waiting. After the end: DT_ERR_INTERNAL. */
dt_status dt_loader_next(dt_loader *l, dt_batch *out, double *wait_s);
/* Gives the slot back; it may be refilled at once. */
void dt_loader_release(dt_loader *l, const dt_batch *b);
/* Stops and joins the workers. Accepts NULL. Returns within one sample's work even with full slots. */
void dt_loader_close(dt_loader *l);

#endif
