/* Describing a set of shards, and reading all of it to see that it is sound. */
#include "data/info.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/text.h"
#include "dataset.h"
#include "files.h"
#include "index.h"
#include "jpeg.h"

enum { CLASSES_SHOWN = 20, TOKENS_SHOWN = 64, PROGRESS_EVERY = 256 };

static void print_channels(FILE *out, const char *title, const double *x, int64_t n) {
    fprintf(out, "%-9s", title);
    for (int64_t c = 0; c < n; c++) fprintf(out, " %.4f", x[c]);
    fprintf(out, "\n");
}

static dt_status print_classes(const dt_dataset *d, FILE *out) {
    int64_t n = d->info.n_classes, shown = dt_min_i64(n, CLASSES_SHOWN);
    int64_t *count = calloc((size_t)n, sizeof *count);
    if (!count) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", d->path);
    for (int64_t i = 0; i < d->n_shards; i++)
        for (int64_t k = 0; k < d->shard[i].n_samples; k++) count[d->shard[i].label[k]]++;
    fprintf(out, "classes   %lld\n", (long long)n);
    for (int64_t i = 0; i < shown; i++)
        fprintf(out, "  %6lld  %-24s %lld\n", (long long)i, dt_dataset_class_name(d, i), (long long)count[i]);
    if (shown < n) fprintf(out, "  ... and %lld more\n", (long long)(n - shown));
    free(count);
    return DT_OK;
}

static void print_arrays(const char *path, const dt_arrays *a, FILE *out) {
    int64_t row_bytes = 0;
    for (int32_t k = 0; k < a->n_fields; k++) row_bytes += dt_field_bytes(&a->field[k]);
    fprintf(out, "data      %s\n", path);
    fprintf(out, "kind      arrays\n");
    fprintf(out, "samples   %lld in %s, %s\n", (long long)a->n_samples, dt_count_text(a->n_shards, "shard").s,
            dt_bytes_text((double)row_bytes * (double)a->n_samples).s);
    for (int32_t k = 0; k < a->n_fields; k++)
        fprintf(out, "%s %s\n", k ? "         " : "fields   ", dt_field_text(&a->field[k]).s);
}

/* The beginning of the text, without what would move the cursor of a terminal. */
static dt_status print_excerpt(const dt_token_set *s, FILE *out) {
    int32_t token[TOKENS_SHOWN];
    const int64_t n = dt_min_i64(s->n_tokens, TOKENS_SHOWN);
    char text[8 * TOKENS_SHOWN] = "";
    size_t at = 0;
    void *room = malloc((size_t)dt_token_room_bytes(n));
    if (!room) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    const dt_status status = dt_token_set_read(s, 0, n, false, room, token);
    free(room);
    DT_TRY(status);
    for (int64_t i = 0; i < n && at + 1 < sizeof text; i++) {
        const uint8_t *bytes = (const uint8_t *)" | "; /* between documents */
        const int64_t size = token[i] == s->info.end ? 3 : dt_tokenizer_bytes(s->tokenizer, token[i], &bytes);
        const size_t taken = (size_t)dt_min_i64(size, (int64_t)(sizeof text - 1 - at));
        memcpy(text + at, bytes, taken);
        at += taken;
    }
    fprintf(out, "begins    ");
    for (size_t i = 0; i < at;) {
        const int bytes = dt_utf8_bytes(text + i);
        const bool shown = bytes > 1 || (bytes == 1 && text[i] >= ' ' && text[i] != 0x7F);
        const bool blank = text[i] == '\n' || text[i] == '\t' || text[i] == '\r';
        if (shown)
            fwrite(text + i, 1, (size_t)bytes, out);
        else if (blank || i + 4 < at) /* the last character may be cut */
            fputc(blank ? ' ' : '?', out);
        i += (size_t)(bytes > 0 ? bytes : 1);
    }
    fprintf(out, "\n");
    return DT_OK;
}

static dt_status print_tokens(const dt_dataset *d, FILE *out) {
    const dt_token_set *s = &d->tokens;
    char end[32] = "";
    if (s->info.end >= 0) snprintf(end, sizeof end, ", end %d", s->info.end);
    fprintf(out, "data      %s\n", d->path);
    fprintf(out, "kind      tokens, u%d\n", 8 * s->shard[0].width);
    fprintf(out, "tokens    %lld in %s\n", (long long)s->n_tokens, dt_count_text(s->n_shards, "shard").s);
    fprintf(out, "documents %lld\n", (long long)s->n_documents);
    if (d->info.n_classes > 0) fprintf(out, "classes   %lld\n", (long long)d->info.n_classes);
    fprintf(out, "tokenizer %s%s, %016llx\n", s->info.name, end, (unsigned long long)s->info.xxh3);
    if (s->info.kind == DT_TOKENIZER_IDS) return DT_OK;
    if (s->text_bytes > 0)
        fprintf(out, "text      %s, %.3f bytes a token\n", dt_bytes_text((double)s->text_bytes).s,
                (double)s->text_bytes / (double)s->n_tokens);
    return print_excerpt(s, out);
}

dt_status dt_data_info_print(const char *path, FILE *out) {
    dt_dataset *d;
    DT_TRY(dt_dataset_open_path(path, &d));
    if (d->row == &dt_tokens_row) {
        const dt_status status = print_tokens(d, out);
        dt_dataset_close(d);
        return status;
    }
    if (d->row == &dt_arrays_row) {
        print_arrays(path, &d->arrays, out);
        dt_dataset_close(d);
        return DT_OK;
    }
    const dt_dataset_info *info = &d->info;
    int64_t bytes = 0;
    for (int64_t i = 0; i < d->n_shards; i++)
        for (int64_t k = 0; k < d->shard[i].n_samples; k++) bytes += dt_shard_sample_bytes(&d->shard[i], k);
    fprintf(out, "data      %s\n", path);
    fprintf(out, "kind      %s\n", info->jpeg ? "JPEG" : "raw u8");
    fprintf(out, "samples   %lld in %s, %s\n", (long long)info->n_samples,
            dt_count_text(d->n_shards, "shard").s, dt_bytes_text((double)bytes).s);
    fprintf(out, "shape     %s%lld x %lld x %lld (H x W x C)\n", info->jpeg ? "up to " : "",
            (long long)info->height, (long long)info->width, (long long)info->channels);
    if (d->has_stats) {
        print_channels(out, "mean", info->mean, info->channels);
        print_channels(out, "std", info->stddev, info->channels);
    }
    dt_status status = print_classes(d, out);
    dt_dataset_close(d);
    return status;
}

typedef struct verifier {
    bool (*progress)(void *arg, int64_t done, int64_t total);
    void *arg;
    dt_data_verify_result *result;
    dt_jpeg *decoder;
    uint8_t *bytes;
    int64_t capacity;
} verifier;

/* Hashes the files before anything parses them. */
static dt_status verify_index(const char *path, verifier *v) {
    dt_index index;
    DT_TRY(dt_index_read(path, &index, &v->result->indexed));
    dt_status status = DT_OK;
    for (int64_t i = 0; i < index.n_shards && status == DT_OK; i++) {
        const dt_index_shard *row = &index.shard[i];
        char *file;
        uint64_t hash = 0;
        int64_t n_bytes = 0;
        if (asprintf(&file, "%s/%s", path, row->file) < 0) {
            status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", path);
            break;
        }
        status = dt_file_hash(file, 0, NULL, &hash, &n_bytes);
        if (status == DT_OK && (hash != row->xxh3 || n_bytes != row->n_bytes))
            status = dt_fail(DT_ERR_DATA,
                             "%s: differs from what " DT_INDEX_NAME " says: damaged (import it again)", file);
        free(file);
    }
    dt_index_free(&index);
    return status;
}

static dt_status verify_jpeg(verifier *v, const dt_shard *s, int64_t i, int64_t n) {
    int32_t h, w;
    dt_jpeg_part part;
    DT_TRY(dt_jpeg_begin(v->decoder, v->bytes, n, &h, &w));
    if (h != s->jpeg_height[i] || w != s->jpeg_width[i])
        return dt_fail(DT_ERR_DATA, "the JPEG is %d x %d, but the shard says %d x %d", h, w,
                       s->jpeg_height[i], s->jpeg_width[i]);
    DT_TRY(dt_jpeg_decode(v->decoder, 0, 0, w, h, 1, 1, s->channels, &part));
    if (dt_jpeg_damaged(v->decoder)) return dt_fail(DT_ERR_DATA, "the JPEG data is damaged or cut short");
    return DT_OK;
}

static dt_status verify_sample(verifier *v, const dt_shard *s, int64_t i) {
    int64_t n = dt_shard_sample_bytes(s, i);
    if (n > v->capacity) {
        free(v->bytes);
        v->bytes = malloc((size_t)n);
        v->capacity = v->bytes ? n : 0;
        if (!v->bytes) return dt_fail(DT_ERR_MEMORY, "%s: out of memory", s->path);
    }
    DT_TRY(dt_shard_read(s, i, 0, n, v->bytes));
    v->result->n_bytes += n;
    if (s->checksum)
        DT_TRY(dt_shard_check(s, i, v->bytes));
    else
        v->result->n_unchecked++;
    if (!s->jpeg) return DT_OK;
    dt_status status = verify_jpeg(v, s, i, n);
    if (status != DT_OK) dt_error_context("%s: sample %lld", s->path, (long long)i);
    return status;
}

/* One more sample of n is sound. */
static dt_status tell(verifier *v, int64_t n) {
    const int64_t done = ++v->result->n_samples;
    if (v->progress && done % PROGRESS_EVERY == 0 && done < n && !v->progress(v->arg, done, n))
        return dt_fail(DT_STOPPED, "interrupted");
    return DT_OK;
}

static dt_status verify_images(verifier *v, const dt_dataset *d) {
    dt_status status = dt_jpeg_new(&v->decoder);
    for (int64_t i = 0; status == DT_OK && i < d->n_shards; i++) {
        for (int64_t k = 0; status == DT_OK && k < d->shard[i].n_samples; k++) {
            status = verify_sample(v, &d->shard[i], k);
            if (status == DT_OK) status = tell(v, d->info.n_samples);
        }
        v->result->n_shards++;
    }
    if (v->decoder) v->result->n_jpeg_warnings = dt_jpeg_warnings(v->decoder);
    dt_jpeg_free(v->decoder);
    free(v->bytes);
    return status;
}

static dt_status verify_array_shard(verifier *v, const dt_array_shard *s, int64_t n, void *const row[]) {
    for (int64_t i = 0; i < s->n_samples; i++) {
        DT_TRY(dt_array_shard_read(s, i, row));
        DT_TRY(dt_array_shard_finite(s, i, row));
        if (s->checksum)
            DT_TRY(dt_array_shard_check(s, i, row));
        else
            v->result->n_unchecked++;
        for (int32_t k = 0; k < s->n_fields; k++) v->result->n_bytes += dt_field_bytes(&s->field[k]);
        DT_TRY(tell(v, n));
    }
    v->result->n_shards++;
    return DT_OK;
}

static dt_status verify_arrays(verifier *v, const dt_arrays *a) {
    void *row[DT_FIELDS_MAX] = {NULL};
    dt_status status = DT_OK;
    for (int32_t k = 0; k < a->n_fields && status == DT_OK; k++)
        if (!(row[k] = malloc((size_t)dt_field_bytes(&a->field[k]))))
            status = dt_fail(DT_ERR_MEMORY, "%s: out of memory", a->path);
    for (int64_t i = 0; i < a->n_shards && status == DT_OK; i++)
        status = verify_array_shard(v, &a->shard[i], a->n_samples, row);
    for (int32_t k = 0; k < DT_FIELDS_MAX; k++) free(row[k]);
    return status;
}

static dt_status verify_tokens(verifier *v, const dt_token_set *s) {
    int32_t last = s->info.end;
    for (int64_t i = 0; i < s->n_shards; i++) {
        const dt_token_shard *shard = &s->shard[i];
        DT_TRY(dt_token_shard_verify(shard, s->tokenizer, &last));
        v->result->n_samples += shard->n_tokens;
        v->result->n_bytes += shard->n_tokens * shard->width;
        v->result->n_unchecked += shard->checksum ? 0 : shard->n_tokens;
        v->result->n_shards++;
        if (v->progress && i + 1 < s->n_shards && !v->progress(v->arg, v->result->n_samples, s->n_tokens))
            return dt_fail(DT_STOPPED, "interrupted");
    }
    return DT_OK;
}

dt_status dt_data_verify(const char *path, bool (*progress)(void *arg, int64_t done, int64_t total),
                         void *arg, dt_data_verify_result *out) {
    struct stat st;
    dt_dataset *d;
    verifier v = {.progress = progress, .arg = arg, .result = out};
    *out = (dt_data_verify_result){0};
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) DT_TRY(verify_index(path, &v));
    DT_TRY(dt_dataset_open_path(path, &d));
    const dt_status status = d->row == &dt_tokens_row   ? verify_tokens(&v, &d->tokens)
                             : d->row == &dt_arrays_row ? verify_arrays(&v, &d->arrays)
                                                        : verify_images(&v, d);
    dt_dataset_close(d);
    DT_TRY(status);
    if (progress) progress(arg, out->n_samples, out->n_samples);
    return DT_OK;
}
