/* GPT-2 (Radford et al. 2019). Names are those of Hugging Face's GPT2LMHeadModel, whose files have the four matrices of a
 * block as [in, out], the others as [out, in], as they are here. */
#include "net_text.h"

#include <stdio.h>

#include "core/op.h"

static int64_t hidden_of(int64_t channels) {
    return 4 * channels;
}

static dt_vid block(dt_text_net *n, int64_t i, dt_vid x) {
    static const dt_attention_names names = {.qkv = "c_attn.", .out = "c_proj."};
    const dt_attention_options o = {.heads = n->heads, .causal = true, .dropout = n->dropout};
    dt_builder *b = n->b;
    char at[DT_NAME_MAX];
    snprintf(at, sizeof at, "transformer.h.%lld.", (long long)i);
    const dt_build_attention_inputs in = {.x = dt_build_layernorm(b, dt_text_join(at, "ln_1").s, x, NULL),
                                          .context = -1,
                                          .lengths = -1,
                                          .segments = -1};
    x = dt_text_residual(n, at, "add_1", x,
                         dt_build_attention(b, dt_text_join(at, "attn").s, &in, &o, &names));
    dt_vid y = dt_build_layernorm(b, dt_text_join(at, "ln_2").s, x, NULL);
    y = dt_build_dense(b, dt_text_join(at, "mlp.c_fc").s, y, n->hidden, true);
    y = dt_build_op(b, dt_text_join(at, "mlp.act").s, DT_OP_UNARY, &(dt_attr){.unary.fn = DT_UNARY_GELU_TANH},
                    1, &y);
    y = dt_build_dense(b, dt_text_join(at, "mlp.c_proj").s, y, n->channels, true);
    return dt_text_residual(n, at, "add_2", x, y);
}

dt_vid dt_net_gpt2(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o, const void *shape) {
    static const char *const tasks[] = {"language", NULL}, *const scaled[] = {"c_proj.weight", NULL};
    dt_text_net n;
    (void)outputs;
    dt_text_open(&n, b, x, o, shape, hidden_of, tasks);
    x = dt_build_embedding(b, "transformer.wte", n.tokens,
                           &(dt_embedding_options){.rows = n.vocab, .channels = n.channels});
    x = dt_build_position(b, "transformer.wpe", x, &(dt_position_options){.rows = n.positions});
    if (n.dropout > 0) x = dt_build_dropout(b, "transformer.drop", x, n.dropout);
    for (int64_t i = 0; i < n.blocks; i++) x = block(&n, i, x);
    x = dt_build_layernorm(b, "transformer.ln_f", x, NULL);
    x = dt_build_tied(b, "lm_head", x, "transformer.wte");
    dt_text_init(&n, 0.02, scaled);
    return x;
}
