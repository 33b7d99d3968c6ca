/* The weights of a network as others know them: by name, and in the layout that PyTorch gives them. */
#ifndef DT_MODEL_WEIGHT_H
#define DT_MODEL_WEIGHT_H

#include "core/graph.h"

/* How a weight lies in files of other programs. */
typedef enum dt_weight_layout {
    DT_WEIGHT_SAME = 0,
    DT_WEIGHT_CHANNELS_LAST, /* a convolution's [K,R,S,C]: there [K,C,R,S] */
    DT_WEIGHT_IMAGE_ROWS,    /* [..., H W C] over an image in one row: there [..., C H W] */
    DT_WEIGHT_TRANSPOSED,    /* [out, in]: there [in, out] */
    DT_WEIGHT_PER_CHANNEL    /* [C]: there [C,1,1] */
} dt_weight_layout;

/* A parameter, or a running statistic. */
typedef struct dt_weight {
    char name[DT_NAME_MAX]; /* as in checkpoints */
    bool state;             /* a running statistic */
    bool adapter;           /* of a low-rank adapter */
    bool head;              /* of the layer that ends the network, and of no other */
    int32_t ndim;
    int64_t dim[DT_MAX_DIM]; /* as in checkpoints */
    int64_t n_elem;
    dt_weight_layout layout;
    int64_t pixels; /* IMAGE_ROWS: H W */
    int64_t
        grid[2]; /* height and width of the grid that its last rows (of dimension 1) are places of; 0: none */
    int32_t layer; /* by dt_weight_list_layers */
} dt_weight;

typedef struct dt_weight_list {
    int32_t n;
    dt_weight *weight; /* in the order in which the network was built */
} dt_weight_list;

/* Of a forward graph that no pass has changed. Freed by dt_weight_list_free. */
dt_status dt_weight_list_make(const dt_graph *forward, dt_weight_list *out);
void dt_weight_list_free(dt_weight_list *list);
/* The layouts that a built-in network's files have and its graph does not say. */
void dt_weight_list_settle(dt_weight_list *list, const char *model);
/* Numbers the layers as BEiT does and timm for layer-wise decay of the learning rate: 0 what comes before the first
 * block, the blocks 1 to n, each with what stands in front of it, n + 1 what comes behind the last. Returns how many
 * layers there are, n + 2. */
int32_t dt_weight_list_layers(dt_weight_list *list, const char *model);
/* NULL if absent. */
const dt_weight *dt_weight_find(const dt_weight_list *list, const char *name);

/* Its shape in files; returns how many dimensions. */
int32_t dt_weight_file_dims(const dt_weight *w, int64_t dim[DT_MAX_DIM]);
/* n_elem numbers from the one layout to the other; the two do not overlap. */
void dt_weight_from_file(const dt_weight *w, const float *file, float *own);
void dt_weight_to_file(const dt_weight *w, const float *own, float *file);
/* A table of positions, in its own layout, from one whose last rows are of a grid of from[0] x from[1]: bicubic, as
 * PyTorch's interpolate without antialias and align_corners. What is before the grid stays. */
void dt_weight_regrid(const dt_weight *w, const int64_t from[2], const float *table, float *own);

#endif
