/* An export while it goes on. Private to src/onnx. */
#ifndef DT_ONNX_EXPORT_PRIVATE_H
#define DT_ONNX_EXPORT_PRIVATE_H

#include "core/op.h"
#include "formats/onnx_draft.h"
#include "model/onnx_export.h"

/* How the model has a value. */
typedef enum dt_onnx_layout {
    DT_ONNX_SAME = 0, /* as the graph has it */
    DT_ONNX_CHANNELS, /* [N,H,W,C]: [N,C,H,W] */
    DT_ONNX_ROWS,     /* [..., H W C] over an image in a row: [..., C H W] */
    DT_ONNX_TURNED,   /* a matrix, transposed */
    DT_ONNX_COLUMN,   /* [C]: [C,1,1] */
    DT_ONNX_LAYOUTS
} dt_onnx_layout;

typedef struct dt_onnx_view {
    const char *name[DT_ONNX_LAYOUTS]; /* NULL: not in this layout, yet */
    dt_onnx_layout first;              /* that it was made in */
    int64_t pixels;                    /* ROWS: H W */
} dt_onnx_view;

/* A mask that several attentions share. */
typedef struct dt_onnx_mask {
    dt_vid lengths, q_lengths, segments;
    int64_t t, s, window;
    bool causal;
    const char *name;
} dt_onnx_mask;

/* Sines and cosines of places. */
typedef struct dt_onnx_turns {
    float theta;
    int64_t steps, dims;
    const char *name[2];
} dt_onnx_turns;

enum { DT_ONNX_SHARED = 8 };

typedef struct dt_onnx_exporter {
    const dt_onnx_export *o;
    const dt_graph *g;
    dt_onnx_draft d;
    dt_onnx_view *view; /* of each value */
    bool *needed;       /* each node */
    bool *within;       /* each node: part of the recurrence that reads it */
    dt_onnx_mask mask[DT_ONNX_SHARED];
    dt_onnx_turns turns[DT_ONNX_SHARED];
    int32_t n_mask, n_turns;
} dt_onnx_exporter;

/* The value's name in a layout, with a node that makes it so where there is none. */
const char *dt_onnx_see(dt_onnx_exporter *x, dt_vid v, dt_onnx_layout layout);
/* The same of an operand, "" where the slot is empty. */
const char *dt_onnx_see_in(dt_onnx_exporter *x, const dt_node *n, int32_t slot, dt_onnx_layout layout);
/* The value that it now has under a name. */
void dt_onnx_set(dt_onnx_exporter *x, dt_vid v, dt_onnx_layout layout, const char *name);
/* The layout to work in where any is as good: that in which operand 0 was made. */
dt_onnx_layout dt_onnx_prefer(const dt_onnx_exporter *x, const dt_node *n);
/* Where dimension d of a value is in a layout. */
int32_t dt_onnx_axis_in(const dt_value *v, dt_onnx_layout layout, int32_t d);
/* The name of output 0. */
const char *dt_onnx_result(const dt_onnx_exporter *x, const dt_node *n);
/* x in another shape, of the graph's value v; batch dimensions stay open. */
const char *dt_onnx_reshape(dt_onnx_exporter *x, const char *name, const char *from, int32_t ndim,
                            const int64_t *dim, bool same_batch);

static inline const dt_value *dt_onnx_value(const dt_onnx_exporter *x, dt_vid v) {
    return &x->g->value[v];
}

typedef void dt_onnx_writer(dt_onnx_exporter *x, const dt_node *n);
/* export_sequence.c */
dt_onnx_writer dt_onnx_put_attention, dt_onnx_put_recurrent, dt_onnx_put_rope, dt_onnx_put_position,
    dt_onnx_put_embed, dt_onnx_put_one_hot;
/* export_ops.c: NULL where ONNX has nothing for the op */
extern dt_onnx_writer *const dt_onnx_writers[DT_OP_COUNT];

#endif
