/* The lines of a file of text as rows of tokens, for a network that has learnt classes of text: what an import would have
 * made of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "array_source.h"
#include "data/tokenizer.h"

typedef struct lines {
    int64_t context, n, capacity;
    int64_t *begin; /* [n + 1] of each line in `tokens` */
    dt_tokens tokens;
    int32_t end; /* the token behind each, as behind the documents of a set; -1: none */
} lines;

static void close_lines(void *state) {
    lines *l = state;
    if (!l) return;
    free(l->begin);
    free(l->tokens.id);
    free(l);
}

/* Field 0: tokens, cut short or filled up; field 1: how many there are, at least one. */
static dt_status load_lines(const void *state, int32_t k, const int64_t *row, int64_t n, void *dst) {
    const lines *l = state;
    for (int64_t i = 0; i < n; i++) {
        const int32_t *from = l->tokens.id + l->begin[row[i]];
        const int64_t there = dt_min_i64(l->begin[row[i] + 1] - l->begin[row[i]], l->context);
        int32_t *to = (int32_t *)dst + (k == 0 ? i * l->context : i);
        if (k != 0) {
            *to = (int32_t)dt_max_i64(there, 1);
            continue;
        }
        for (int64_t t = 0; t < l->context; t++) to[t] = t < there ? from[t] : (int32_t)dt_max_i64(l->end, 0);
    }
    return DT_OK;
}

static dt_status add_line(lines *l, dt_coder *coder, const char *text, int64_t n) {
    if (l->n + 1 >= l->capacity) {
        const int64_t capacity = l->capacity ? 2 * l->capacity : 256;
        int64_t *grown = realloc(l->begin, (size_t)capacity * sizeof *grown);
        if (!grown) return dt_fail(DT_ERR_MEMORY, "out of memory for its lines");
        l->begin = grown;
        l->capacity = capacity;
    }
    if (l->n == 0) l->begin[0] = 0;
    DT_TRY(dt_coder_encode(coder, (const uint8_t *)text, n, &l->tokens));
    if (l->end >= 0) {
        DT_TRY(dt_tokens_reserve(&l->tokens, 1));
        l->tokens.id[l->tokens.n++] = l->end;
    }
    l->begin[++l->n] = l->tokens.n;
    return DT_OK;
}

/* What would be read as lines, but are none. */
static dt_status check_lines(const char *path) {
    static const char *const objects[] = {".jsonl", ".ndjson"};
    struct stat st;
    const size_t n = strlen(path);
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return dt_fail(DT_ERR_DATA,
                       "a directory: the network was trained on text, give files with a text a line");
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) return dt_fail(DT_ERR_DATA, "no regular file");
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++)
        if (n > strlen(objects[i]) && strcmp(path + n - strlen(objects[i]), objects[i]) == 0)
            return dt_fail(DT_ERR_DATA, "objects of JSON: give a file with their texts, one a line");
    return DT_OK;
}

static dt_status check_line(const char *line, ssize_t n, int64_t number) {
    static const char packed[][4] = {{0x1f, (char)0x8b}, {0x28, (char)0xb5, 0x2f, (char)0xfd}};
    if (number == 1 &&
        ((n >= 2 && memcmp(line, packed[0], 2) == 0) || (n >= 4 && memcmp(line, packed[1], 4) == 0)))
        return dt_fail(DT_ERR_DATA, "it is packed: unpack it");
    if (memchr(line, 0, (size_t)n))
        return dt_fail(DT_ERR_DATA, "line %lld has a byte of 0 in it: no text", (long long)number);
    return DT_OK;
}

static dt_status read_lines(lines *l, dt_coder *coder, const char *path) {
    char *line = NULL;
    size_t room = 0;
    DT_TRY(check_lines(path));
    dt_status st = DT_OK;
    FILE *f = fopen(path, "rb");
    if (!f) return dt_fail(DT_ERR_DATA, "%s", strerror(errno));
    errno = 0;
    for (ssize_t n; st == DT_OK && (n = getline(&line, &room, f)) > 0;) {
        st = check_line(line, n, l->n + 1);
        if (st != DT_OK) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
        st = add_line(l, coder, line, n);
    }
    if (st == DT_OK && ferror(f)) st = dt_fail(DT_ERR_DATA, "%s", strerror(errno));
    if (st == DT_OK && l->n == 0) st = dt_fail(DT_ERR_DATA, "no line is in it");
    free(line);
    fclose(f);
    return st;
}

dt_status dt_source_lines(const char *path, const dt_tokenizer *tokenizer, int64_t context,
                          dt_array_source *out) {
    dt_tokenizer_info info;
    dt_coder *coder = NULL;
    lines *l = calloc(1, sizeof *l);
    *out = (dt_array_source){.state = l, .close = close_lines, .load = load_lines};
    dt_tokenizer_info_get(tokenizer, &info);
    dt_status st =
        l ? dt_coder_new(tokenizer, &coder) : dt_fail(DT_ERR_MEMORY, "out of memory for its lines");
    if (st == DT_OK) {
        l->context = context;
        l->end = info.end;
        st = read_lines(l, coder, path);
    }
    dt_coder_free(coder);
    if (st != DT_OK) {
        dt_error_context("%s", path);
        dt_array_source_close(out);
        return st;
    }
    out->n_rows = l->n;
    out->n_fields = 2;
    out->field[0] = (dt_field){.name = "tokens", .dtype = DT_DTYPE_I32, .ndim = 1, .dim = {context}};
    out->field[1] = (dt_field){.name = "lengths", .dtype = DT_DTYPE_I32};
    return DT_OK;
}
