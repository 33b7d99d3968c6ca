/* What the checkpoint files share: the manifest as data, and the directory of checkpoints. Private to
 * src/train.
 *
 * checkpoint_manifest.c: JSON, both ways. checkpoint_eval.c: evaluation.json, ranking. checkpoint_dir.c:
 * names, scan, publish, retention. checkpoint_file.c: files written and read whole. checkpoint_writer.c
 * and checkpoint_load.c: the two users. */
#ifndef DT_TRAIN_CHECKPOINT_INTERNAL_H
#define DT_TRAIN_CHECKPOINT_INTERNAL_H

#include "data/h5.h"
#include "train/checkpoint.h"

#define DT_CKPT_STATE_FILE    "state.h5"
#define DT_CKPT_CONFIG_FILE   "config.toml"
#define DT_CKPT_MANIFEST_FILE "manifest.json"
#define DT_CKPT_EVAL_FILE     "evaluation.json"
#define DT_CKPT_BEST_LINK     "best"
#define DT_CKPT_EXPORT_FILE   "model.safetensors"
#define DT_CKPT_ONNX_FILE     "model.onnx"
#define DT_CKPT_DIR           "checkpoints" /* of a run */

enum {
    DT_CKPT_PATH_MAX = 1024,
    DT_CKPT_NAME_MAX = 64,
    DT_CKPT_TENSOR_NAME_MAX = 255,
    DT_CKPT_MANIFEST_BYTES_MAX = 64 << 20
};

/* ---- manifest ---- */

typedef struct dt_ckpt_entry {
    char *name;
    int32_t ndim;
    int64_t dim[DT_MAX_DIM];
    int64_t n_elem;
    uint64_t xxh3;        /* of its fp32 bytes */
    int64_t offset_bytes; /* of its data in state.h5; the writer's alone */
} dt_ckpt_entry;

/* What manifest.json says. All strings owned. */
typedef struct dt_ckpt_manifest {
    dt_ckpt_meta meta;
    int64_t state_bytes;
    uint64_t state_xxh3; /* of state.h5 */
    char *config_text;
    char *data_text; /* a JSON object; NULL: none */
    int32_t n_tensor;
    dt_ckpt_entry *tensor;
} dt_ckpt_manifest;

/* Product of the dims; 0 when one is below 1, ndim is not 0..4 or the bytes would overflow. */
int64_t dt_ckpt_count_elements(int32_t ndim, const int64_t *dim);
/* Path components of [A-Za-z0-9_.+:-], none of them empty, "." or "..". */
bool dt_ckpt_name_ok(const char *name);
/* JSON text, '\0'-terminated; caller frees. Refuses what dt_ckpt_manifest_parse would refuse. */
dt_status dt_ckpt_manifest_format(const dt_ckpt_manifest *m, char **text);
/* Strict: any bytes that dt_ckpt_manifest_format did not produce are DT_ERR_CHECKPOINT. Clear *out afterwards
 * even on error. */
dt_status dt_ckpt_manifest_parse(const char *text, size_t bytes, dt_ckpt_manifest *out);
void dt_ckpt_manifest_clear(dt_ckpt_manifest *m);
/* A JSON object as text that ends with its own XXH3 as member `checksum`, and back: any byte that was changed
 * is DT_ERR_CHECKPOINT. The caller frees *text, and json_decrefs *root, which has that member too. */
struct json_t;
dt_status dt_ckpt_json_format(struct json_t *root, const char *checksum, char **text);
dt_status dt_ckpt_json_parse(const char *text, size_t bytes, const char *checksum, struct json_t **root);
/* The meta data as root attributes of state.h5, for people who look at it alone. */
dt_status dt_ckpt_meta_store(dt_h5 *h, const dt_ckpt_meta *meta);

/* ---- files ---- */

/* snprintf into a path of DT_CKPT_PATH_MAX; DT_ERR_IO when it does not fit. */
dt_status dt_ckpt_path(char *out, const char *dir, const char *name);
/* Creates, writes, fsyncs and closes. */
dt_status dt_ckpt_file_write(const char *path, const char *text, size_t bytes);
/* pwrite of all bytes. */
dt_status dt_ckpt_file_put(int fd, const char *path, const void *data, int64_t bytes, int64_t offset_bytes);
/* Regular files only, at most max_bytes; '\0' appended; caller frees *text. */
dt_status dt_ckpt_file_read(const char *path, size_t max_bytes, char **text, size_t *bytes);
/* Length and XXH3-64 of a regular file. A length other than want_bytes (unless that is -1) fails before any
 * reading. */
dt_status dt_ckpt_file_hash(const char *path, int64_t want_bytes, int64_t *bytes, uint64_t *xxh3);
/* Index of the first value that is not finite; -1 if all are. */
int64_t dt_ckpt_find_nonfinite(const float *data, int64_t n_elem);

/* ---- evaluation ---- */

/* Writes `checkpoint`/evaluation.json, replacing one that is there and is not the same; durable. */
dt_status dt_ckpt_eval_write(const char *checkpoint, const dt_ckpt_eval *e);
/* *found false and DT_OK where there is none; DT_ERR_CHECKPOINT where it is damaged: *e is then
 * dt_ckpt_eval_none. */
dt_status dt_ckpt_eval_read(const char *checkpoint, dt_ckpt_eval *e, bool *found);
/* Steps up to `newest` of the checkpoints below dir that look whole and have a finite evaluation of their
 * own, best first, of equals the earlier; caller frees. */
dt_status dt_ckpt_rank(const char *dir, dt_best_metric metric, int64_t newest, int64_t **step,
                       int32_t *n_step);

/* ---- directory ---- */

/* "step-00001234" */
void dt_ckpt_step_name(char name[DT_CKPT_NAME_MAX], int64_t step);
/* Steps of all step-* directories below dir, descending; caller frees. DT_OK and none if dir does not
 * exist. */
dt_status dt_ckpt_list(const char *dir, int64_t **step, int32_t *n_step);
/* Creates a unique .tmp-<step>-<nonce> and locks it; the lock says that its writer lives. */
dt_status dt_ckpt_tmp_create(const char *dir, int64_t step, char name[DT_CKPT_NAME_MAX], int *lock_fd);
/* Removes dir/name and the files in it. Failures leave the rest for the next sweep. */
void dt_ckpt_tmp_remove(const char *dir, const char *name);
/* Renames dir/tmp to its step's name, replacing a checkpoint of that name, and makes it durable. */
dt_status dt_ckpt_publish(const char *dir, const char *tmp, int64_t step);
/* Removes .tmp-* whose writer is dead. */
dt_status dt_ckpt_sweep(const char *dir);
/* Whether the step's manifest is whole and its state of the right length; the state is not read. */
bool dt_ckpt_looks_good(const char *dir, int64_t step);
/* Lets the link to the best checkpoint up to `newest` lead there; removes it where the policy keeps none. */
dt_status dt_ckpt_link_best(const dt_ckpt_policy *policy, int64_t newest);
/* Removes checkpoints that the policy no longer keeps. `newest` was just written and always stays; later
 * steps, of another course of the run, are not touched. */
dt_status dt_ckpt_retain(const dt_ckpt_policy *policy, int64_t newest);

#endif
