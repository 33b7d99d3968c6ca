#include "model_text.h"
#include "models.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const int64_t dt_http_bucket_us[DT_HTTP_BUCKETS] = {
    250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 10000000};

static dt_status no_memory(void) {
    return dt_fail(DT_ERR_MEMORY, "no memory for the table of models");
}

dt_status dt_http_models_init(dt_http_models *m, const dt_http_options *o) {
    *m = (dt_http_models){.o = o};
    pthread_mutex_init(&m->lock, NULL);
    pthread_mutex_init(&m->loading, NULL);
    return DT_OK;
}

static void free_versions(dt_http_version *v, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        dt_serve_model_drop(v[i].model);
        free(v[i].path);
    }
    free(v);
}

void dt_http_models_fini(dt_http_models *m) {
    for (int32_t i = 0; i < m->n; i++) {
        dt_http_entry *e = m->entry[i];
        free_versions(e->version, e->n_version);
        free(e->name), free(e->path), free(e->words), free(e->reason), free(e);
    }
    free(m->entry);
    pthread_mutex_destroy(&m->lock);
    pthread_mutex_destroy(&m->loading);
}

/* Under the lock. */
static dt_http_entry *find(const dt_http_models *m, const char *name) {
    for (int32_t i = 0; i < m->n; i++)
        if (strcmp(m->entry[i]->name, name) == 0) return m->entry[i];
    return NULL;
}

static bool may_be_name(const char *name) {
    if (!*name || *name == '.' || strlen(name) > 200 || strcmp(name, "stats") == 0) return false;
    for (const char *c = name; *c; c++)
        if (*c == '/' || *c == '"' || *c == '\\' || (unsigned char)*c < 0x20 || *c == 0x7f) return false;
    return true;
}

dt_status dt_http_models_add(dt_http_models *m, const char *name, const char *path) {
    if (!may_be_name(name))
        return dt_fail(
            DT_ERR_CONFIG,
            "\"%s\" is no name for a model: no slashes, quotes or control characters, not \"stats\", at "
            "most 200 bytes, no dot in front",
            name);
    dt_http_entry *e = calloc(1, sizeof *e);
    if (!e) return no_memory();
    e->name = strdup(name);
    e->path = path ? strdup(path) : NULL;
    e->words = e->path ? strdup(dt_http_model_split(e->path)) : NULL;
    dt_status st = e->name && ((e->path && e->words) || !path) ? DT_OK : no_memory();
    pthread_mutex_lock(&m->lock);
    if (st == DT_OK && find(m, name)) st = dt_fail(DT_ERR_CONFIG, "there are two models called \"%s\"", name);
    dt_http_entry **entry = st == DT_OK ? realloc(m->entry, (size_t)(m->n + 1) * sizeof *entry) : NULL;
    if (st == DT_OK && !entry) st = no_memory();
    if (entry) m->entry = entry;
    if (st == DT_OK) m->entry[m->n++] = e;
    pthread_mutex_unlock(&m->lock);
    if (st != DT_OK) free(e->name), free(e->path), free(e->words), free(e);
    return st;
}

static bool is_dir(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

dt_status dt_http_models_scan(dt_http_models *m) {
    const char *root = m->o->repository;
    if (!root) return DT_OK;
    DIR *d = opendir(root);
    if (!d) return dt_fail(DT_ERR_DATA, "%s: %s", root, strerror(errno));
    dt_status st = DT_OK;
    for (struct dirent *f; st == DT_OK && (f = readdir(d));) {
        char path[4096];
        if (f->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", root, f->d_name) >= (int)sizeof path || !is_dir(path))
            continue;
        pthread_mutex_lock(&m->lock);
        const bool known = find(m, f->d_name) != NULL;
        pthread_mutex_unlock(&m->lock);
        if (!known) st = dt_http_models_add(m, f->d_name, NULL);
    }
    closedir(d);
    return st;
}

/* The number that a directory of a version is called; 0: none. */
static int64_t version_of(const char *name) {
    int64_t v = 0;
    if (name[0] < '1' || name[0] > '9' || strlen(name) > 18) return 0;
    for (; *name; name++) {
        if (*name < '0' || *name > '9') return 0;
        v = 10 * v + (*name - '0');
    }
    return v;
}

/* What is to be loaded in a directory of a version: model.*, or the only thing there, or the directory itself. */
static dt_status choose_file(const char *dir, char *out, size_t size) {
    char only[256] = "", named[256] = "";
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) return dt_fail(DT_ERR_DATA, "%s: %s", dir, strerror(errno));
    for (struct dirent *f; (f = readdir(d));) {
        const size_t length = strlen(f->d_name);
        if (f->d_name[0] == '.' || length >= sizeof only) continue;
        if (length > 5 && strcmp(f->d_name + length - 5, ".data") == 0) continue; /* belongs to an .onnx */
        n++;
        snprintf(only, sizeof only, "%s", f->d_name);
        if (strncmp(f->d_name, "model.", 6) == 0) snprintf(named, sizeof named, "%s", f->d_name);
    }
    closedir(d);
    const char *file = named[0] ? named : n == 1 ? only : "";
    if (n == 0) return dt_fail(DT_ERR_DATA, "%s is empty", dir);
    if (snprintf(out, size, "%s%s%s", dir, *file ? "/" : "", file) >= (int)size)
        return dt_fail(DT_ERR_DATA, "%s: too long a path", dir);
    return DT_OK;
}

static int by_number(const void *a, const void *b) {
    const int64_t x = ((const dt_http_version *)a)->number, y = ((const dt_http_version *)b)->number;
    return x < y ? -1 : x > y;
}

/* The versions that are to be loaded, without models. */
static dt_status list_versions(const dt_http_models *m, const dt_http_entry *e, dt_http_version **out,
                               int32_t *n) {
    char dir[4096], path[4096];
    *out = NULL, *n = 0;
    if (e->path) {
        *out = calloc(1, sizeof **out);
        if (*out) (*out)->path = strdup(e->path), (*out)->number = 1, *n = 1;
        return *out && (*out)->path ? DT_OK : no_memory();
    }
    snprintf(dir, sizeof dir, "%s/%s", m->o->repository, e->name);
    DIR *d = opendir(dir);
    if (!d) return dt_fail(DT_ERR_DATA, "%s: %s", dir, strerror(errno));
    dt_status st = DT_OK;
    for (struct dirent *f; st == DT_OK && (f = readdir(d));) {
        const int64_t number = version_of(f->d_name);
        if (number == 0) continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, f->d_name) >= (int)sizeof path || !is_dir(path))
            continue;
        dt_http_version *more = realloc(*out, (size_t)(*n + 1) * sizeof *more);
        if (!more) {
            st = no_memory();
            break;
        }
        *out = more;
        more[*n] = (dt_http_version){.number = number, .path = strdup(path)};
        if (!more[(*n)++].path) st = no_memory();
    }
    closedir(d);
    if (st == DT_OK && *n == 0)
        st = dt_fail(DT_ERR_DATA, "%s: no version in it, a directory with a number as its name", dir);
    if (st != DT_OK) return st;
    qsort(*out, (size_t)*n, sizeof **out, by_number);
    if (!m->o->all_versions) {
        dt_http_version newest = (*out)[*n - 1];
        for (int32_t i = 0; i + 1 < *n; i++) free((*out)[i].path);
        (*out)[0] = newest, *n = 1;
    }
    for (int32_t i = 0; i < *n; i++) {
        DT_TRY(choose_file((*out)[i].path, path, sizeof path));
        char *file = strdup(path);
        if (!file) return no_memory();
        free((*out)[i].path);
        (*out)[i].path = file;
    }
    return DT_OK;
}

static void say(const dt_http_models *m, const char *format, ...) DT_PRINTF(2, 3);
static void say(const dt_http_models *m, const char *format, ...) {
    char line[1024];
    va_list a;
    va_start(a, format);
    vsnprintf(line, sizeof line, format, a);
    va_end(a);
    if (m->o->say) m->o->say(m->o->arg, line);
}

/* What the entry's words, or the file DIR/NAME/serve of a repository, ask for. *kept holds the texts of `o`. */
static dt_status take_words(const dt_http_models *m, const dt_http_entry *e, dt_serve_model_options *o,
                            char **kept) {
    enum { WORDS_MAX = 4096 };
    char path[4096];
    *kept = calloc(1, WORDS_MAX);
    if (!*kept) return no_memory();
    if (e->words) {
        if (strlen(e->words) >= WORDS_MAX) return dt_fail(DT_ERR_CONFIG, "%s: too many words", e->name);
        memcpy(*kept, e->words, strlen(e->words));
        return dt_http_model_words(*kept, o);
    }
    snprintf(path, sizeof path, "%s/%s/serve", m->o->repository, e->name);
    FILE *f = fopen(path, "re");
    if (!f) return DT_OK;
    const size_t n = fread(*kept, 1, WORDS_MAX, f);
    fclose(f);
    if (n == WORDS_MAX) return dt_fail(DT_ERR_CONFIG, "%s: too many words", path);
    const dt_status st = dt_http_model_words(*kept, o);
    if (st != DT_OK) dt_error_context("%s", path);
    return st;
}

dt_status dt_http_models_load(dt_http_models *m, const char *name) {
    dt_http_version *v = NULL;
    int32_t n = 0;
    pthread_mutex_lock(&m->loading);
    dt_status st = dt_http_models_scan(m);
    pthread_mutex_lock(&m->lock);
    dt_http_entry *e = find(m, name);
    pthread_mutex_unlock(&m->lock);
    if (st == DT_OK && !e) st = dt_fail(DT_ERR_USAGE, "there is no model \"%s\"", name);
    if (!e || st != DT_OK) {
        pthread_mutex_unlock(&m->loading);
        return st;
    }
    dt_serve_model_options o = m->o->model;
    char *kept = NULL;
    st = take_words(m, e, &o, &kept);
    if (st == DT_OK) st = list_versions(m, e, &v, &n);
    for (int32_t i = 0; st == DT_OK && i < n; i++) {
        o.name = name;
        o.version = v[i].number;
        st = dt_serve_load(m->o->engine, v[i].path, &o, &v[i].model);
        if (st == DT_OK) say(m, "%s, version %lld: loaded from %s", name, (long long)v[i].number, v[i].path);
    }
    free(kept);
    dt_http_version *old = v;
    int32_t n_old = n;
    char *reason = st == DT_OK ? NULL : strdup(dt_error_text());
    pthread_mutex_lock(&m->lock);
    free(e->reason);
    e->reason = reason;
    if (st == DT_OK) old = e->version, n_old = e->n_version, e->version = v, e->n_version = n;
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_unlock(&m->loading);
    if (st != DT_OK) say(m, "%s: not loaded: %s", name, reason ? reason : "no memory");
    free_versions(old, n_old);
    return st;
}

dt_status dt_http_models_unload(dt_http_models *m, const char *name) {
    pthread_mutex_lock(&m->loading);
    pthread_mutex_lock(&m->lock);
    dt_http_entry *e = find(m, name);
    dt_http_version *old = e ? e->version : NULL;
    const int32_t n_old = e ? e->n_version : 0;
    if (e) {
        free(e->reason);
        e->version = NULL, e->n_version = 0, e->reason = strdup("unloaded");
    }
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_unlock(&m->loading);
    free_versions(old, n_old);
    if (!e) return dt_fail(DT_ERR_USAGE, "there is no model \"%s\"", name);
    say(m, "%s: unloaded", name);
    return DT_OK;
}

dt_status dt_http_models_hold(dt_http_models *m, const char *name, int64_t version, dt_http_entry **entry,
                              dt_serve_model **out) {
    dt_status st = DT_ERR_USAGE;
    pthread_mutex_lock(&m->lock);
    dt_http_entry *e = find(m, name);
    *out = NULL, *entry = e;
    for (int32_t i = e ? e->n_version - 1 : -1; i >= 0 && !*out; i--)
        if (version == 0 || e->version[i].number == version) *out = e->version[i].model;
    if (*out) {
        dt_serve_model_hold(*out);
        st = DT_OK;
    } else if (!e) {
        st = dt_fail(DT_ERR_USAGE, "there is no model \"%s\"", name);
    } else if (e->n_version == 0) {
        st = dt_fail(DT_ERR_BUSY, "model \"%s\" is not loaded%s%s", name, e->reason ? ": " : "",
                     e->reason ? e->reason : "");
    } else {
        st = dt_fail(DT_ERR_USAGE, "model \"%s\" has no version %lld loaded", name, (long long)version);
    }
    pthread_mutex_unlock(&m->lock);
    return st;
}

dt_status dt_http_models_list(dt_http_models *m, dt_http_listed **out, int32_t *n) {
    pthread_mutex_lock(&m->lock);
    int32_t rows = 0;
    for (int32_t i = 0; i < m->n; i++) rows += m->entry[i]->n_version > 0 ? m->entry[i]->n_version : 1;
    dt_http_listed *l = calloc((size_t)rows + 1, sizeof *l);
    *n = 0;
    for (int32_t i = 0; l && i < m->n; i++) {
        dt_http_entry *e = m->entry[i];
        for (int32_t k = 0; k < e->n_version; k++) {
            l[(*n)++] = (dt_http_listed){e, e->version[k].number, e->version[k].model, NULL};
            dt_serve_model_hold(e->version[k].model);
        }
        if (e->n_version == 0)
            l[(*n)++] = (dt_http_listed){.entry = e, .reason = e->reason ? strdup(e->reason) : NULL};
    }
    pthread_mutex_unlock(&m->lock);
    *out = l;
    return l ? DT_OK : no_memory();
}

void dt_http_listed_free(dt_http_listed *l, int32_t n) {
    for (int32_t i = 0; l && i < n; i++) {
        dt_serve_model_drop(l[i].model);
        free(l[i].reason);
    }
    free(l);
}
