/* Algorithms: which cuDNN engine runs a convolution, chosen by timing once and remembered on disk.
 *
 * A choice is keyed by the card, the library version and the convolution, and holds under the numerical rules
 * of this run (tf32). Building and querying plans runs in threads of its own, one handle each;
 * timing is sequential. */
#ifndef DT_GPU_ALGO_H
#define DT_GPU_ALGO_H

#include "cudnn_graph.h"

typedef struct dt_algo {
    dt_conv_spec spec;
    bool known;     /* a choice was made, or it is known that there is none */
    bool usable;    /* cuDNN has an engine */
    bool passing;   /* not usable for a reason that may be gone at the next start */
    double seconds; /* of one run; 0: not timed */
    dt_algo_choice choice;
    int64_t workspace_bytes;       /* valid with a plan */
    cudnnBackendDescriptor_t plan; /* NULL: not built */
    dt_dnn_builder graph_desc, plan_desc;
    char error[256]; /* why there is none */
} dt_algo;

/* cache_dir as in dt_backend_options. */
dt_status dt_algos_create(dt_cuda *cu, const char *cache_dir, dt_algos **out);
void dt_algos_destroy(dt_algos *e); /* accepts NULL */

/* Makes every convolution of the list known, and its plan built where `plans`. Those without an engine are
 * not an error. Writes the cache if something was learnt. */
dt_status dt_algos_require(dt_cuda *cu, int32_t n, const dt_conv_spec *spec, bool plans);
/* The cache for choices of other libraries: what is known of a key (NULL: nothing; valid until the next is
 * remembered), and a record to keep. Neither does anything under train.deterministic. save writes the
 * file. */
const dt_algo_record *dt_algos_recall(const dt_cuda *cu, const dt_conv_spec *key);
void dt_algos_remember(dt_cuda *cu, dt_algo_record r);
void dt_algos_save(dt_cuda *cu);
/* NULL if it was never required. */
const dt_algo *dt_algos_find(const dt_cuda *cu, const dt_conv_spec *spec);

#endif
