/* llm.c's files of tokens have a header of 256 numbers, nanoGPT's are tokens alone. */
#include "text_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/text.h"
#include "files.h"
#include "text_stream.h"

enum { HEADER_BYTES = 256 * 4 };

/* llm.c's formats; what its vocabulary and the token before each document are follows from the version. */
static const struct {
    int32_t magic, version, width;
    int64_t n_vocab, end;
} headers[] = {{20240520, 1, 2, 50257, 50256}, {20240801, 7, 4, 128256, 128000}};
enum { N_HEADERS = sizeof headers / sizeof headers[0], CHOICES_MAGIC = 20240522 };

static bool ends_with(const char *name, size_t n, const char *what) {
    const size_t size = strlen(what);
    return n > size && strncmp(name + n - size, what, size) == 0;
}

static bool is_lines(const char *path) {
    size_t n = strlen(path);
    if (ends_with(path, n, ".gz"))
        n -= 3;
    else if (ends_with(path, n, ".zst"))
        n -= 4;
    return ends_with(path, n, ".jsonl") || ends_with(path, n, ".ndjson");
}

static dt_status look_at_header(const char *path, const int32_t head[3], dt_text_file *out) {
    int i = 0;
    while (i < N_HEADERS && head[0] != headers[i].magic) i++;
    if (head[1] != headers[i].version)
        return dt_fail(DT_ERR_DATA, "%s: a file of llm.c of version %d: version %d of its kind is read", path,
                       head[1], headers[i].version);
    out->width = headers[i].width;
    out->offset = HEADER_BYTES;
    out->n_tokens = head[2];
    out->n_vocab = headers[i].n_vocab;
    out->end = headers[i].end;
    const int64_t wanted = HEADER_BYTES + out->n_tokens * out->width;
    if (head[2] < 1 || out->n_bytes != wanted)
        return dt_fail(DT_ERR_DATA, "%s: its header says %d tokens, which are %lld bytes, and it has %lld",
                       path, head[2], (long long)wanted, (long long)out->n_bytes);
    return DT_OK;
}

static dt_status look_at_words(const char *path, const int32_t head[3], dt_text_file *out) {
    out->kind = DT_TEXT_WORDS;
    for (int i = 0; i < N_HEADERS; i++)
        if (head[0] == headers[i].magic) return look_at_header(path, head, out);
    if (head[0] == CHOICES_MAGIC)
        return dt_fail(DT_ERR_DATA, "%s: questions with choices for an evaluation, and no text", path);
    if (out->n_bytes % 2 != 0)
        return dt_fail(DT_ERR_DATA, "%s: %s, which are no tokens of 2 bytes, and no header of llm.c", path,
                       dt_count_text(out->n_bytes, "byte").s);
    out->width = 2;
    out->n_tokens = out->n_bytes / 2;
    return DT_OK;
}

dt_status dt_text_file_look(const char *path, const char *field, dt_text_file *out) {
    int fd;
    int32_t head[3] = {0};
    *out = (dt_text_file){.kind = field || is_lines(path) ? DT_TEXT_LINES : DT_TEXT_PLAIN};
    DT_TRY(dt_file_open(path, &fd, &out->n_bytes));
    const dt_status status = dt_file_pread(path, fd, 0, dt_min_i64(out->n_bytes, sizeof head), head);
    close(fd);
    DT_TRY(status);
    if (out->n_bytes == 0) return dt_fail(DT_ERR_DATA, "%s: it is empty", path);
    out->n_text = out->n_bytes;
    const uint8_t *byte = (const uint8_t *)head;
    if ((byte[0] == 0xFF && byte[1] == 0xFE) || (byte[0] == 0xFE && byte[1] == 0xFF))
        return dt_fail(DT_ERR_DATA, "%s: text in UTF-16: make UTF-8 of it (iconv -f UTF-16 -t UTF-8)", path);
    bool words = ends_with(path, strlen(path), ".bin") || head[0] == CHOICES_MAGIC;
    for (int i = 0; i < N_HEADERS; i++) words = words || head[0] == headers[i].magic;
    return words ? look_at_words(path, head, out) : DT_OK;
}

dt_status dt_text_file_count(const char *path, int64_t *n) {
    dt_text_stream *s;
    int64_t got = 1;
    *n = 0;
    uint8_t *block = malloc(DT_TEXT_BLOCK_BYTES);
    if (!block) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
    dt_status status = dt_text_stream_open(path, true, &s);
    if (status == DT_OK) {
        while (status == DT_OK && got > 0) {
            status = dt_text_stream_read(s, block, DT_TEXT_BLOCK_BYTES, &got);
            *n += got;
        }
        dt_text_stream_close(s);
    }
    free(block);
    return status;
}
