/* Llama (Touvron et al. 2023) and its small kin: RMS norm, rotary places, grouped queries, SwiGLU. Names are those of
 * Hugging Face's LlamaForCausalLM. */
#include "net_text.h"

#include <stdio.h>

#include "core/op.h"

/* Two thirds of 4 channels, as three products are to cost what two do. */
static int64_t hidden_of(int64_t channels) {
    return dt_round_up(dt_ceil_div(8 * channels, 3), 32);
}

static const dt_norm_options norm = {.eps = 1e-5};

static dt_vid block(dt_text_net *n, int64_t i, double theta, dt_vid x) {
    static const dt_attention_names names = {
        .q = "q_proj.", .k = "k_proj.", .v = "v_proj.", .out = "o_proj."};
    const dt_attention_options o = {.heads = n->heads,
                                    .kv_heads = n->kv_heads,
                                    .causal = true,
                                    .dropout = n->dropout,
                                    .rotary = true,
                                    .theta = theta,
                                    .no_bias = true};
    dt_builder *b = n->b;
    char at[DT_NAME_MAX];
    snprintf(at, sizeof at, "model.layers.%lld.", (long long)i);
    const dt_build_attention_inputs in = {
        .x = dt_build_rmsnorm(b, dt_text_join(at, "input_layernorm").s, x, &norm),
        .context = -1,
        .lengths = -1,
        .segments = -1};
    x = dt_text_residual(n, at, "add_1", x,
                         dt_build_attention(b, dt_text_join(at, "self_attn").s, &in, &o, &names));
    dt_vid y = dt_build_rmsnorm(b, dt_text_join(at, "post_attention_layernorm").s, x, &norm);
    dt_vid gate = dt_build_dense(b, dt_text_join(at, "mlp.gate_proj").s, y, n->hidden, false);
    y = dt_build_dense(b, dt_text_join(at, "mlp.up_proj").s, y, n->hidden, false);
    gate = dt_build_op(b, dt_text_join(at, "mlp.act").s, DT_OP_UNARY, &(dt_attr){.unary.fn = DT_UNARY_SILU},
                       1, &gate);
    y = dt_build_op(b, dt_text_join(at, "mlp.mul").s, DT_OP_BINARY, &(dt_attr){.binary.fn = DT_BINARY_MUL}, 2,
                    (dt_vid[]){gate, y});
    y = dt_build_dense(b, dt_text_join(at, "mlp.down_proj").s, y, n->channels, false);
    return dt_text_residual(n, at, "add_2", x, y);
}

dt_vid dt_net_llama(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    static const char *const tasks[] = {"language", NULL}, *const scaled[] = {"o_proj.weight",
                                                                              "down_proj.weight", NULL};
    const dt_text_shape *row = shape;
    dt_text_net n;
    (void)outputs;
    dt_text_open(&n, b, x, o, row, hidden_of, tasks);
    x = dt_build_embedding(b, "model.embed_tokens", n.tokens,
                           &(dt_embedding_options){.rows = n.vocab, .channels = n.channels});
    for (int64_t i = 0; i < n.blocks; i++) x = block(&n, i, row->theta, x);
    x = dt_build_rmsnorm(b, "model.norm", x, &norm);
    x = row->untied ? dt_build_dense(b, "lm_head", x, n.vocab, false)
                    : dt_build_tied(b, "lm_head", x, "model.embed_tokens");
    dt_text_init(&n, 0.02, scaled);
    return x;
}
