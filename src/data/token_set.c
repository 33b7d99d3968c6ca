/* Shards of tokens as one stream. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "shard_set.h"
#include "token_shard.h"

static dt_status check_alike(const dt_token_shard *a, const dt_token_shard *b) {
    if (a->n_vocab == b->n_vocab && a->end == b->end && a->width == b->width &&
        a->n_tokenizer == b->n_tokenizer && (!a->tokenizer == !b->tokenizer) &&
        (!a->tokenizer || memcmp(a->tokenizer, b->tokenizer, (size_t)a->n_tokenizer) == 0)) {
        if (a->n_classes == b->n_classes && (!a->class_names || strcmp(a->class_names, b->class_names) == 0))
            return DT_OK;
        return dt_fail(DT_ERR_DATA, "%s: its classes are not those of %s", b->path, a->path);
    }
    return dt_fail(DT_ERR_DATA, "%s: its tokenizer is not that of %s", b->path, a->path);
}

/* What the index says of the set is what the shards, now open, hold. */
static dt_status check_index(const dt_token_set *s, const dt_index *index) {
    if (index->n_shards == 0) return DT_OK;
    for (int64_t i = 0; i < index->n_shards; i++)
        if (index->shard[i].n_samples != s->shard[i].n_tokens)
            return dt_shard_set_differs(s->shard[i].path, "count", index->shard[i].n_samples,
                                        s->shard[i].n_tokens);
    const struct {
        const char *what;
        int64_t said, found;
    } row[] = {{"count", index->n_samples, s->n_tokens},
               {"documents", index->tokens.n_documents, s->n_documents},
               {"text_bytes", index->tokens.text_bytes, s->text_bytes},
               {"vocabulary", index->tokens.n_vocab, s->info.n_vocab},
               {"end", index->tokens.end, s->info.end}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++)
        if (row[i].said != row[i].found)
            return dt_shard_set_differs(s->path, row[i].what, row[i].said, row[i].found);
    if (index->tokens.tokenizer_xxh3 != s->info.xxh3)
        return dt_fail(DT_ERR_DATA,
                       "%s: the tokenizer of the shards is not the one that " DT_INDEX_NAME
                       " says (import it again)",
                       s->path);
    return DT_OK;
}

static dt_status take_tokenizer(dt_token_set *s) {
    dt_token_shard *first = &s->shard[0];
    DT_TRY(first->tokenizer
               ? dt_tokenizer_parse(first->path, first->tokenizer, (size_t)first->n_tokenizer, &s->tokenizer)
               : dt_tokenizer_ids(first->n_vocab, first->end, &s->tokenizer));
    dt_tokenizer_info_get(s->tokenizer, &s->info);
    if (s->info.n_vocab != first->n_vocab || s->info.end != first->end)
        return dt_fail(DT_ERR_DATA, "%s: attributes vocabulary or end are not those of the tokenizer",
                       first->path);
    for (int64_t i = 0; i < s->n_shards; i++) {
        free(s->shard[i].tokenizer);
        s->shard[i].tokenizer = NULL;
    }
    return DT_OK;
}

dt_status dt_token_set_open_set(const dt_shard_set *set, dt_token_set *s) {
    *s = (dt_token_set){.path = strdup(set->path)};
    s->shard = calloc((size_t)set->n, sizeof *s->shard);
    s->first = calloc((size_t)set->n + 1, sizeof *s->first);
    s->first_document = calloc((size_t)set->n + 1, sizeof *s->first_document);
    if (!s->path || !s->shard || !s->first || !s->first_document)
        return dt_fail(DT_ERR_MEMORY, "%s: out of memory", set->path);
    for (int64_t i = 0; i < set->n; i++) {
        dt_token_shard *shard = &s->shard[s->n_shards++];
        DT_TRY(dt_token_shard_open(set->file[i], shard));
        DT_TRY(check_alike(&s->shard[0], shard));
        if (i > 0) {
            free(shard->tokenizer); /* the same as the first's */
            shard->tokenizer = NULL;
        }
        s->first[i + 1] = s->first[i] + shard->n_tokens;
        s->first_document[i + 1] = s->first_document[i] + shard->n_documents;
        s->n_documents += shard->n_documents;
        s->text_bytes = shard->text_bytes < 0 || s->text_bytes < 0 ? -1 : s->text_bytes + shard->text_bytes;
    }
    s->n_tokens = s->first[set->n];
    DT_TRY(take_tokenizer(s));
    return check_index(s, &set->index);
}

dt_status dt_token_set_open(const char *path, dt_token_set *out) {
    dt_shard_set set;
    *out = (dt_token_set){.path = NULL};
    dt_status status = dt_shard_set_open(path, &set);
    if (status == DT_OK) status = dt_token_set_open_set(&set, out);
    dt_shard_set_close(&set);
    return status;
}

void dt_token_set_close(dt_token_set *s) {
    for (int64_t i = 0; i < s->n_shards; i++) dt_token_shard_close(&s->shard[i]);
    dt_tokenizer_close(s->tokenizer);
    free(s->shard);
    free(s->first);
    free(s->first_document);
    free(s->path);
    *s = (dt_token_set){.path = NULL};
}

void dt_token_set_document(const dt_token_set *s, int64_t i, int64_t *begin, int64_t *end, int32_t *label) {
    int64_t k = dt_shard_set_find(s->first_document, s->n_shards, i), at = i - s->first_document[k];
    *begin = s->first[k] + s->shard[k].document[at];
    *label = s->shard[k].label[at];
    *end = s->n_tokens;
    if (++at == s->shard[k].n_documents) { /* it may go on in shards where none begins */
        at = 0;
        while (++k < s->n_shards && s->shard[k].n_documents == 0) continue;
    }
    if (k < s->n_shards) *end = s->first[k] + s->shard[k].document[at];
}

dt_status dt_token_set_read(const dt_token_set *s, int64_t begin, int64_t n, bool verify, void *room,
                            int32_t *dst) {
    int64_t i = dt_shard_set_find(s->first, s->n_shards, begin);
    for (int64_t part; n > 0; begin += part, dst += part, n -= part, i++) {
        part = dt_min_i64(n, s->first[i + 1] - begin);
        DT_TRY(dt_token_shard_read(&s->shard[i], begin - s->first[i], part, verify, room, dst));
    }
    return DT_OK;
}
