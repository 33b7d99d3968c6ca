/* An ending is a batch of one row: context and ending as tokens, and labels at the ending's places alone, so that the
 * loss of the batch is what is asked for. */
#include "train/choose.h"

#include <math.h>
#include <string.h>

#include "core/text.h"
#include "data/choices.h"
#include "text_net.h"

enum { ROUND = 16 }; /* questions of a rank between two meetings of all */

typedef struct job {
    dt_text_net net;
    dt_choices file;
    dt_batch batch;
    int64_t context;
    int32_t end; /* token that begins a document; -1: none */
    dt_choose_result mine;
} job;

/* Pinned memory for a batch. */
static dt_status open_batch(job *j) {
    const dt_dataset_info *info = &j->net.trained.facts.info;
    j->context = info->field[0].dim[0];
    j->batch = (dt_batch){.field = info->field, .n_field = info->n_field, .rows = 1, .n_valid = 1};
    for (int32_t i = 0; i < info->n_field; i++)
        DT_TRY(j->net.be->alloc(j->net.be, DT_MEM_HOST, dt_field_bytes(&info->field[i]), &j->batch.data[i]));
    return DT_OK;
}

/* Sum of the log probabilities of tokens [first, first + n) after the context [from, first); it was cut: *cut. */
static dt_status score(job *j, const dt_choice *q, int32_t ending, double *sum, int64_t *n, bool *cut) {
    const int32_t *token = j->file.token.id;
    int32_t *in = dt_batch_field(&j->batch, "tokens"), *label = dt_batch_field(&j->batch, "label");
    const int64_t first = q->ending[ending], n_before = q->ending[0] - q->context;
    *n = q->ending[ending + 1] - first;
    if (*n > j->context)
        return dt_fail(DT_ERR_DATA, "an ending of %lld tokens is longer than the network's context of %lld",
                       (long long)*n, (long long)j->context);
    if (n_before == 0 && j->end < 0)
        return dt_fail(DT_ERR_DATA,
                       "an empty context, and the tokenizer has no token that begins a document");
    /* As much of the context as there are places for; one is needed to tell the first token from. */
    const int64_t room = j->context + 1 - *n, kept = dt_min_i64(dt_max_i64(n_before, 1), room);
    *cut = kept < n_before;
    for (int64_t i = 0; i < j->context; i++) {
        const int64_t at = i - kept; /* of the ending */
        in[i] = at >= 0        ? (at < *n ? token[first + at] : 0)
                : n_before > 0 ? token[q->ending[0] - kept + i]
                               : j->end;
        label[i] = at >= -1 && at + 1 < *n ? token[first + at + 1] : -1;
    }
    double metric[DT_METRIC_COUNT];
    const int64_t fed = dt_engine_fed(j->net.engine);
    DT_TRY(dt_engine_feed(j->net.engine, &j->batch, true));
    DT_TRY(dt_engine_eval_lone(j->net.engine, metric));
    DT_TRY(dt_engine_input_wait(j->net.engine, fed));
    const bool several = dt_engine_program(j->net.engine, true)->graph->n_loss > 1;
    *sum = -metric[several ? DT_METRIC_LOSSES : DT_METRIC_LOSS];
    if (isfinite(*sum)) return DT_OK;
    return dt_fail(DT_ERR_NONFINITE, "%s: the loss of an ending is not finite", j->net.trained.ckpt->path);
}

static dt_status choose(job *j, const dt_choice *q) {
    double best_sum = -INFINITY, best_mean = -INFINITY;
    int32_t by_sum = 0, by_mean = 0;
    bool any_cut = false;
    for (int32_t i = 0; i < q->n_ending; i++) {
        double sum = 0;
        int64_t n = 1;
        bool cut = false;
        DT_TRY(score(j, q, i, &sum, &n, &cut));
        if (sum > best_sum) best_sum = sum, by_sum = i;
        if (sum / (double)n > best_mean) best_mean = sum / (double)n, by_mean = i;
        any_cut |= cut;
    }
    j->mine.n++;
    j->mine.n_sum += by_sum == q->label;
    j->mine.n_mean += by_mean == q->label;
    j->mine.n_cut += any_cut;
    return DT_OK;
}

/* This rank's questions of a round. */
static dt_status run_round(job *j, const dt_comm *mpi, int64_t first) {
    for (int64_t i = first + mpi->rank; i < dt_min_i64(first + ROUND * mpi->world, j->file.n);
         i += mpi->world) {
        const dt_status st = choose(j, &j->file.question[i]);
        if (st != DT_OK) dt_error_context("question %lld", (long long)i + 1);
        DT_TRY(st);
    }
    return DT_OK;
}

static dt_status read_file(job *j, const char *path) {
    const dt_tokenizer *tokenizer = j->net.trained.facts.tokenizer;
    dt_tokenizer_info info;
    dt_tokenizer_info_get(tokenizer, &info);
    j->end = info.end;
    DT_TRY(dt_choices_read(path, tokenizer, &j->file));
    return open_batch(j);
}

static dt_status run_all(job *j, const dt_config *c, dt_comm *mpi, const char *path, const dt_sink *sink) {
    DT_TRY(dt_text_net_open(c, mpi, sink, &j->net));
    DT_TRY(dt_comm_agree(mpi, read_file(j, path)));
    DT_TRY(dt_comm_check_equal(mpi, (uint64_t)j->file.n ^ (uint64_t)j->file.token.n << 32,
                               "the file of questions"));
    for (int64_t first = 0; first < j->file.n; first += ROUND * mpi->world)
        DT_TRY(dt_comm_agree(mpi, run_round(j, mpi, first)));
    return DT_OK;
}

static void tell(const job *j, const char *path, const dt_sink *sink, const dt_choose_result *r) {
    const dt_ckpt *k = j->net.trained.ckpt;
    dt_tell(sink, DT_NEWS_LINE,
            "%s: step %lld, %s of %s: right by the sum %.2f %%, by the mean of a token %.2f %%", k->path,
            (long long)k->meta.step, dt_count_text(r->n, "question").s, path,
            100 * (double)r->n_sum / (double)r->n, 100 * (double)r->n_mean / (double)r->n);
    if (r->n_cut > 0)
        dt_tell(sink, DT_NEWS_NOTE, "of %s the context was too long for the network: its end was looked at",
                dt_count_text(r->n_cut, "question").s);
}

dt_status dt_choose(const dt_config *c, dt_comm *mpi, const char *path, const dt_sink *sink,
                    dt_choose_result *out) {
    job j = {.file = {0}};
    *out = (dt_choose_result){0};
    dt_status st = run_all(&j, c, mpi, path, sink);
    if (st == DT_OK) {
        double sum[4] = {(double)j.mine.n, (double)j.mine.n_sum, (double)j.mine.n_mean, (double)j.mine.n_cut};
        st = dt_comm_sum_host(mpi, sum, 4);
        *out = (dt_choose_result){(int64_t)sum[0], (int64_t)sum[1], (int64_t)sum[2], (int64_t)sum[3]};
    }
    if (st == DT_OK && mpi->rank == 0) tell(&j, path, sink, out);
    for (int32_t i = 0; i < DT_FIELDS_MAX; i++)
        if (j.batch.data[i]) j.net.be->free(j.net.be, DT_MEM_HOST, j.batch.data[i]);
    dt_choices_free(&j.file);
    dt_text_net_close(&j.net);
    return st;
}
