#include "train/texts.h"

#include <stdlib.h>

#include "model/task.h"
#include "speaker.h"
#include "text_net.h"

struct dt_texts {
    dt_text_net net;
    dt_speaker speaker;
};

/* Whether the checkpoint's network goes on with texts. */
static dt_status goes_on(const char *path, bool *out) {
    dt_ckpt *k = NULL;
    dt_config *c = malloc(sizeof *c);
    *out = false;
    if (!c) return dt_fail(DT_ERR_MEMORY, "no memory for a configuration");
    dt_status st = dt_ckpt_load_at(path, &k);
    dt_config_init(c);
    if (st == DT_OK) st = dt_config_parse(c, k->path, k->config_text, 0, NULL);
    if (st == DT_OK) {
        const dt_task_row *task = dt_task_of(&c->model);
        *out = task->tokens && !task->masked;
    }
    dt_config_fini(c);
    dt_ckpt_free(k);
    free(c);
    return st;
}

dt_status dt_texts_open(const char *path, dt_backend *be, int64_t rows, dt_texts **out) {
    bool able = false;
    *out = NULL;
    if (!dt_ckpt_is_at(path)) return DT_OK;
    DT_TRY(goes_on(path, &able));
    if (!able) return DT_OK;
    dt_texts *t = calloc(1, sizeof *t);
    if (!t) return dt_fail(DT_ERR_MEMORY, "no memory for texts");
    dt_status st = dt_text_net_open_at(path, be, &t->net);
    const dt_generator_options g = {.tokenizer = t->net.trained.facts.tokenizer,
                                    .rows = rows,
                                    .draw = {.temperature = 1, .top_p = 1},
                                    .most_read = DT_DECODING_CHUNK};
    if (st == DT_OK)
        st = dt_speaker_open(&t->net.c, t->net.engine, &t->net.trained.facts.info, &g, &t->speaker);
    if (st == DT_OK)
        *out = t;
    else
        dt_texts_close(t);
    return st;
}

void dt_texts_close(dt_texts *t) {
    if (!t) return;
    dt_speaker_close(&t->speaker);
    dt_text_net_close(&t->net);
    free(t);
}

dt_generator *dt_texts_generator(dt_texts *t) {
    return t->speaker.generator;
}

const dt_tokenizer *dt_texts_tokenizer(const dt_texts *t) {
    return t->net.trained.facts.tokenizer;
}

int64_t dt_texts_bytes(const dt_texts *t) {
    const dt_store *s = dt_engine_program(t->net.engine, true)->store;
    int64_t bytes = dt_decoding_bytes(t->speaker.decoder);
    for (int i = 0; i < DT_ARENA_COUNT; i++) bytes += s->bytes[i];
    return bytes;
}
