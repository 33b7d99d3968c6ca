/* What a run begins with that continues no checkpoint: fresh weights, or those of model.init_from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "train/stages.h"
#include "trainer_internal.h"

enum { SHOWN = 12 /* names of a kind for people */ };

/* "; drawn anew: a, b and 3 more" */
static void tell_names(FILE *out, const char *what, int32_t n,
                       const char *(*name)(const dt_weights *w, int32_t i), const dt_weights *w) {
    if (n > 0) fprintf(out, "; %s: ", what);
    for (int32_t i = 0; i < n && i < SHOWN; i++) fprintf(out, "%s%.160s", i ? ", " : "", name(w, i));
    if (n > SHOWN) fprintf(out, " and %d more", n - SHOWN);
}

static const char *fresh(const dt_weights *w, int32_t i) {
    return w->fresh[i];
}
static const char *ignored(const dt_weights *w, int32_t i) {
    return w->ignored[i];
}

static void tell(const dt_trainer *t, const dt_weights *w) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) return;
    fprintf(out, "weights %d of %d from %s (%s%s)", w->n, w->n + w->n_fresh, w->path, w->kind,
            w->averaged ? ", averaged" : "");
    if (w->taken_off[0]) fprintf(out, "; \"%s\" taken off its names", w->taken_off);
    if (w->put_before[0]) fprintf(out, "; \"%s\" put before its names", w->put_before);
    if (w->grid[0][0] > 0)
        fprintf(out, "; positions of %lldx%lld patches resampled to %lldx%lld", (long long)w->grid[0][0],
                (long long)w->grid[0][1], (long long)w->grid[1][0], (long long)w->grid[1][1]);
    if (w->n_transposed > 0) fprintf(out, "; %d recognised as [in, out]", w->n_transposed);
    tell_names(out, "drawn anew", w->n_fresh, fresh, w);
    tell_names(out, "not taken", w->n_ignored, ignored, w);
    if (fclose(out) == 0) dt_tell(t->sink, DT_NEWS_LINE, "%s", text);
    free(text);
}

/* The numbers of words are the tokenizer's: with another one they are other words. */
static void warn_of_tokenizer(const dt_trainer *t) {
    dt_dataset_info info;
    dt_dataset_info_get(t->session.train_data, &info);
    const uint64_t theirs = t->weights.tokenizer_xxh3;
    if (theirs && info.tokenizer_xxh3 && theirs != info.tokenizer_xxh3)
        dt_tell(t->sink, DT_NEWS_WARNING,
                "%s was trained on text of another tokenizer than that of %s, so its embedding means other "
                "words: import the "
                "text with --tokenizer and the directory of its training set",
                t->weights.path, t->config->data.train);
}

static bool has_state(const dt_graph *g) {
    for (dt_vid v = 0; v < g->n_value; v++)
        if (g->value[v].role == DT_ROLE_STATE) return true;
    return false;
}

/* What was asked for and changes nothing. */
static void warn_of_no_use(const dt_trainer *t, int32_t n_given) {
    const dt_config *c = t->config;
    if (c->model.freeze == DT_FREEZE_ALL_BUT_HEAD && !c->model.init.from[0] && n_given == 0)
        dt_tell(t->sink, DT_NEWS_WARNING,
                "model.freeze = \"all_but_head\" without model.init_from: the last layer is trained on what "
                "drawn "
                "weights give");
    if (c->model.lora.rank > 0 && !c->model.init.from[0] && n_given == 0)
        dt_tell(t->sink, DT_NEWS_WARNING,
                "lora.rank without model.init_from: adapters are trained beside weights that are drawn and "
                "stay so");
    if (c->train.sync_batch_norm && !has_state(dt_engine_program(t->session.engine, false)->graph))
        dt_tell(t->sink, DT_NEWS_WARNING, "train.sync_batch_norm: the network has no batch norm");
    for (int32_t k = 1; k < dt_stage_count(c); k++) {
        const int64_t first = dt_stage_first_step(c, k, t->steps_per_epoch);
        if (first < t->total_steps) continue;
        dt_tell(t->sink, DT_NEWS_WARNING,
                "train.stage_epochs: stage %d would begin at step %lld, and the run ends at step %lld", k + 1,
                (long long)first, (long long)t->total_steps);
        return;
    }
}

dt_status dt_trainer_begin(dt_trainer *t) {
    dt_engine *e = t->session.engine;
    const dt_init_options *o = &t->config->model.init;
    int32_t n_given;
    DT_TRY(dt_comm_agree(t->mpi, dt_engine_init(e)));
    DT_TRY(dt_engine_begin_given(e, &n_given));
    if (n_given > 0 && t->root)
        dt_tell(t->sink, DT_NEWS_LINE, "weights and constants %d from %s", n_given, t->config->model.path);
    if (t->root) warn_of_no_use(t, n_given);
    if (!o->from[0]) return DT_OK;
    /* One rank reads, so that all have the same whatever their hosts hold. */
    dt_status st = t->root ? dt_weights_read(dt_engine_weights(e), o, &t->weights) : DT_OK;
    if (st != DT_OK) dt_error_context("model.init_from");
    DT_TRY(dt_comm_agree(t->mpi, st));
    DT_TRY(dt_engine_begin_with(e, t->weights.n, t->weights.tensor));
    if (t->root) {
        tell(t, &t->weights);
        warn_of_tokenizer(t);
    }
    return DT_OK;
}
