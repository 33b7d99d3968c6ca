/* `dtrain sample`: which run, which prompts, and how the texts look. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/text.h"
#include "train/sample.h"
#include "verbs.h"

enum { PROMPTS_MAX = 1 << 20, OVERRIDES_MAX = 64 };

/* A text that has ended before its turn, or the one whose turn it is. */
typedef struct shown {
    uint8_t *text; /* prompt and what follows */
    int64_t n;
    bool done;
} shown;

typedef struct sample_verb {
    dt_sample_prompt *prompt;
    int64_t n_prompt, samples, turn; /* texts before turn are out */
    int64_t n_out;                   /* bytes of the text whose turn it is that are out */
    bool json, begun;
    shown *kept; /* [texts] */
} sample_verb;

/* ---- which run ---- */

static bool is_there(const char *dir, const char *name, char *path, size_t size) {
    struct stat info;
    const int n = snprintf(path, size, "%s/%s", dir, name);
    return n > 0 && (size_t)n < size && stat(path, &info) == 0;
}

/* argv[1]: a configuration, a run's directory or a checkpoint, both of which hold the configuration that they came of; the
 * rest are overrides. */
static dt_status load_config(int argc, char **argv, dt_config *c) {
    char file[DT_KEY_STRING_MAX], resume[DT_KEY_STRING_MAX + 16], out_dir[DT_KEY_STRING_MAX + 16],
        path[DT_KEY_STRING_MAX];
    char *own[OVERRIDES_MAX + 4];
    struct stat info;
    int n = 0;
    if (argc < 2) return dt_app_config("sample", argc, argv, c);
    if (argc > OVERRIDES_MAX) return dt_fail(DT_ERR_USAGE, "more than %d settings", OVERRIDES_MAX);
    own[n++] = argv[0];
    own[n++] = argv[1];
    const bool run = stat(argv[1], &info) == 0 && S_ISDIR(info.st_mode);
    const bool checkpoint = run && is_there(argv[1], "manifest.json", path, sizeof path);
    if (run && !is_there(argv[1], "config.toml", file, sizeof file)) {
        dt_config_init(c);
        return dt_fail(DT_ERR_CHECKPOINT, "%s is neither a run nor a checkpoint: it holds no config.toml",
                       argv[1]);
    }
    if (run) {
        own[1] = file;
        snprintf(resume, sizeof resume, "run.resume=%s", checkpoint ? argv[1] : "auto");
        snprintf(out_dir, sizeof out_dir, "run.out_dir=%s", argv[1]);
        own[n++] = resume;
        if (!checkpoint) own[n++] = out_dir;
    }
    for (int i = 2; i < argc; i++) own[n++] = argv[i];
    return dt_app_config("sample", n, own, c);
}

/* ---- which prompts ---- */

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "out of memory for the prompts");
}

static dt_status add_prompt(sample_verb *v, const char *text, size_t n) {
    dt_sample_prompt *grown = realloc(v->prompt, ((size_t)v->n_prompt + 1) * sizeof *grown);
    if (!grown) return no_memory();
    v->prompt = grown;
    uint8_t *own = malloc(n + 1);
    if (!own) return no_memory();
    memcpy(own, text, n);
    v->prompt[v->n_prompt++] = (dt_sample_prompt){own, (int64_t)n};
    return DT_OK;
}

/* A line each. */
static dt_status read_prompts(sample_verb *v, const char *path) {
    char *line = NULL;
    size_t room = 0;
    dt_status st = DT_OK;
    FILE *f = fopen(path, "rb");
    if (!f) return dt_fail(DT_ERR_DATA, "%s: %s", path, strerror(errno));
    errno = 0;
    for (ssize_t n; st == DT_OK && (n = getline(&line, &room, f)) > 0;) {
        if (v->n_prompt == PROMPTS_MAX)
            st = dt_fail(DT_ERR_USAGE, "%s: more than %d prompts", path, PROMPTS_MAX);
        else
            st = add_prompt(v, line, (size_t)n - (line[n - 1] == '\n'));
    }
    if (st == DT_OK && ferror(f)) st = dt_fail(DT_ERR_DATA, "%s: cannot be read: %s", path, strerror(errno));
    if (st == DT_OK && v->n_prompt == 0) st = dt_fail(DT_ERR_DATA, "%s: no prompt is in it", path);
    free(line);
    fclose(f);
    return st;
}

static dt_status number_of(const dt_args *args, const char *name, double fallback, double *out) {
    const char *text = dt_args_text(args, name);
    char *end;
    *out = fallback;
    if (!text) return DT_OK;
    *out = strtod_l(text, &end, dt_plain_locale());
    return end != text && !*end ? DT_OK : dt_fail(DT_ERR_USAGE, "--%s %s: expected a number", name, text);
}

/* ---- how they look ---- */

/* A JSON string; bytes that are not UTF-8 become the replacement character. */
static void put_json(const uint8_t *text, int64_t n, FILE *out) {
    fputc('"', out);
    for (int64_t i = 0; i < n;) {
        char four[5] = {0};
        memcpy(four, text + i, (size_t)dt_min_i64(4, n - i));
        const int size = text[i] == 0 ? 1 : dt_utf8_bytes(four);
        if (size == 0)
            fputs("\\ufffd", out);
        else if (size == 1 && (text[i] < 0x20 || text[i] == '"' || text[i] == '\\' || text[i] == 0x7f))
            fprintf(out, "\\u%04x", (unsigned)text[i]);
        else
            fwrite(text + i, 1, (size_t)size, out);
        i += size ? size : 1;
    }
    fputc('"', out);
}

static dt_status json_of(const sample_verb *v, int64_t text, const dt_generated *g, shown *s) {
    const dt_sample_prompt *p = &v->prompt[text / v->samples];
    char *line = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&line, &n);
    if (!out) return no_memory();
    fputs("{\"prompt\": ", out);
    put_json(p->text, p->n, out);
    if (v->samples > 1) fprintf(out, ", \"sample\": %lld", (long long)(text % v->samples));
    fputs(", \"text\": ", out);
    put_json(g->text, g->n_text, out);
    fprintf(out, ", \"prompt_tokens\": %lld, \"tokens\": [", (long long)g->n_prompt);
    for (int64_t i = 0; i < g->n_token; i++) fprintf(out, "%s%d", i ? ", " : "", g->token[g->n_prompt + i]);
    fprintf(out, "], \"end\": \"%s\"}", dt_text_end_names[g->end]);
    if (fclose(out) != 0) {
        free(line);
        return no_memory();
    }
    s->text = (uint8_t *)line;
    s->n = (int64_t)n;
    return DT_OK;
}

static dt_status written(void) {
    if (!ferror(stdout)) return DT_OK;
    return dt_fail(DT_ERR_IO, "the output could not be written: %s", strerror(errno));
}

/* What of the text is whole and not out yet. */
static void stream(sample_verb *v, int64_t text, const dt_generated *g) {
    const dt_sample_prompt *p = &v->prompt[text / v->samples];
    if (!v->begun) {
        if (text > 0) fputs("---\n", stdout);
        fwrite(p->text, 1, (size_t)p->n, stdout);
        v->begun = true;
    }
    if (g->n_whole > v->n_out) fwrite(g->text + v->n_out, 1, (size_t)(g->n_whole - v->n_out), stdout);
    v->n_out = dt_max_i64(v->n_out, g->n_whole);
    if (g->end) fputc('\n', stdout);
    fflush(stdout);
}

static dt_status keep(sample_verb *v, int64_t text, const dt_generated *g) {
    shown *s = &v->kept[text];
    s->done = true;
    if (v->json) return json_of(v, text, g, s);
    s->text = malloc((size_t)g->n_text + 1);
    if (!s->text) return no_memory();
    if (g->n_text > 0) memcpy(s->text, g->text, (size_t)g->n_text);
    s->n = g->n_text;
    return DT_OK;
}

/* Texts whose turn has come and that ended before. */
static void show_kept(sample_verb *v) {
    for (shown *s; v->turn < v->n_prompt * v->samples && (s = &v->kept[v->turn])->done; v->turn++) {
        const dt_generated whole = {.text = s->text, .n_text = s->n, .n_whole = s->n, .end = DT_TEXT_FULL};
        if (v->json) {
            fwrite(s->text, 1, (size_t)s->n, stdout);
            fputc('\n', stdout);
            fflush(stdout);
        } else {
            stream(v, v->turn, &whole);
        }
        free(s->text);
        s->text = NULL;
        v->begun = false;
        v->n_out = 0;
    }
}

/* Texts come out in the order of the prompts; the one whose turn it is as it grows. */
static dt_status grown(void *arg, int64_t text, const dt_generated *g) {
    sample_verb *v = arg;
    if (g->end) DT_TRY(keep(v, text, g));
    if (!v->json && text == v->turn && !g->end) stream(v, text, g);
    show_kept(v);
    return written();
}

/* The texts are what standard output is for. */
static void tell(void *arg, const dt_news *news) {
    (void)arg;
    if (news->text) fprintf(stderr, "dtrain: %s\n", news->text);
}

static dt_status options_of(const dt_args *args, sample_verb *v, dt_sample_options *o) {
    const char *prompt = dt_args_text(args, "prompt"), *prompts = dt_args_text(args, "prompts");
    if (prompt && prompts) return dt_fail(DT_ERR_USAGE, "--prompt or --prompts, not both");
    DT_TRY(prompts ? read_prompts(v, prompts)
                   : add_prompt(v, prompt ? prompt : "", prompt ? strlen(prompt) : 0));
    DT_TRY(number_of(args, "temperature", 0.8, &o->draw.temperature));
    DT_TRY(number_of(args, "top-p", 1, &o->draw.top_p));
    o->draw.top_k = dt_args_number(args, "top-k");
    o->draw.seed = (uint64_t)dt_args_number(args, "seed");
    o->tokens = dt_args_has(args, "tokens") ? dt_args_number(args, "tokens") : -1;
    o->samples = v->samples = dt_args_number(args, "samples");
    o->batch = dt_args_number(args, "batch");
    o->no_stop = dt_args_has(args, "no-stop");
    o->window = dt_args_has(args, "window");
    o->no_cache = dt_args_has(args, "no-cache");
    o->prompt = v->prompt;
    o->n_prompt = v->n_prompt;
    v->json = dt_args_has(args, "json");
    v->kept = calloc((size_t)(v->n_prompt * v->samples), sizeof *v->kept);
    return v->kept ? DT_OK : no_memory();
}

dt_status dt_verb_sample(dt_app *app, const dt_args *args) {
    sample_verb v = {0};
    dt_config c;
    dt_sample_result r = {0};
    const dt_sink sink = {.tell = tell};
    dt_sample_options o = {.grown = grown, .arg = &v, .sink = &sink};
    dt_config_init(&c);
    dt_status st = options_of(args, &v, &o);
    if (st == DT_OK) st = load_config(args->argc, args->argv, &c);
    st = dt_comm_agree(app->mpi, st);
    if (st == DT_OK) st = dt_sample(&c, app->mpi, &o, &r);
    if (st == DT_OK && r.n_token > 0)
        dt_tell(&sink, DT_NEWS_NOTE, "%s in %.2f s, %s tokens/s", dt_count_text(r.n_token, "token").s,
                r.seconds, dt_number_text((double)r.n_token / r.seconds).s);
    dt_config_fini(&c);
    for (int64_t i = 0; i < v.n_prompt; i++) free((void *)(uintptr_t)v.prompt[i].text);
    for (int64_t i = 0; v.kept && i < v.n_prompt * v.samples; i++) free(v.kept[i].text);
    free(v.prompt);
    free(v.kept);
    return st;
}
