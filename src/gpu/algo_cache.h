/* The algorithm cache: which engine runs a convolution on this card, remembered on disk. Knows no CUDA.
 *
 * The file is text, one line a choice, a checksum at the end; a damaged or foreign file is ignored. */
#ifndef DT_GPU_ALGO_CACHE_H
#define DT_GPU_ALGO_CACHE_H

#include "core/op.h"

typedef enum dt_conv_kind {
    DT_CONV_F = 0,        /* y = conv(x, w) */
    DT_CONV_F_STATS,      /* and per-channel sum and sum of squares of y */
    DT_CONV_SBR_STATS,    /* the same on relu(x * scale + shift); scale and shift in T */
    DT_CONV_D,            /* dx */
    DT_CONV_D_BN,         /* dx masked by relu of the BN of c, and the BN gradient's sums */
    DT_CONV_W,            /* dw */
    DT_CONV_SBR_W,        /* dw, on relu(x * scale + shift) */
    DT_CONV_F_APPLY,      /* y = conv * scale + shift, f32 */
    DT_CONV_F_APPLY_RES,  /* y = relu(conv * scale + shift + res) */
    DT_CONV_F_APPLY_RES2, /* y = relu(conv * scale + shift + res * rscale + rshift) */
    DT_CONV_D_ADD_MASK,   /* dx plus another gradient, masked by y > 0 */
    DT_CONV_F_BIAS,       /* y = conv + bias, bias in T */
    DT_CONV_F_BIAS_RELU,
    DT_CONV_F_BIAS_RES, /* y = conv + res + bias */
    DT_CONV_F_BIAS_RES_RELU,
    DT_CONV_KIND_COUNT
} dt_conv_kind;

/* Products of cuBLASLt that the cache knows too, by the same key: n rows, c to k channels (blas.h). */
typedef enum dt_blas_kind {
    DT_BLAS_GRAM = DT_CONV_KIND_COUNT,
    DT_BLAS_CROSS,
    DT_BLAS_CROSS_SUMS,
    DT_BLAS_DX,
    DT_BLAS_APPLY,
    DT_BLAS_APPLY_RELU,
    DT_BLAS_APPLY_RES,
    DT_BLAS_APPLY_RES_RELU,
    DT_BLAS_DENSE,      /* r: the op, s: what it ends in, groups: its parts (dense_blas.c) */
    DT_BLAS_END,        /* with what it ends in as r, s and p (blas_end.c) */
    DT_CACHE_ATTENTION, /* cuDNN's: h places of k heads of c (attention_dnn.c) */
    DT_CACHE_ATTENTION_BWD,
    DT_CACHE_KIND_COUNT
} dt_blas_kind;

typedef struct dt_conv_spec {
    int32_t kind;  /* dt_conv_kind; of a cache's key also dt_blas_kind */
    int32_t dtype; /* dt_dtype */
    dt_conv_dims d;
} dt_conv_spec;

enum { DT_KNOB_MAX = 24 };

/* How an engine was configured: enough to build its plan again. */
typedef struct dt_algo_choice {
    int64_t engine;
    int32_t n_knob;
    int32_t knob[DT_KNOB_MAX];
    int64_t value[DT_KNOB_MAX];
} dt_algo_choice;

typedef struct dt_algo_record {
    dt_conv_spec spec;
    int32_t rules; /* 1: tf32 */
    bool usable;
    double seconds;
    dt_algo_choice choice;
} dt_algo_record;

typedef struct dt_algo_cache {
    char path[1024]; /* "": no place for a file */
    char card[192];  /* first line's key: card, library versions */
    int32_t n, cap;
    dt_algo_record *record;
} dt_algo_cache;

void dt_algo_cache_open(dt_algo_cache *c, const char *dir, const char *card_name, size_t cudnn_version);
const dt_algo_record *dt_algo_cache_find(const dt_algo_cache *c, const dt_conv_spec *spec, int32_t rules);
/* Replaces or adds; false without memory. */
bool dt_algo_cache_put(dt_algo_cache *c, const dt_algo_record *r);
/* Adds what it knows to the file: written beside and renamed; failure only costs time at the next start. */
void dt_algo_cache_write(const dt_algo_cache *c);
void dt_algo_cache_close(dt_algo_cache *c);

#endif
