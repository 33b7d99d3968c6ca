/* Engines: which cuDNN engine runs a convolution, chosen by timing once and remembered on disk.
 *
 * A choice is keyed by the card, the library version and the convolution, and holds under the numerical rules
 * of this run (tf32). Building and querying plans runs in threads of its own, one handle each;
 * timing is sequential. */
#ifndef DT_GPU_ENGINE_H
#define DT_GPU_ENGINE_H

#include "cudnn_graph.h"

typedef struct dt_engine {
    dt_conv_spec spec;
    bool known;     /* a choice was made, or it is known that there is none */
    bool usable;    /* cuDNN has an engine */
    bool passing;   /* not usable for a reason that may be gone at the next start */
    double seconds; /* of one run; 0: not timed */
    dt_engine_choice choice;
    int64_t workspace_bytes;       /* valid with a plan */
    cudnnBackendDescriptor_t plan; /* NULL: not built */
    dt_dnn_builder graph_desc, plan_desc;
    char error[256]; /* why there is none */
} dt_engine;

/* cache_dir as in dt_backend_options. */
dt_status dt_engines_create(dt_cuda *cu, const char *cache_dir, dt_engines **out);
void dt_engines_destroy(dt_engines *e); /* accepts NULL */

/* Makes every convolution of the list known, and its plan built where `plans`. Those without an engine are
 * not an error. Writes the cache if something was learnt. */
dt_status dt_engines_require(dt_cuda *cu, int32_t n, const dt_conv_spec *spec, bool plans);
/* The cache for choices of other libraries: what is known of a key (NULL: nothing; valid until the next is
 * remembered), and a record to keep. Neither does anything under train.deterministic. save writes the file.
 */
const dt_engine_record *dt_engines_recall(const dt_cuda *cu, const dt_conv_spec *key);
void dt_engines_remember(dt_cuda *cu, dt_engine_record r);
void dt_engines_save(dt_cuda *cu);
/* NULL if it was never required. */
const dt_engine *dt_engines_find(const dt_cuda *cu, const dt_conv_spec *spec);

#endif
