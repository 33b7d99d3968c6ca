/* The memory plan: live ranges, and an offset in the activation arena for every value and workspace. Offline,
 * greedy by size: exact live ranges are known, so the arena is allocated once and never fragments. */
#ifndef DT_CORE_PLAN_H
#define DT_CORE_PLAN_H

#include "core/graph.h"

typedef struct dt_plan {
    int64_t act_bytes;   /* size of the activation arena */
    int64_t naive_bytes; /* sum of all its values: what it would be without reuse */
    int64_t floor_bytes; /* largest sum of live values at any node: no plan can be smaller */
    int32_t peak_node;   /* where that is */
    int64_t input_bytes; /* one input slot */
    int64_t state_bytes;
    int64_t cache_bytes;
} dt_plan;

/* Bytes that a running statistic takes in its arena: aligned alike on every backend, because ranks of
 * different backends exchange that arena and checkpoints hold it. */
int64_t dt_state_bytes(const dt_value *v);

/* Sets arena, offset_bytes, first and last of every value. GRAD and PARAM offsets follow from axis_offset.
 * Values other than STATE are aligned to align_bytes and followed by guard_bytes (0 in production; tests put
 * sentinels there).
 * When `reuse` is false no two values share memory: the reference for tests. */
dt_status dt_plan_build(dt_graph *g, int64_t align_bytes, int64_t guard_bytes, bool reuse, dt_plan *out);

#endif
