/* One input through a parser of the data room: shared by the libFuzzer programs in tests/fuzz and by the
 * short deterministic runs of test_data_fuzz.c. Whatever the bytes are, these return. */
#ifndef DT_TEST_FUZZ_TARGETS_H
#define DT_TEST_FUZZ_TARGETS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zlib.h>

#include "array_source.h"
#include "arrays.h"
#include "class_names.h"
#include "exif.h"
#include "folder.h"
#include "image_file.h"
#include "index.h"
#include "jpeg.h"
#include "png_image.h"
#include "bpe.h"
#include "data/choices.h"
#include "shard.h"
#include "source.h"
#include "text_read.h"
#include "token_shard.h"

/* A temporary file; -1 when there is none. HDF5 wants a real path, so it has a name until it is dropped. */
static inline int temporary_file(const uint8_t *bytes, size_t n, char path[64]) {
    strcpy(path, "/tmp/dt_fuzz_XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return -1;
    if (write(fd, bytes, n) == (ssize_t)n) return fd;
    close(fd);
    unlink(path);
    return -1;
}

static inline void drop_file(int fd, const char *path) {
    if (fd < 0) return;
    close(fd);
    unlink(path);
}

/* Opens the bytes as a shard and reads every sample. Returns the status of opening. */
static inline dt_status fuzz_shard(const uint8_t *bytes, size_t n) {
    char path[64];
    dt_shard s;
    int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status status = dt_shard_open(path, &s);
    for (int64_t i = 0; status == DT_OK && i < s.n_samples; i++) {
        int64_t size = dt_shard_sample_bytes(&s, i);
        uint8_t *sample = malloc((size_t)size);
        if (sample && dt_shard_read(&s, i, 0, size, sample) == DT_OK &&
            dt_shard_check(&s, i, sample) == DT_OK)
            (void)sample[size - 1];
        free(sample);
    }
    dt_shard_close(&s);
    drop_file(fd, path);
    return status;
}

/* The first byte says how many of the next are the label file; the rest is the image file. */
static inline dt_status fuzz_idx(const uint8_t *bytes, size_t n) {
    char images[64], labels[64];
    if (n < 1) return DT_ERR_DATA;
    size_t n_labels = bytes[0] < n - 1 ? bytes[0] : n - 1;
    int label_fd = temporary_file(bytes + 1, n_labels, labels);
    int image_fd = temporary_file(bytes + 1 + n_labels, n - 1 - n_labels, images);
    const char *input[] = {images, labels};
    dt_import_options o = {.kind = DT_IMPORT_IDX, .input = input, .n_input = 2};
    dt_source source = {.state = NULL};
    dt_status status = DT_ERR_IO;
    if (label_fd >= 0 && image_fd >= 0) status = dt_source_idx(&o, &source);
    for (int64_t i = 0; status == DT_OK && i < source.n_samples; i++) {
        dt_item item;
        status = source.load(source.state, NULL, i, &item);
    }
    dt_source_close(&source);
    drop_file(label_fd, labels);
    drop_file(image_fd, images);
    return status;
}

static inline void fuzz_hear(void *arg, const char *text) {
    (void)arg;
    DT_ASSERT(strlen(text) < 1024);
}

/* Opens the bytes as a source of arrays, and loads every row. */
static inline dt_status fuzz_array_source(const uint8_t *bytes, size_t n, dt_import_kind kind,
                                          dt_status (*open)(const dt_import_options *, dt_array_source *)) {
    char path[64];
    const char *input[] = {path};
    const dt_import_options o = {.kind = kind, .input = input, .n_input = 1, .note = fuzz_hear};
    dt_array_source source = {.state = NULL};
    int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status status = open(&o, &source);
    for (int32_t k = 0; status == DT_OK && k < source.n_fields; k++) {
        uint8_t *row = malloc((size_t)dt_field_bytes(&source.field[k]));
        for (int64_t i = 0; row && status == DT_OK && i < source.n_rows; i++)
            status = source.load(source.state, k, &i, 1, row);
        free(row);
    }
    dt_array_source_close(&source);
    drop_file(fd, path);
    return status;
}

static inline dt_status fuzz_npy(const uint8_t *bytes, size_t n) {
    return fuzz_array_source(bytes, n, DT_IMPORT_NPY, dt_source_npy);
}
static inline dt_status fuzz_npz(const uint8_t *bytes, size_t n) {
    return fuzz_array_source(bytes, n, DT_IMPORT_NPZ, dt_source_npz);
}
static inline dt_status fuzz_csv(const uint8_t *bytes, size_t n) {
    dt_status ignored = fuzz_array_source(bytes, n, DT_IMPORT_CSV, dt_source_csv_inputs);
    (void)ignored;
    return fuzz_array_source(bytes, n, DT_IMPORT_CSV, dt_source_csv);
}

/* Opens the bytes as a shard of arrays and reads every row. Returns the status of opening. */
static inline dt_status fuzz_arrays(const uint8_t *bytes, size_t n) {
    char path[64];
    dt_array_shard s;
    bool arrays;
    void *row[DT_FIELDS_MAX] = {NULL};
    int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status ignored = dt_array_shard_is(path, &arrays);
    dt_status status = dt_array_shard_open(path, &s);
    for (int32_t k = 0; status == DT_OK && k < s.n_fields; k++)
        row[k] = malloc((size_t)dt_field_bytes(&s.field[k]));
    for (int64_t i = 0; status == DT_OK && i < s.n_samples; i++)
        if (dt_array_shard_read(&s, i, row) == DT_OK && dt_array_shard_finite(&s, i, row) == DT_OK)
            ignored = dt_array_shard_check(&s, i, row);
    (void)ignored;
    for (int32_t k = 0; k < DT_FIELDS_MAX; k++) free(row[k]);
    dt_array_shard_close(&s);
    drop_file(fd, path);
    return status;
}

/* Reads the bytes as a CSV list of labels; what is read is sound. */
static inline dt_status fuzz_labels(const uint8_t *bytes, size_t n) {
    char path[64];
    dt_label_list list;
    int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status status = dt_label_list_read(path, &list);
    for (int64_t i = 0; status == DT_OK && i < list.n; i++) {
        const dt_label *row = &list.row[i];
        if (!row->name[0] || row->name[0] == '/' || !row->label[0] || strchr(row->label, '\n') ||
            strncmp(row->name, "../", 3) == 0 || strstr(row->name, "/../") || row->line < 2 ||
            (i > 0 && strcmp(list.row[i - 1].name, row->name) >= 0))
            abort();
    }
    if (status == DT_OK) dt_label_list_free(&list);
    drop_file(fd, path);
    return status;
}

/* Reads the bytes as a list of class names; every name is found where it is. */
static inline dt_status fuzz_names(const uint8_t *bytes, size_t n) {
    char path[64];
    dt_class_names names;
    int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status status = dt_class_names_read(path, &names);
    for (int64_t i = 0; status == DT_OK && i < names.n; i++)
        if (dt_class_names_find(&names, names.name[i]) != i || !dt_class_names_near(&names, names.name[i]))
            abort();
    if (status == DT_OK) dt_class_names_close(&names);
    drop_file(fd, path);
    return status;
}

/* Reads the bytes as a directory's index.json. */
static inline dt_status fuzz_index(const uint8_t *bytes, size_t n) {
    char dir[] = "/tmp/dt_fuzz_XXXXXX", path[64];
    dt_index index;
    bool found;
    if (!mkdtemp(dir)) return DT_ERR_IO;
    snprintf(path, sizeof path, "%s/" DT_INDEX_NAME, dir);
    FILE *f = fopen(path, "wb");
    if (f) {
        size_t ignored = fwrite(bytes, 1, n, f);
        (void)ignored;
        fclose(f);
    }
    dt_status status = dt_index_read(dir, &index, &found);
    dt_index_free(&index);
    unlink(path);
    rmdir(dir);
    return status;
}

/* Makes the checksums of a PNG file's chunks right, so that damage gets past them. */
static inline void mend_png(uint8_t *bytes, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        size_t size = (size_t)bytes[at] << 24 | (size_t)bytes[at + 1] << 16 | (size_t)bytes[at + 2] << 8 |
                      (size_t)bytes[at + 3];
        if (size > n - at - 12) return;
        uint32_t crc = (uint32_t)crc32(0, bytes + at + 4, (uInt)(size + 4));
        for (int i = 0; i < 4; i++) bytes[at + 8 + size + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + size;
    }
}

/* As an import takes it: kept, decoded, turned, cut and resized. */
static inline dt_status fuzz_load(const uint8_t *bytes, size_t n, dt_jpeg *j) {
    static const dt_image_options options[] = {
        {.channels = 3, .raw = true, .exif_rotate = true},
        {.channels = 1, .raw = true, .exif_rotate = true, .resize = 5, .square = true},
        {.channels = 3, .resize = 7, .exif_rotate = true}};
    dt_status status = DT_OK;
    for (size_t i = 0; i < sizeof options / sizeof options[0] && status == DT_OK; i++) {
        dt_item item = {.pixel = NULL};
        status = dt_image_load(&options[i], j, bytes, (int64_t)n, &item);
        free(item.owned);
    }
    return status;
}

static inline bool is_small(int32_t h, int32_t w) {
    return (int64_t)h * w <= 1 << 20;
}

static inline dt_status fuzz_png(const uint8_t *bytes, size_t n, dt_jpeg *j) {
    uint8_t *mended = malloc(n);
    if (!mended) return DT_ERR_MEMORY;
    memcpy(mended, bytes, n);
    mend_png(mended, n);
    /* The header's numbers; what is large takes long. */
    const uint8_t *ihdr = mended + 16;
    bool small = n < 24 || (ihdr[0] == 0 && ihdr[1] == 0 && ihdr[4] == 0 && ihdr[5] == 0);
    dt_status status = small ? fuzz_load(mended, n, j) : DT_OK;
    if (small && status == DT_OK) status = fuzz_load(bytes, n, j);
    free(mended);
    return status;
}

/* Decodes a window that depends on the size of the image, whole and scaled; then as an import does. The bytes
 * are taken for EXIF data, too. */
static inline dt_status fuzz_image(const uint8_t *bytes, size_t n) {
    dt_jpeg *j;
    dt_jpeg_part part;
    int32_t h, w;
    dt_orientation orientation = dt_exif_orientation(bytes, (int64_t)n);
    if (orientation < 1 || orientation > 8) abort();
    if (dt_jpeg_new(&j) != DT_OK) return DT_ERR_MEMORY;
    if (dt_png_is(bytes, (int64_t)n)) {
        dt_status status = fuzz_png(bytes, n, j);
        dt_jpeg_free(j);
        return status;
    }
    dt_status status = dt_jpeg_begin(j, bytes, (int64_t)n, &h, &w);
    if (status == DT_OK && is_small(h, w)) {
        status = dt_jpeg_decode(j, w / 3, h / 3, w - w / 3, h - h / 3, 8, 8, 3, &part);
        dt_status again = dt_jpeg_begin(j, bytes, (int64_t)n, &h, &w);
        if (again == DT_OK) again = dt_jpeg_decode(j, 0, h / 2, w, 1, w, 1, 1, &part);
        if (status == DT_OK) status = again;
        if (status == DT_OK) status = fuzz_load(bytes, n, j);
    }
    dt_jpeg_free(j);
    return status;
}

/* Encodes the bytes by each kind of tokenizer, whole and in two parts: they come back, and the parts make the whole. */
static inline dt_status fuzz_encode(const uint8_t *bytes, size_t n) {
    static const char merges[] = "{\"kind\":\"bpe\",\"merges\":\"t h\\nth e\\n\xC4\xA0 the\\na a\\naa "
                                 "aa\\n\xC3\xA5 \xC5\x83\\n1 2\\n' s\\n\"}";
    static const uint32_t code[] = {0xE9, 0x3000, 0x5B66};
    dt_tokenizer *t[3] = {NULL};
    dt_status status = dt_tokenizer_parse("fuzz", merges, sizeof merges - 1, &t[0]);
    if (status == DT_OK) status = dt_tokenizer_byte(&t[1]);
    if (status == DT_OK) status = dt_tokenizer_char(code, 3, &t[2]);
    for (int i = 0; i < 3 && status == DT_OK; i++) {
        dt_coder *c;
        dt_tokens whole = {NULL}, parts = {NULL};
        dt_tokenizer_info info;
        size_t at = 0;
        dt_tokenizer_info_get(t[i], &info);
        status = dt_coder_new(t[i], &c);
        if (status == DT_OK) status = dt_coder_encode(c, bytes, (int64_t)n, &whole);
        const int64_t cut = n > 0 ? dt_tokenizer_cut(info.kind, bytes, (int64_t)n) : 0;
        if (cut < 0 || cut > (int64_t)n) abort();
        if (status == DT_OK) status = dt_coder_encode(c, bytes, cut, &parts);
        if (status == DT_OK) status = dt_coder_encode(c, bytes + cut, (int64_t)n - cut, &parts);
        if (whole.n != parts.n ||
            (whole.n > 0 && memcmp(whole.id, parts.id, (size_t)whole.n * sizeof *whole.id) != 0))
            abort();
        for (int64_t k = 0; k < whole.n; k++) {
            const uint8_t *token;
            const size_t size = (size_t)dt_tokenizer_bytes(t[i], whole.id[k], &token);
            if (size == 0 || size > n - at || memcmp(token, bytes + at, size) != 0) abort();
            at += size;
        }
        if (at != n) abort();
        dt_coder_free(c);
        free(whole.id);
        free(parts.id);
    }
    for (int i = 0; i < 3; i++) dt_tokenizer_close(t[i]);
    return status;
}

/* Reads the bytes as files of a tokenizer, and as one that is kept; what is read is kept as it is. The first byte says
 * how many of the next are vocab.json: its number by four, 0: none. */
static inline dt_status fuzz_merges(const uint8_t *bytes, size_t n) {
    char merges[64], vocab[64];
    dt_tokenizer *t, *kept, *other;
    if (n < 1) return DT_ERR_DATA;
    const size_t n_vocab = 4u * bytes[0] < n - 1 ? 4u * bytes[0] : n - 1;
    const int vocab_fd = temporary_file(bytes + 1, n_vocab, vocab),
              merges_fd = temporary_file(bytes + 1 + n_vocab, n - 1 - n_vocab, merges);
    dt_status status = DT_ERR_IO;
    if (vocab_fd >= 0 && merges_fd >= 0) status = dt_tokenizer_read(merges, n_vocab ? vocab : NULL, &t);
    if (status == DT_OK) {
        char *text;
        dt_tokenizer_info a, b;
        if (dt_tokenizer_text(t, &text) != DT_OK ||
            dt_tokenizer_parse("fuzz", text, strlen(text), &kept) != DT_OK)
            abort();
        dt_tokenizer_info_get(t, &a);
        dt_tokenizer_info_get(kept, &b);
        if (a.xxh3 != b.xxh3 || a.n_vocab != b.n_vocab || a.end != b.end) abort();
        free(text);
        dt_tokenizer_close(kept);
        dt_tokenizer_close(t);
    }
    drop_file(vocab_fd, vocab);
    drop_file(merges_fd, merges);
    if (dt_tokenizer_parse("fuzz", (const char *)bytes + 1, n - 1, &other) == DT_OK)
        dt_tokenizer_close(other);
    return status;
}

static inline dt_status fuzz_use(void *arg, const dt_text_document *d) {
    for (int64_t i = 0; i < d->n; i++) *(uint64_t *)arg += d->text[i];
    for (const char *at = d->class; at && *at; at++) *(uint64_t *)arg += (uint8_t)*at;
    return DT_OK;
}

/* Reads the bytes as a file of text. The first says what it is taken for: plain text, with lines between documents or
 * divided near its end; JSON lines; or what its name says. Packed ones and those of llm.c are known by their bytes. */
static inline dt_status fuzz_text(const uint8_t *bytes, size_t n) {
    if (n < 1) return DT_ERR_DATA;
    char path[64] = "/tmp/dt_fuzz_XXXXXX.bin";
    const int mode = bytes[0] % 5,
              fd = mode == 4 ? mkstemps(path, 4) : temporary_file(bytes + 1, n - 1, path);
    if (fd < 0) return DT_ERR_IO;
    if (mode == 4 && write(fd, bytes + 1, n - 1) != (ssize_t)(n - 1)) return DT_ERR_IO;
    const char *input[] = {path};
    const dt_text_read_options o = {.input = input,
                                    .n_input = 1,
                                    .separator = mode == 1 ? "--" : NULL,
                                    .val_fraction = mode == 2 ? 0.3 : 0,
                                    .field = mode == 3 ? "text" : NULL,
                                    .label = mode == 3 && bytes[0] & 128 ? "class" : NULL,
                                    .tokenizer = DT_TOKENIZER_BPE};
    dt_text_reader *r;
    dt_text_block b = {.file = NULL};
    bool more = true;
    uint64_t sum = 0;
    int64_t n_skipped = 0;
    dt_status status = dt_text_reader_open(&o, &r);
    while (status == DT_OK && more) {
        status = dt_text_reader_next(r, &b, &more);
        if (status == DT_OK && more && b.kind != DT_TEXT_WORDS)
            status = dt_text_block_each(&b, &o, false, fuzz_use, &sum, &n_skipped);
    }
    dt_text_block_free(&b);
    dt_text_reader_close(r);
    drop_file(fd, path);
    return status == DT_ERR_USAGE ? DT_ERR_DATA : status;
}

/* Reads the bytes as questions; every token of every ending is looked at. */
static inline dt_status fuzz_choices(const uint8_t *bytes, size_t n) {
    char path[64];
    dt_choices c;
    dt_tokenizer *t;
    const int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status status = dt_tokenizer_byte(&t);
    if (status != DT_OK) return status;
    status = dt_choices_read(path, t, &c);
    for (int64_t i = 0; status == DT_OK && i < c.n; i++) {
        const dt_choice *q = &c.question[i];
        for (int64_t k = q->context; k < q->ending[q->n_ending]; k++)
            if (c.token.id[k] < 0 || c.token.id[k] > 256) abort();
        if (q->label < 0 || q->label >= q->n_ending || q->ending[0] < q->context) abort();
    }
    dt_choices_free(&c);
    dt_tokenizer_close(t);
    drop_file(fd, path);
    return status;
}

/* Opens the bytes as a shard of tokens and reads all of it. */
static inline dt_status fuzz_tokens(const uint8_t *bytes, size_t n) {
    char path[64];
    bool tokens;
    dt_token_set s;
    const int fd = temporary_file(bytes, n, path);
    if (fd < 0) return DT_ERR_IO;
    dt_status ignored = dt_token_shard_is(path, &tokens);
    (void)ignored;
    dt_status status = dt_token_set_open(path, &s);
    int32_t last = s.info.end;
    if (status == DT_OK) status = dt_token_shard_verify(&s.shard[0], s.tokenizer, &last);
    dt_token_set_close(&s);
    drop_file(fd, path);
    return status;
}

#endif
