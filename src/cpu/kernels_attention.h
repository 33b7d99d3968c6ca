/* Attention on the CPU; used by backend.c only. A plan is made once per node and is plain data. */
#ifndef DT_CPU_KERNELS_ATTENTION_H
#define DT_CPU_KERNELS_ATTENTION_H

#include "core/backend.h"
#include "core/op.h"
#include "team.h"

typedef struct dt_cpu_attention {
    dt_attention_dims dims;
    int32_t threads;
    bool team;                   /* how threads are had: dt_cpu_crew */
    bool one;                    /* attention_one.c runs it */
    int64_t chunk_keys, n_chunk; /* of a gradient: keys that are one piece of work */
    int64_t shared_bytes;        /* first part of the workspace: dq by chunk of keys */
    int64_t thread_bytes;        /* then one part of this size per thread */
    int64_t workspace_bytes;     /* 64-byte aligned, no particular contents */
} dt_cpu_attention;

/* Of an ATTENTION or ATTENTION_BWD node; threads >= 1. Fails (DT_ERR_UNSUPPORTED) on sizes that overflow. */
dt_status dt_cpu_attention_plan(const dt_graph *g, const dt_node *n, int32_t threads, dt_cpu_attention *out);
/* Operands as the op's slots have them. The same bits for any number of threads. */
void dt_cpu_attention_run(const dt_cpu_attention *plan, const dt_binding *b);
void dt_cpu_attention_bwd_run(const dt_cpu_attention *plan, const dt_binding *b);

/* attention_one.c: one query a row, in evaluation. */
bool dt_cpu_attention_is_one(const dt_graph *g, const dt_node *n, const dt_attention_dims *a);
int64_t dt_cpu_attention_one_bytes(const dt_attention_dims *a); /* of a thread */
void dt_cpu_attention_one_run(const dt_cpu_attention *plan, const dt_binding *b);

#endif
