/* A file at a time, in blocks of about a megabyte that end where a document may be cut: what is left over waits in
 * `hold` for the bytes that follow. */
#include "text_read.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "files.h"
#include "text_file.h"
#include "text_stream.h"

struct dt_text_reader {
    const dt_text_read_options *o;
    dt_text_file *file; /* [n_input] */
    int64_t total_bytes, done_bytes;
    int32_t at;             /* the file that is read */
    dt_text_stream *stream; /* NULL: it is not open */
    uint8_t *hold;          /* [n_hold] bytes of it */
    int64_t n_hold, hold_capacity;
    bool over;      /* no bytes follow those in hold */
    bool fresh;     /* PLAIN: hold begins with a line */
    int64_t line;   /* LINES: of the first byte in hold */
    int64_t passed; /* bytes of the text before hold */
    int64_t tail;   /* PLAIN: where validation begins in the text; -1: nowhere */
    bool inside;    /* PLAIN: a document has begun, and its part is known */
    bool val;
};

void dt_text_block_free(dt_text_block *b) {
    free(b->text);
    free(b->part);
    *b = (dt_text_block){.file = NULL};
}

/* ---- opening ---- */

/* Few files of plain text are divided, each near its end. */
static bool has_tails(const dt_text_read_options *o) {
    return o->val_fraction > 0 && !o->separator && !o->class && o->n_input < DT_TEXT_FEW_FILES;
}

static dt_status look_at_all(dt_text_reader *r) {
    const dt_text_read_options *o = r->o;
    for (int32_t i = 0; i < o->n_input; i++) {
        dt_text_file *f = &r->file[i];
        DT_TRY(dt_text_file_look(o->input[i], o->field, f));
        r->total_bytes += f->n_bytes;
        if (f->kind == DT_TEXT_WORDS && o->val_fraction > 0)
            return dt_fail(
                DT_ERR_USAGE,
                "%s: files of tokens are not divided: import those for validation by themselves, without "
                "--val-fraction",
                o->input[i]);
        if (o->label && f->kind != DT_TEXT_LINES)
            return dt_fail(
                DT_ERR_USAGE,
                "%s: --label names a field of JSON lines, and this is a file of another kind (--field "
                "NAME says that it is not)",
                o->input[i]);
        if (o->class && f->kind != DT_TEXT_PLAIN)
            return dt_fail(DT_ERR_USAGE, "%s: files of a folder of classes are plain text, and this is none",
                           o->input[i]);
        if (f->kind == DT_TEXT_PLAIN && has_tails(o)) DT_TRY(dt_text_file_count(o->input[i], &f->n_text));
    }
    return DT_OK;
}

dt_status dt_text_reader_open(const dt_text_read_options *o, dt_text_reader **out) {
    dt_text_reader *r = *out = calloc(1, sizeof *r);
    if (r) r->o = o;
    if (r) r->file = calloc((size_t)o->n_input, sizeof *r->file);
    if (!r || !r->file) return dt_fail(DT_ERR_MEMORY, "import: out of memory");
    return look_at_all(r);
}

void dt_text_reader_close(dt_text_reader *r) {
    if (!r) return;
    dt_text_stream_close(r->stream);
    free(r->file);
    free(r->hold);
    free(r);
}

void dt_text_reader_progress(const dt_text_reader *r, int64_t *done, int64_t *total) {
    *done = r->done_bytes + (r->stream ? dt_text_stream_done(r->stream) : 0);
    *total = r->total_bytes;
}

int32_t dt_text_reader_kind(const dt_text_reader *r) {
    for (int32_t i = 1; i < r->o->n_input; i++)
        if (r->file[i].kind != r->file[0].kind) return -1;
    return (int32_t)r->file[0].kind;
}

dt_status dt_text_reader_ids(const dt_text_reader *r, bool *found, int64_t *n_vocab, int64_t *end) {
    *found = false;
    for (int32_t i = 0; i < r->o->n_input; i++) {
        const dt_text_file *f = &r->file[i];
        if (f->n_vocab == 0) continue;
        if (*found && (*n_vocab != f->n_vocab || *end != f->end))
            return dt_fail(DT_ERR_DATA,
                           "%s: its tokens are those of another tokenizer than of the files before",
                           r->o->input[i]);
        *found = true;
        *n_vocab = f->n_vocab;
        *end = f->end;
    }
    return DT_OK;
}

/* ---- blocks ---- */

static const char *path_of(const dt_text_reader *r) {
    return r->o->input[r->at];
}

static dt_status no_memory(const dt_text_reader *r) {
    return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path_of(r));
}

static void end_file(dt_text_reader *r) {
    dt_text_stream_close(r->stream);
    r->stream = NULL;
    r->done_bytes += r->file[r->at++].n_bytes;
}

/* Fills hold up to `wanted` bytes. */
static dt_status fill(dt_text_reader *r, int64_t wanted) {
    int64_t got;
    if (r->over || r->n_hold >= wanted) return DT_OK;
    if (wanted > r->hold_capacity) {
        uint8_t *grown = realloc(r->hold, (size_t)wanted);
        if (!grown) return no_memory(r);
        r->hold = grown;
        r->hold_capacity = wanted;
    }
    DT_TRY(dt_text_stream_read(r->stream, r->hold + r->n_hold, wanted - r->n_hold, &got));
    r->over = got < wanted - r->n_hold;
    r->n_hold += got;
    return DT_OK;
}

/* The first n bytes of hold leave it; they become the block's where `b` is given. */
static dt_status take(dt_text_reader *r, int64_t n, dt_text_block *b) {
    if (b && n > b->capacity) {
        uint8_t *grown = realloc(b->text, (size_t)n);
        if (!grown) return no_memory(r);
        b->text = grown;
        b->capacity = n;
    }
    if (b) b->n = n;
    if (n == 0) return DT_OK; /* memory may not be there yet */
    if (b) memcpy(b->text, r->hold, (size_t)n);
    memmove(r->hold, r->hold + n, (size_t)(r->n_hold - n));
    r->n_hold -= n;
    r->passed += n;
    return DT_OK;
}

static dt_status open_file(dt_text_reader *r) {
    const dt_text_file *f = &r->file[r->at];
    DT_TRY(dt_text_stream_open(path_of(r), f->kind != DT_TEXT_WORDS, &r->stream));
    r->n_hold = r->passed = 0;
    r->line = 1;
    r->fresh = true;
    r->over = r->inside = r->val = false;
    r->tail = -1;
    if (f->kind == DT_TEXT_PLAIN && has_tails(r->o))
        r->tail = (int64_t)((double)f->n_text * (1 - r->o->val_fraction));
    if (f->kind != DT_TEXT_WORDS) return DT_OK;
    DT_TRY(fill(r, f->offset));
    return take(r, f->offset, NULL);
}

/* ---- JSON lines ---- */

static int64_t count_lines(const uint8_t *text, int64_t n) {
    int64_t lines = 0;
    for (const uint8_t *at = text, *end = text + n; (at = memchr(at, '\n', (size_t)(end - at))); at++)
        lines++;
    return lines;
}

static dt_status next_lines(dt_text_reader *r, dt_text_block *b) {
    int64_t wanted = DT_TEXT_BLOCK_BYTES, n = 0;
    for (;; wanted *= 2) {
        DT_TRY(fill(r, wanted));
        const uint8_t *last = r->n_hold > 0 ? memrchr(r->hold, '\n', (size_t)r->n_hold) : NULL;
        n = r->over ? r->n_hold : last ? last + 1 - r->hold : 0;
        if (n > 0 || r->over) break;
        if (wanted >= DT_TEXT_LINE_BYTES_MAX)
            return dt_fail(DT_ERR_DATA, "%s:%lld: a line of more than %d MiB", path_of(r), (long long)r->line,
                           DT_TEXT_LINE_BYTES_MAX >> 20);
    }
    b->line = r->line;
    r->line += count_lines(r->hold, n);
    return take(r, n, b);
}

/* ---- plain text ---- */

static dt_status add_part(const dt_text_reader *r, dt_text_block *b, dt_text_part part) {
    if (b->n_parts == b->parts_capacity) {
        const int64_t capacity = b->parts_capacity ? 2 * b->parts_capacity : 64;
        dt_text_part *grown = realloc(b->part, (size_t)capacity * sizeof *grown);
        if (!grown) return no_memory(r);
        b->part = grown;
        b->parts_capacity = capacity;
    }
    b->part[b->n_parts++] = part;
    return DT_OK;
}

/* By the head of a document: the same text always falls to the same side. */
static bool is_val(const dt_text_read_options *o, const uint8_t *text, int64_t n) {
    const uint64_t hash = XXH3_64bits(text, (size_t)dt_min_i64(n, DT_TEXT_HEAD_BYTES));
    return o->val_fraction > 0 && (double)(hash >> 11) * 0x1p-53 < o->val_fraction;
}

/* Where the document that goes on at `at` ends in hold: *end, and *next where the one after it begins. False: it does not
 * end here; then no byte after *end is known to be of it. */
static bool find_end(const dt_text_reader *r, int64_t at, int64_t *end, int64_t *next) {
    const char *separator = r->o->separator;
    const int64_t n = r->n_hold, size = separator ? (int64_t)strlen(separator) : 0;
    *end = n;
    if (!separator && (r->tail < 0 || r->val)) return false;
    for (int64_t line = at, stop; line < n; line = stop + 1) {
        const uint8_t *found = memchr(r->hold + line, '\n', (size_t)(n - line));
        stop = found ? found - r->hold : n;
        *next = found ? stop + 1 : n;
        if (!separator) { /* validation begins with a line */
            *end = *next;
            if (r->passed + *next >= r->tail && (*next < n || !r->over)) return found != NULL;
            continue;
        }
        const int64_t length = stop - line - (stop > line && r->hold[stop - 1] == '\r');
        const bool whole = line > 0 || r->fresh;
        *end = line;
        if (whole && (found || r->over) && length == size &&
            memcmp(r->hold + line, separator, (size_t)size) == 0)
            return true;
        if (whole && !found && !r->over && stop - line <= size + 1) return false; /* it may become one */
        *end = n;
    }
    *end = n;
    return false;
}

/* The part of a document in hold from `at` to `end`. */
static dt_status put_part(dt_text_reader *r, dt_text_block *b, int64_t at, int64_t end, bool last) {
    if (!r->inside && end == at) return DT_OK; /* an empty document is none */
    const bool first = !r->inside;
    if (first && r->tail < 0) r->val = is_val(r->o, r->hold + at, end - at);
    r->inside = !last;
    return add_part(r, b, (dt_text_part){at, end, first, last, r->val});
}

/* As much of hold as is known to be of documents; *at where that ends. */
static dt_status split(dt_text_reader *r, dt_text_block *b, int64_t *at) {
    int64_t end = 0, next = 0;
    b->n_parts = *at = 0;
    while (*at < r->n_hold || (r->over && r->inside)) {
        const bool found = find_end(r, *at, &end, &next);
        if (!found && !r->over) {
            if (!r->inside && end - *at < DT_TEXT_HEAD_BYTES) break;
            const int64_t cut = dt_tokenizer_cut(r->o->tokenizer, r->hold + *at, end - *at);
            if (cut > 0) DT_TRY(put_part(r, b, *at, *at + cut, false));
            *at += cut;
            break;
        }
        if (!found) end = next = r->n_hold;
        DT_TRY(put_part(r, b, *at, end, true));
        if (found && r->tail >= 0) r->val = true;
        *at = next;
    }
    return DT_OK;
}

static dt_status next_plain(dt_text_reader *r, dt_text_block *b) {
    int64_t at = 0;
    for (int64_t wanted = DT_TEXT_BLOCK_BYTES;; wanted *= 2) {
        DT_TRY(fill(r, wanted));
        DT_TRY(split(r, b, &at));
        if (at > 0 || r->over) break;
        if (wanted > 2 * DT_PIECE_BYTES_MAX)
            return dt_fail(DT_ERR_DATA, "%s: a word of more than %d MiB, after byte %lld", path_of(r),
                           DT_PIECE_BYTES_MAX >> 20, (long long)r->passed);
    }
    if (at > 0) r->fresh = r->hold[at - 1] == '\n';
    return take(r, at, b);
}

/* ---- all kinds ---- */

static dt_status next_words(dt_text_reader *r, dt_text_block *b) {
    b->width = r->file[r->at].width;
    DT_TRY(fill(r, DT_TEXT_BLOCK_BYTES));
    return take(r, r->n_hold, b);
}

dt_status dt_text_reader_next(dt_text_reader *r, dt_text_block *b, bool *more) {
    static dt_status (*const next[])(dt_text_reader *, dt_text_block *) = {
        [DT_TEXT_PLAIN] = next_plain, [DT_TEXT_LINES] = next_lines, [DT_TEXT_WORDS] = next_words};
    *more = false;
    while (r->at < r->o->n_input) {
        if (!r->stream) DT_TRY(open_file(r));
        b->kind = r->file[r->at].kind;
        b->file = path_of(r);
        b->class = r->o->class ? r->o->class[r->at] : NULL;
        b->n = b->n_parts = 0;
        DT_TRY(next[b->kind](r, b));
        *more = b->n > 0 || b->n_parts > 0;
        if (*more) return DT_OK;
        end_file(r);
    }
    return DT_OK;
}

/* ---- documents of a block ---- */

/* A class is called by a string, a whole number or a truth. */
static dt_status take_class(const json_t *value, const char *field, char number[32], dt_text_document *d) {
    if (json_is_integer(value)) snprintf(number, 32, "%lld", (long long)json_integer_value(value));
    if (json_is_boolean(value)) snprintf(number, 32, json_is_true(value) ? "true" : "false");
    d->class = json_is_string(value) ? json_string_value(value) : number[0] ? number : NULL;
    if (d->class && d->class[0] && !strchr(d->class, '\n') &&
        (!json_is_string(value) || strlen(d->class) == json_string_length(value)))
        return DT_OK;
    return dt_fail(DT_ERR_DATA,
                   "no object with a class in \"%s\", a string of one line or a whole number (--label)",
                   field);
}

static dt_status use_line(const dt_text_read_options *o, const char *text, size_t n, dt_text_use *use,
                          void *arg) {
    json_error_t error;
    const char *field = o->field ? o->field : "text";
    char number[32] = "";
    if (n == 0) return DT_OK;
    json_t *root = json_loadb(text, n, JSON_ALLOW_NUL, &error);
    if (!root) return dt_fail(DT_ERR_DATA, "not JSON: %s", error.text);
    const json_t *value = json_object_get(root, field);
    const uint8_t *document = (const uint8_t *)json_string_value(value);
    const int64_t size = (int64_t)json_string_length(value);
    dt_status status = DT_OK;
    if (!document) status = dt_fail(DT_ERR_DATA, "no object with a string \"%s\" (--field NAME)", field);
    dt_text_document d = {.text = document, .n = size, .first = true, .last = true};
    if (status == DT_OK && o->label)
        status = take_class(json_object_get(root, o->label), o->label, number, &d);
    if (status == DT_OK && size > 0) {
        d.val = is_val(o, document, size);
        status = use(arg, &d);
    }
    json_decref(root);
    return status;
}

static dt_status each_line(const dt_text_block *b, const dt_text_read_options *o, bool skip, dt_text_use *use,
                           void *arg, int64_t *n_skipped) {
    const char *at = (const char *)b->text, *const end = at + b->n;
    for (int64_t line = b->line; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        size_t n = (size_t)(stop - at);
        if (n > 0 && at[n - 1] == '\r') n--;
        const dt_status status = use_line(o, at, n, use, arg);
        if (status == DT_ERR_DATA && skip)
            ++*n_skipped;
        else if (status != DT_OK) {
            dt_error_context("%s:%lld", b->file, (long long)line);
            return status;
        }
        at = stop + 1;
    }
    return DT_OK;
}

dt_status dt_text_block_each(const dt_text_block *b, const dt_text_read_options *o, bool skip,
                             dt_text_use *use, void *arg, int64_t *n_skipped) {
    if (b->kind == DT_TEXT_LINES) return each_line(b, o, skip, use, arg, n_skipped);
    for (int64_t i = 0; i < b->n_parts; i++) {
        const dt_text_part *p = &b->part[i];
        const dt_text_document d = {
            b->text + p->begin, p->end - p->begin, p->first, p->last, p->val, b->class};
        const dt_status status = use(arg, &d);
        if (status != DT_OK) {
            dt_error_context("%s", b->file);
            return status;
        }
    }
    return DT_OK;
}
