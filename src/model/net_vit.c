/* Vision transformers (Dosovitskiy et al. 2021), with torchvision's names and initial weights or timm's, and with a second
 * token (DeiT, Touvron et al. 2021). */
#include <math.h>
#include <string.h>

#include "nets.h"

typedef struct vit_names {
    const char *token, *position, *patch, *block, *norm1, *attention, *norm2, *fc1, *fc2, *norm, *head;
    dt_attention_names projection;
} vit_names;

static const vit_names torchvision =
                           {
                               .token = "class_token",
                               .position = "encoder.pos_embedding",
                               .patch = "conv_proj",
                               .block = "encoder.layers.encoder_layer_",
                               .norm1 = "ln_1",
                               .attention = "self_attention",
                               .norm2 = "ln_2",
                               .fc1 = "mlp.0",
                               .fc2 = "mlp.3",
                               .norm = "encoder.ln",
                               .head = "heads.head",
                               .projection = {.qkv = "in_proj_", .out = "out_proj."},
},
                       timm = {
                           .token = "cls_token",
                           .position = "pos_embed",
                           .patch = "patch_embed.proj",
                           .block = "blocks.",
                           .norm1 = "norm1",
                           .attention = "attn",
                           .norm2 = "norm2",
                           .fc1 = "mlp.fc1",
                           .fc2 = "mlp.fc2",
                           .norm = "norm",
                           .head = "head",
                           .projection = {.qkv = "qkv.", .out = "proj."},
};
static const dt_norm_options norm = {.eps = 1e-6};

/* A token [1, 1, C] in row `at` of a table of `rows`, added to it. */
static dt_vid add_token(dt_builder *b, const char *name, dt_vid table, int64_t at, double std) {
    if (b->status != DT_OK) return -1;
    const dt_value *v = &b->g->value[table];
    const int64_t rows = v->dim[1], dim[] = {1, 1, v->dim[2]};
    const dt_vid token = dt_net_param(b, name, 3, dim, std > 0 ? DT_INIT_NORMAL : DT_INIT_ZERO, std);
    const dt_attr place = {.shape = {.axis = 1, .begin = at, .length = rows}};
    const dt_vid row = dt_build_op(b, dt_net_join("%s/row", name).s, DT_OP_PAD, &place, 1, &token);
    return dt_build_add(b, dt_net_join("%s/table", name).s, table, row);
}

/* The vectors of a table's first grid, behind those of `tokens`, for another one (bicubic, as transformers has it). */
static dt_vid fit_table(dt_builder *b, dt_vid table, int64_t tokens, const int64_t *from, const int64_t *to) {
    if (b->status != DT_OK || (from[0] == to[0] && from[1] == to[1])) return table;
    const int64_t width = b->g->value[table].dim[2], n = from[0] * from[1];
    const dt_attr first = {.shape = {.axis = 1, .length = tokens}},
                  rest = {.shape = {.axis = 1, .begin = tokens, .length = n}},
                  grid = {.reshape = {.ndim = 4, .dim = {1, from[0], from[1], width}}},
                  size = {.resample = {.mode = DT_RESAMPLE_BICUBIC,
                                       .size = {(int32_t)to[0], (int32_t)to[1]}}},
                  rows = {.reshape = {.ndim = 3, .dim = {1, to[0] * to[1], width}}};
    dt_vid x = tokens > 0 ? dt_build_op(b, "places.grid", DT_OP_SLICE, &rest, 1, &table) : table;
    x = dt_build_op(b, "places.image", DT_OP_RESHAPE, &grid, 1, &x);
    x = dt_build_op(b, "places.resized", DT_OP_RESAMPLE, &size, 1, &x);
    x = dt_build_op(b, "places.rows", DT_OP_RESHAPE, &rows, 1, &x);
    if (tokens == 0) return x;
    const dt_vid head = dt_build_op(b, "places.tokens", DT_OP_SLICE, &first, 1, &table);
    return dt_build_op(b, "places", DT_OP_CONCAT, &(dt_attr){.shape.axis = 1}, 2, (dt_vid[]){head, x});
}

/* Patches of the image as steps [N, T, C], after those of the tokens, with what says their places. */
static dt_vid embed(dt_builder *b, const vit_names *n, const dt_vit_shape *net, dt_vid x, int64_t tokens) {
    const dt_value image = b->g->value[x];
    if (image.dim[1] % net->patch || image.dim[2] % net->patch) {
        b->status =
            dt_fail(DT_ERR_CONFIG,
                    "images of %lldx%lld are not whole patches of %lld: set data.image_size, or their size "
                    "in evaluation or in a stage, to a multiple",
                    (long long)image.dim[1], (long long)image.dim[2], (long long)net->patch);
        return -1;
    }
    const dt_conv2d_options patch = {.channels = net->width, .kernel = net->patch, .stride = net->patch};
    x = dt_build_conv(b, n->patch, x, &patch);
    if (b->status != DT_OK) return -1;
    const int64_t grid[] = {b->g->value[x].dim[1], b->g->value[x].dim[2]}, side = b->table_side / net->patch,
                  own[] = {side > 0 ? side : grid[0], side > 0 ? side : grid[1]};
    x = dt_net_places(b, "patches", x);
    const int64_t steps = grid[0] * grid[1] + tokens, dim[] = {1, own[0] * own[1] + tokens, net->width};
    const dt_attr after = {.shape = {.axis = 1, .begin = tokens, .length = steps}};
    dt_vid table = dt_net_param(b, n->position, 3, dim, DT_INIT_NORMAL, 0.02);
    if (table >= 0) memcpy(b->g->value[table].grid, own, sizeof own);
    table = fit_table(b, table, tokens, own, grid);
    if (tokens > 0) x = dt_build_op(b, "steps", DT_OP_PAD, &after, 1, &x);
    if (tokens > 0) table = add_token(b, n->token, table, 0, net->timm ? 1e-6 : 0);
    if (tokens > 1) table = add_token(b, "dist_token", table, 1, 0.02);
    return dt_build_op(b, "embedded", DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_ADD}, 2,
                       (dt_vid[]){x, table});
}

static dt_vid block(dt_builder *b, const vit_names *n, const dt_vit_shape *net, int64_t i, dt_vid x,
                    double dropout, double drop_path) {
#define PART(suffix) dt_net_join("%s%lld.%s", n->block, (long long)i, suffix).s
    dt_vid y = dt_build_layernorm(b, PART(n->norm1), x, &norm);
    y = dt_build_attention(b, PART(n->attention),
                           &(dt_build_attention_inputs){.x = y, .context = -1, .lengths = -1, .segments = -1},
                           &(dt_attention_options){.heads = net->heads}, &n->projection);
    y = dt_net_dropout(b, PART("dropout1"), y, dropout);
    x = dt_build_add(b, PART("add1"), dt_net_drop_path(b, PART("drop_path1"), y, drop_path), x);
    y = dt_build_layernorm(b, PART(n->norm2), x, &norm);
    y = dt_build_dense(b, PART(n->fc1), y, 4 * net->width, true);
    y = dt_net_function(b, PART("gelu"), y, DT_UNARY_GELU);
    y = dt_net_dropout(b, PART("dropout2"), y, dropout);
    y = dt_build_dense(b, PART(n->fc2), y, net->width, true);
    y = dt_net_dropout(b, PART("dropout3"), y, dropout);
    if (!net->timm) {
        dt_net_init(b, PART(n->fc1), "weight", DT_INIT_XAVIER_UNIFORM, 0);
        dt_net_init(b, PART(n->fc1), "bias", DT_INIT_NORMAL, 1e-6);
        dt_net_init(b, PART(n->fc2), "weight", DT_INIT_XAVIER_UNIFORM, 0);
        dt_net_init(b, PART(n->fc2), "bias", DT_INIT_NORMAL, 1e-6);
    }
    return dt_build_add(b, PART("add2"), dt_net_drop_path(b, PART("drop_path2"), y, drop_path), x);
#undef PART
}

/* Step `at`, [N, 1, C]. */
static dt_vid take_token(dt_builder *b, const char *name, dt_vid x, int64_t at) {
    const dt_attr one = {.shape = {.axis = 1, .begin = at, .length = 1}};
    return dt_build_op(b, name, DT_OP_SLICE, &one, 1, &x);
}

/* What a token, or the mean of all steps, says. */
static dt_vid classify(dt_builder *b, const vit_names *n, const dt_vit_shape *net, dt_vid x, bool mean,
                       int64_t classes) {
    if (mean) {
        x = dt_build_layernorm(b, n->norm, x, &norm);
        return dt_build_dense(b, n->head, dt_build_reduce(b, "pool", x, DT_REDUCE_MEAN, 1), classes, true);
    }
    if (!net->distilled) {
        x = take_token(b, "pool", x, 0);
        x = dt_build_op(b, "pool.row", DT_OP_RESHAPE, NULL, 1, &x);
        x = dt_build_layernorm(b, n->norm, x, &norm);
        return dt_build_dense(b, n->head, x, classes, true);
    }
    x = dt_build_layernorm(b, n->norm, x, &norm);
    const dt_vid heads[] = {dt_build_dense(b, n->head, take_token(b, "pool", x, 0), classes, true),
                            dt_build_dense(b, "head_dist", take_token(b, "pool_dist", x, 1), classes, true)};
    x = dt_build_op(b, "heads", DT_OP_CONCAT, &(dt_attr){.shape.axis = 1}, 2, heads);
    return dt_build_reduce(b, "mean", x, DT_REDUCE_MEAN, 1);
}

dt_vid dt_net_vit(dt_builder *b, dt_vid x, int64_t classes, const dt_model_options *o, const void *shape) {
    dt_vit_shape own = *(const dt_vit_shape *)shape;
    const dt_vit_shape *net = &own;
    if (o->patch > 0) own.patch = o->patch;
    const vit_names *n = net->timm ? &timm : &torchvision;
    const bool mean = o->pool == DT_POOL_MEAN;
    const double dropout = dt_net_rate(o->dropout, 0), drop_path = dt_net_rate(o->drop_path, 0);
    if (!dt_net_need_images(b, x)) return -1;
    const double patch_fan_in = (double)(net->patch * net->patch * b->g->value[x].dim[3]);
    x = embed(b, n, net, x, mean ? 0 : net->distilled ? 2 : 1);
    x = dt_net_dropout(b, "dropout", x, dropout);
    for (int64_t i = 0; i < net->layers; i++)
        x = block(b, n, net, i, x, dropout, drop_path * (double)i / (double)(net->layers - 1));
    x = classify(b, n, net, x, mean, classes);
    if (net->timm) {
        dt_net_init_normal(b, 0.02);
        dt_net_init(b, n->patch, "weight", DT_INIT_KAIMING_UNIFORM_A5, 0);
        dt_net_init(b, n->patch, "bias", DT_INIT_UNIFORM_FAN_IN, 0);
    } else {
        dt_net_init(b, n->patch, "weight", DT_INIT_NORMAL, sqrt(1 / patch_fan_in));
        dt_net_init(b, n->patch, "bias", DT_INIT_ZERO, 0);
        dt_net_init(b, n->head, "weight", DT_INIT_ZERO, 0);
        dt_net_init(b, n->head, "bias", DT_INIT_ZERO, 0);
    }
    return x;
}
