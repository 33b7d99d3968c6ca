/* cuDNN operation graphs for convolutions and their fusions, built through the backend (graph) API.
 *
 * A convolution is named by what it computes (kind), its dtype and its dimensions. Everything is NHWC / KRSC,
 * packed, 16-byte aligned. No graph knows a device pointer: pointers come at binding, by unique id. */
#ifndef DT_GPU_CUDNN_GRAPH_H
#define DT_GPU_CUDNN_GRAPH_H

#include "algo_cache.h"
#include "gpu.h"

/* Unique ids of the real tensors; x stands for dx in a dgrad, y for dy in a gradient, w for dw in a wgrad. */
typedef enum dt_conv_uid {
    DT_UID_X = 0,
    DT_UID_W,
    DT_UID_Y,
    DT_UID_SCALE,
    DT_UID_SHIFT,
    DT_UID_SUM,
    DT_UID_SQSUM,
    DT_UID_C,
    DT_UID_MEAN,
    DT_UID_INVSTD,
    DT_UID_GAMMA,
    DT_UID_BETA,
    DT_UID_DGAMMA,
    DT_UID_DBETA,
    DT_UID_EQ_DY,
    DT_UID_EQ_X,
    DT_UID_EQ_BIAS,
    DT_UID_KSCALE,
    DT_UID_KSHIFT,
    DT_UID_RES,
    DT_UID_RSCALE,
    DT_UID_RSHIFT,
    DT_UID_DX2,
    DT_UID_MASK,
    DT_UID_BIAS,
    DT_UID_COUNT
} dt_conv_uid;

/* "fprop+stats 3x3/1 64->64 56x56 n256 f16" */
void dt_conv_spec_text(const dt_conv_spec *spec, char *out, size_t size);
/* Bit u set: the kind has a real tensor of that id. */
uint32_t dt_conv_kind_uids(dt_conv_kind kind);
/* Elements of the tensor of that id. */
int64_t dt_conv_uid_elems(const dt_conv_spec *spec, dt_conv_uid uid);
bool dt_conv_uid_is_f32(dt_conv_uid uid); /* else of the spec's dtype */

enum { DT_DESC_MAX = 128 };

/* Owned descriptors and the first error of a chain of calls: later calls do nothing, so a graph reads as a
 * list of operations and is checked once. */
typedef struct dt_dnn_builder {
    cudnnHandle_t handle;
    cudnnStatus_t st;
    const char *what; /* the call that failed */
    bool passing;     /* a call failed for a reason that may be gone at the next start: memory, libraries */
    int32_t n_desc;
    cudnnBackendDescriptor_t desc[DT_DESC_MAX];
} dt_dnn_builder;

cudnnBackendDescriptor_t dt_dnn_make(dt_dnn_builder *b, cudnnBackendDescriptorType_t type);
void dt_dnn_set(dt_dnn_builder *b, cudnnBackendDescriptor_t desc, cudnnBackendAttributeName_t name,
                cudnnBackendAttributeType_t type, int64_t n, const void *value);
void dt_dnn_finalize(dt_dnn_builder *b, cudnnBackendDescriptor_t desc, const char *what);
void dt_dnn_release(dt_dnn_builder *b); /* destroys the descriptors */

/* The finalized operation graph of a convolution; NULL with b->st set where cuDNN refuses it. */
cudnnBackendDescriptor_t dt_dnn_conv_graph(dt_dnn_builder *b, const dt_conv_spec *spec);

/* A graph of operations that are finalized; NULL likewise. */
cudnnBackendDescriptor_t dt_dnn_graph(dt_dnn_builder *b, int32_t n_op, const cudnnBackendDescriptor_t *op);

/* The plan of a choice; NULL with b->st set where it cannot be built (another library version, say). */
cudnnBackendDescriptor_t dt_dnn_plan(dt_dnn_builder *b, cudnnBackendDescriptor_t graph,
                                     const dt_algo_choice *c, int64_t *workspace_bytes);
/* Up to `max` choices of a heuristic mode that pass the numerical filter, best first; returns their
 * number. */
int32_t dt_dnn_choices(dt_dnn_builder *b, cudnnBackendDescriptor_t graph, cudnnBackendHeurMode_t mode,
                       uint32_t refused_notes, int32_t max, dt_algo_choice *out);

/* Pointers for one execution. uids: bit mask; ptr is indexed by dt_conv_uid. */
cudnnBackendDescriptor_t dt_dnn_pack(dt_dnn_builder *b, uint32_t uids, void *const *ptr, void *workspace);
/* The same by ids of any kind. */
cudnnBackendDescriptor_t dt_dnn_pack_of(dt_dnn_builder *b, int64_t n, const int64_t *uid, void *const *data,
                                        void *workspace);

#endif
