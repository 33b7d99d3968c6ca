/* Tokens in batches: sample i of a set is tokens [i T, i T + T) of its stream, and as labels those that follow. The last
 * sample may be shorter: nothing is predicted past the end. Where tokens are masked (mask.h) the labels are those. */
#include "dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "mask.h"

enum { CONTEXT_DEFAULT = 1024 };

typedef struct tokens_plan {
    const dt_dataset *dataset;
    int64_t context;
    bool verify;
    dt_mask mask; /* share 0: the token that follows is to be found */
} tokens_plan;

typedef struct reader {
    tokens_plan plan;
    int32_t *token; /* [context + 1] */
    void *room;
} reader;

static dt_status open_tokens(dt_dataset *d, const dt_shard_set *set) {
    DT_TRY(dt_token_set_open_set(set, &d->tokens));
    const dt_token_set *s = &d->tokens;
    d->info = (dt_dataset_info){.kind = DT_TOKENS_KIND,
                                .n_vocab = s->info.n_vocab,
                                .end_token = s->info.end,
                                .n_tokens = s->n_tokens,
                                .n_documents = s->n_documents,
                                .text_bytes = s->text_bytes,
                                .tokenizer_xxh3 = s->info.xxh3};
    return DT_OK;
}

/* The vocabulary with a mask, which may be beyond the tokenizer's. */
static dt_status add_mask(dt_dataset *d, const dt_data_options *o) {
    const int64_t n = d->tokens.info.n_vocab;
    if (o->mask_token >= n)
        return dt_fail(DT_ERR_CONFIG, "data.mask_token = %lld, but the tokens of %s are 0 to %lld",
                       (long long)o->mask_token, d->path, (long long)n - 1);
    d->info.masked = true;
    d->info.n_vocab = o->mask_token < 0 ? n + 1 : n;
    return DT_OK;
}

/* A sample is a document with its class. */
static dt_status shape_classes(dt_dataset *d, int64_t context) {
    dt_dataset_info *info = &d->info;
    const dt_token_shard *head = &d->tokens.shard[0];
    const dt_field field[] = {{.name = "tokens", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {context}},
                              {.name = "label", .dtype = DT_DTYPE_I32},
                              {.name = "lengths", .dtype = DT_DTYPE_I32}};
    info->n_samples = info->n_documents;
    info->n_classes = head->n_classes;
    info->n_field = sizeof field / sizeof field[0];
    memcpy(info->field, field, sizeof field);
    if (info->n_samples == 0) return dt_fail(DT_ERR_DATA, "%s: no document begins in it", d->path);
    d->class_name = dt_class_names_split(head->class_names, info->n_classes);
    if (d->class_name) return DT_OK;
    return dt_fail(DT_ERR_DATA, "%s: attribute class_names does not hold %s", head->path,
                   dt_count_text(info->n_classes, "name").s);
}

static bool has_classes(const dt_dataset *d) {
    return d->info.n_classes > 0;
}

static dt_status shape(dt_dataset *d, const dt_data_options *o) {
    static const char *const name[] = {"tokens", "label", "segment"};
    dt_dataset_info *info = &d->info;
    const int64_t context = o && o->context > 0 ? o->context : CONTEXT_DEFAULT;
    if (d->tokens.shard[0].n_classes > 0 && !(o && o->stream)) return shape_classes(d, context);
    info->isolated = o && o->documents == DT_DOCUMENTS_ISOLATED;
    if (info->n_tokens < 2 && !(o && o->masked))
        return dt_fail(DT_ERR_DATA, "%s: one token alone predicts nothing", d->path);
    if (info->isolated && info->end_token < 0)
        return dt_fail(
            DT_ERR_CONFIG,
            "data.documents = \"isolated\": no token of %s ends a document (import it with --tokenizer "
            "ids:N:END)",
            d->path);
    if (o && o->masked) DT_TRY(add_mask(d, o));
    info->n_samples = dt_ceil_div(info->n_tokens - !info->masked, context);
    info->n_field = info->isolated ? 3 : 2;
    for (int32_t k = 0; k < info->n_field; k++) {
        info->field[k] = (dt_field){.dtype = DT_DTYPE_I32, .ndim = 1, .dim = {context}};
        strcpy(info->field[k].name, name[k]);
    }
    return DT_OK;
}

static void close_tokens(dt_dataset *d) {
    dt_class_names_free(d->class_name, d->info.n_classes);
    dt_token_set_close(&d->tokens);
}

static void place(const dt_dataset *d, int64_t sample, const char **file, int64_t *row) {
    const dt_token_set *s = &d->tokens;
    int64_t at = sample * d->info.field[0].dim[0], end;
    int32_t label;
    if (has_classes(d)) dt_token_set_document(s, sample, &at, &end, &label);
    const int64_t i = dt_shard_set_find(s->first, s->n_shards, at);
    *file = s->shard[i].path;
    *row = at - s->first[i];
}

static dt_status plan(const dt_loader_options *o, int64_t max_rows, dt_loader_plan *out) {
    (void)max_rows;
    const dt_dataset_info *info = &o->dataset->info;
    tokens_plan *p = malloc(sizeof *p);
    if (!p) return dt_fail(DT_ERR_MEMORY, "loader: out of memory");
    *p = (tokens_plan){.dataset = o->dataset, .context = info->field[0].dim[0], .verify = o->data->verify};
    const int64_t n_vocab = o->dataset->tokens.info.n_vocab, mask = o->data->mask_token;
    if (info->masked) /* evaluations are alike, whatever the seed */
        p->mask = (dt_mask){.seed = o->eval ? 0 : o->seed,
                            .share = (float)o->data->mask_share,
                            .random = (float)o->data->mask_random,
                            .keep = (float)o->data->mask_keep,
                            .token = (int32_t)(mask < 0 ? n_vocab : mask),
                            .n_vocab = (int32_t)n_vocab,
                            .end = (int32_t)info->end_token};
    out->state = p;
    out->n_field = info->n_field;
    memcpy(out->field, info->field, sizeof out->field);
    return DT_OK;
}

static void reader_free(void *arg) {
    reader *r = arg;
    if (!r) return;
    free(r->token);
    free(r->room);
    free(r);
}

static dt_status reader_new(void *state, void **out) {
    const tokens_plan *p = state;
    reader *r = *out = calloc(1, sizeof *r);
    if (r) {
        r->plan = *p;
        r->token = malloc((size_t)(p->context + 1) * sizeof *r->token);
        r->room = malloc((size_t)dt_token_room_bytes(p->context + 1));
    }
    return r && r->token && r->room ? DT_OK : dt_fail(DT_ERR_MEMORY, "loader: out of memory");
}

/* Which document of the row each token is of; the labels that would lead into the next one are taken away. */
static void isolate(const int32_t *token, int64_t context, int32_t end, int32_t *label, int32_t *segment) {
    int32_t document = 0;
    for (int64_t i = 0; i < context; i++) {
        segment[i] = document;
        if (token[i] != end) continue;
        document++;
        label[i] = -1;
    }
}

/* A document, cut short or filled up. */
static dt_status fetch_document(const reader *r, int64_t sample, const dt_row *row) {
    const dt_dataset_info *info = &r->plan.dataset->info;
    const int32_t filler = (int32_t)dt_max_i64(info->end_token, 0);
    int64_t begin, end;
    int32_t label, *tokens = row->data[0];
    dt_token_set_document(&r->plan.dataset->tokens, sample, &begin, &end, &label);
    const int64_t n = dt_min_i64(end - begin, r->plan.context);
    DT_TRY(dt_token_set_read(&r->plan.dataset->tokens, begin, n, r->plan.verify, r->room, tokens));
    for (int64_t i = n; i < r->plan.context; i++) tokens[i] = filler;
    *(int32_t *)row->data[1] = label;
    *(int32_t *)row->data[2] = (int32_t)n;
    return DT_OK;
}

static dt_status fetch(void *arg, uint64_t epoch, int64_t sample, const dt_row *row) {
    const reader *r = arg;
    if (has_classes(r->plan.dataset)) return fetch_document(r, sample, row);
    const dt_dataset_info *info = &r->plan.dataset->info;
    const int64_t context = r->plan.context, begin = sample * context,
                  n = dt_min_i64(context + 1, info->n_tokens - begin);
    const int32_t filler = (int32_t)dt_max_i64(info->end_token, 0);
    int32_t *tokens = row->data[0], *label = row->data[1];
    DT_TRY(dt_token_set_read(&r->plan.dataset->tokens, begin, n, r->plan.verify, r->room, r->token));
    for (int64_t i = n; i <= context; i++) r->token[i] = filler;
    memcpy(tokens, r->token, (size_t)context * sizeof *tokens);
    for (int64_t i = 0; i < context; i++) label[i] = i + 1 < n ? r->token[i + 1] : -1;
    if (info->isolated) isolate(r->token, context, (int32_t)info->end_token, label, row->data[2]);
    if (!info->masked) return DT_OK;
    const int64_t there = dt_min_i64(n, context);
    for (int64_t i = there; i < context; i++) label[i] = -1;
    dt_mask_tokens(&r->plan.mask, epoch, sample, there, tokens, label);
    return DT_OK;
}

/* A row without a sample predicts nothing. */
static void empty(void *state, const dt_row *row) {
    const tokens_plan *p = state;
    const dt_dataset_info *info = &p->dataset->info;
    for (int32_t k = 0; k < info->n_field; k++)
        memset(row->data[k], k == 1 ? 0xFF : 0, (size_t)dt_field_bytes(&info->field[k]));
}

static dt_status agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                       dt_data_note *note) {
    if (train->info.tokenizer_xxh3 != val->info.tokenizer_xxh3)
        return dt_fail(
            DT_ERR_DATA,
            "%s (%s) and %s (%s) were made by different tokenizers: import one with --tokenizer and the "
            "directory of the other",
            o->train, train->tokens.info.name, o->val, val->tokens.info.name);
    if (has_classes(train) && has_classes(val) && dt_data_classes_hash(train) != dt_data_classes_hash(val))
        return dt_fail(
            DT_ERR_DATA,
            "%s and %s have other classes: import one with --class-names and the directory of the other",
            o->train, o->val);
    return dt_fields_agree(o, train, val, note);
}

/* Of all that the tokenizer may give: a set that happens to lack the last ones is no reason to pass. */
static dt_status check_numbers(const dt_dataset *d, const char *name, double least, double most,
                               const char *why, dt_data_note *note) {
    (void)least, (void)note;
    if (strcmp(name, "segment") == 0) return DT_OK;
    if (strcmp(name, "lengths") == 0)
        return (double)d->info.field[0].dim[0] <= most
                   ? DT_OK
                   : dt_fail(DT_ERR_CONFIG, "%s: %s are up to %lld, but %s", d->path, name,
                             (long long)d->info.field[0].dim[0], why);
    if (strcmp(name, "label") == 0 && has_classes(d))
        return (double)d->info.n_classes - 1 <= most
                   ? DT_OK
                   : dt_fail(DT_ERR_CONFIG, "%s: has %s, but %s", d->path,
                             dt_count_text(d->info.n_classes, "class").s, why);
    if ((double)(d->info.n_vocab - 1) <= most) return DT_OK;
    return dt_fail(DT_ERR_CONFIG, "%s: %s are from 0 to %lld, but %s", d->path, name,
                   (long long)d->info.n_vocab - 1, why);
}

static const int64_t *checksums(const dt_dataset *d, int64_t shard, int64_t *n) {
    const bool there = shard < d->tokens.n_shards;
    *n = there ? dt_ceil_div(d->tokens.shard[shard].n_tokens, DT_TOKEN_BLOCK) : -1;
    return there ? d->tokens.shard[shard].checksum : NULL;
}

const dt_data_row dt_tokens_row = {.kind = DT_TOKENS_KIND,
                                   .open = open_tokens,
                                   .shape = shape,
                                   .close = close_tokens,
                                   .place = place,
                                   .plan = plan,
                                   .reader_new = reader_new,
                                   .reader_free = reader_free,
                                   .fetch = fetch,
                                   .empty = empty,
                                   .check_numbers = check_numbers,
                                   .checksums = checksums,
                                   .agree = agree};
