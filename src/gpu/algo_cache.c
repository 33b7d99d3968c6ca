/* The algorithm cache's file: read whole and checked before anything in it is believed, written to a temporary
 * name and renamed. Losing it costs the time to measure again, so no failure here is an error. */
#include "algo_cache.h"
#include "core/dir.h"
#include "core/file_limit.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { SPEC_FIELDS = 18, FILE_MAX = 8 * 1024 * 1024 };
static const int64_t NANOSECONDS_MAX = (int64_t)3600 * 1000 * 1000 * 1000; /* an hour: nonsense */
static const char MAGIC[] = "dtrain engines 3";

static void spec_fields(const dt_conv_spec *s, int64_t v[SPEC_FIELDS]) {
    const dt_conv_dims *d = &s->d;
    const int64_t all[SPEC_FIELDS] = {s->kind,     s->dtype, d->n,     d->h,     d->w,     d->c,
                                      d->k,        d->r,     d->s,     d->p,     d->q,     d->stride_h,
                                      d->stride_w, d->pad_h, d->pad_w, d->dil_h, d->dil_w, d->groups};
    memcpy(v, all, sizeof all);
}

static void spec_from_fields(const int64_t v[SPEC_FIELDS], dt_conv_spec *s) {
    s->kind = (int32_t)v[0];
    s->dtype = (int32_t)v[1];
    s->d = (dt_conv_dims){.n = v[2],
                          .h = v[3],
                          .w = v[4],
                          .c = v[5],
                          .k = v[6],
                          .r = v[7],
                          .s = v[8],
                          .p = v[9],
                          .q = v[10],
                          .stride_h = v[11],
                          .stride_w = v[12],
                          .pad_h = v[13],
                          .pad_w = v[14],
                          .dil_h = v[15],
                          .dil_w = v[16],
                          .groups = v[17]};
}

static bool same_spec(const dt_conv_spec *a, const dt_conv_spec *b) {
    int64_t x[SPEC_FIELDS], y[SPEC_FIELDS];
    spec_fields(a, x);
    spec_fields(b, y);
    return memcmp(x, y, sizeof x) == 0;
}

const dt_algo_record *dt_algo_cache_find(const dt_algo_cache *c, const dt_conv_spec *spec, int32_t rules) {
    for (int32_t i = 0; i < c->n; i++)
        if (c->record[i].rules == rules && same_spec(&c->record[i].spec, spec)) return &c->record[i];
    return NULL;
}

bool dt_algo_cache_put(dt_algo_cache *c, const dt_algo_record *r) {
    for (int32_t i = 0; i < c->n; i++)
        if (c->record[i].rules == r->rules && same_spec(&c->record[i].spec, &r->spec)) {
            c->record[i] = *r;
            return true;
        }
    if (c->n == c->cap) {
        int32_t cap = c->cap ? 2 * c->cap : 64;
        dt_algo_record *more = realloc(c->record, (size_t)cap * sizeof *more);
        if (!more) return false;
        c->record = more;
        c->cap = cap;
    }
    c->record[c->n++] = *r;
    return true;
}

/* One record from its line: spec, rules, nanoseconds, usable, engine, knobs. */
static bool parse_line(const char *line, dt_algo_record *r) {
    enum { HEAD = SPEC_FIELDS + 5 };
    int64_t v[HEAD + 2 * DT_KNOB_MAX];
    int32_t n = 0;
    char *end;
    while (n < HEAD + 2 * DT_KNOB_MAX) {
        long long x = strtoll(line, &end, 10);
        if (end == line) break;
        v[n++] = x;
        line = end;
    }
    if (n < HEAD) return false;
    const int64_t *head = v + SPEC_FIELDS, n_knob = head[4];
    if (v[0] < 0 || v[0] >= DT_CACHE_KIND_COUNT || v[1] < 0 || v[1] >= DT_DTYPE_COUNT || n_knob < 0 ||
        n_knob > DT_KNOB_MAX || n != HEAD + 2 * n_knob || head[1] < 0 || head[1] > NANOSECONDS_MAX)
        return false;
    spec_from_fields(v, &r->spec);
    r->rules = (int32_t)head[0];
    r->seconds = (double)head[1] * 1e-9;
    r->usable = head[2] != 0;
    r->choice = (dt_algo_choice){.engine = head[3], .n_knob = (int32_t)n_knob};
    for (int64_t i = 0; i < n_knob; i++) {
        r->choice.knob[i] = (int32_t)v[HEAD + 2 * i];
        r->choice.value[i] = v[HEAD + 2 * i + 1];
    }
    return true;
}

static void parse_text(dt_algo_cache *c, char *text, size_t size) {
    char expected[256];
    int n_head = snprintf(expected, sizeof expected, "%s\n%s\n", MAGIC, c->card);
    if (n_head < 0 || (size_t)n_head >= sizeof expected || strncmp(text, expected, (size_t)n_head) != 0)
        return;
    char *tail = strstr(text, "\nend ");
    if (!tail) return;
    tail++;
    unsigned long long sum = strtoull(tail + 4, NULL, 16);
    if (sum != XXH3_64bits(text, (size_t)(tail - text)) || size > FILE_MAX) return;
    for (char *line = text + n_head; line < tail;) {
        char *eol = strchr(line, '\n');
        dt_algo_record r;
        if (!eol) break;
        *eol = '\0';
        if (parse_line(line, &r) && !dt_algo_cache_put(c, &r)) return;
        line = eol + 1;
    }
}

static void read_file(dt_algo_cache *c) {
    FILE *f = fopen(c->path, "re");
    if (!f) return;
    char *text = malloc(FILE_MAX + 1);
    if (text) {
        size_t n = fread(text, 1, FILE_MAX, f);
        text[n] = '\0';
        parse_text(c, text, n);
    }
    free(text);
    fclose(f);
}

/* The directory of the option, of XDG_CACHE_HOME or of HOME; "" if there is none. */
static void cache_dir(const char *dir, char *out, size_t size) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (dir && *dir)
        n = snprintf(out, size, "%s", dir);
    else if (xdg && *xdg == '/')
        n = snprintf(out, size, "%s/dtrain", xdg);
    else if (home && *home == '/')
        n = snprintf(out, size, "%s/.cache/dtrain", home);
    if (n <= 0 || (size_t)n >= size) out[0] = '\0';
}

void dt_algo_cache_open(dt_algo_cache *c, const char *dir, const char *card_name, size_t cudnn_version) {
    char place[512], name[128];
    *c = (dt_algo_cache){0};
    snprintf(c->card, sizeof c->card, "%.120s, cuDNN %zu", card_name, cudnn_version);
    snprintf(name, sizeof name, "%.100s", card_name);
    for (char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p)) *p = '_';
    cache_dir(dir, place, sizeof place);
    if (!place[0]) return;
    int n = snprintf(c->path, sizeof c->path, "%s/engines-%s-cudnn%zu.txt", place, name, cudnn_version);
    if (n < 0 || (size_t)n >= sizeof c->path)
        c->path[0] = '\0';
    else
        read_file(c);
}

static void make_parents(const char *path) {
    char parent[1024];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (!slash || slash == parent) return;
    *slash = '\0';
    dt_status ignored = dt_dir_create(parent); /* an error shows when the file is opened */
    (void)ignored;
}

static void print_record(FILE *f, const dt_algo_record *r) {
    int64_t v[SPEC_FIELDS];
    spec_fields(&r->spec, v);
    for (int i = 0; i < SPEC_FIELDS; i++) fprintf(f, "%lld ", (long long)v[i]);
    fprintf(f, "%d %lld %d %lld %d", r->rules, (long long)(r->seconds * 1e9), r->usable ? 1 : 0,
            (long long)r->choice.engine, r->choice.n_knob);
    for (int32_t i = 0; i < r->choice.n_knob; i++)
        fprintf(f, " %d %lld", r->choice.knob[i], (long long)r->choice.value[i]);
    fputc('\n', f);
}

/* What other processes have learnt meanwhile, and what this one knows. */
static dt_algo_cache merge(const dt_algo_cache *c) {
    dt_algo_cache all = *c;
    all.record = NULL;
    all.n = all.cap = 0;
    read_file(&all);
    for (int32_t i = 0; i < c->n; i++)
        if (!dt_algo_cache_put(&all, &c->record[i])) break;
    return all;
}

void dt_algo_cache_write(const dt_algo_cache *c) {
    char host[64] = "", tmp[1200], *text = NULL; /* hosts may share the directory */
    size_t size = 0;
    if (!c->path[0]) return;
    (void)gethostname(host, sizeof host - 1);
    FILE *mem = open_memstream(&text, &size);
    if (!mem) return;
    dt_algo_cache all = merge(c);
    fprintf(mem, "%s\n%s\n", MAGIC, c->card);
    for (int32_t i = 0; i < all.n; i++) print_record(mem, &all.record[i]);
    dt_algo_cache_close(&all);
    if (fclose(mem) != 0 || !text) {
        free(text);
        return;
    }
    make_parents(c->path);
    snprintf(tmp, sizeof tmp, "%s.%s.%ld.tmp", c->path, host, (long)getpid());
    dt_file_limit limit;
    dt_file_limit_begin(&limit);
    FILE *f = fopen(tmp, "we");
    if (f) {
        bool ok = fwrite(text, 1, size, f) == size;
        ok = fprintf(f, "end %016llx\n", (unsigned long long)XXH3_64bits(text, size)) > 0 && ok;
        ok = fflush(f) == 0 && fsync(fileno(f)) == 0 && ok;
        ok = fclose(f) == 0 && ok;
        if (!ok || rename(tmp, c->path) != 0) (void)unlink(tmp);
    }
    dt_file_limit_end(&limit);
    free(text);
}

void dt_algo_cache_close(dt_algo_cache *c) {
    free(c->record);
    *c = (dt_algo_cache){0};
}
