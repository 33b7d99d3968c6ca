/* What stands before and behind a network: images of bytes, softmax, names of classes, functions of the caller's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/facts.h"
#include "private.h"
#include "train/export.h"

enum { LABELS_MAX = 1 << 20 };

/* ---- what the model says ---- */

static dt_status facts_of(const dt_serve_model *m, dt_data_facts *out) {
    for (int32_t i = 0; i < m->m->n_note; i++)
        if (strcmp(m->m->note[i].key, DT_EXPORT_DATA) == 0)
            return dt_data_facts_parse(m->m->note[i].value, out);
    *out = (dt_data_facts){.class_name = NULL};
    return DT_OK;
}

/* Whether channels come before height and width. */
static bool is_planar(const dt_serve_io *io) {
    return io->dim[1] >= 1 && io->dim[1] <= 4 && !(io->dim[3] >= 1 && io->dim[3] <= 4);
}

static dt_status open_image(dt_serve_model *m, const dt_data_facts *f) {
    static const float imagenet[2][3] = {{0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}};
    const dt_serve_io *io = m->net_in;
    dt_serve_images *image = &m->image;
    if (m->info.n_in != 1 || io->ndim != 4 || !(DT_HOST_IS(io->type) & DT_HOST_FLOATS))
        return dt_fail(DT_ERR_USAGE,
                       "%s: images of bytes are for networks whose only input is images of floats",
                       m->info.name);
    image->planar = is_planar(io);
    const int64_t channels = io->dim[image->planar ? 1 : 3];
    if (channels < 1 || channels > 4)
        return dt_fail(DT_ERR_USAGE, "%s: images of %lld channels", m->info.name, (long long)channels);
    for (int64_t c = 0; c < channels; c++) image->stddev[c] = 1;
    if (m->options.image == DT_IMAGE_IMAGENET && channels != 3)
        return dt_fail(DT_ERR_USAGE, "%s: ImageNet's images have 3 channels, the network's have %lld",
                       m->info.name, (long long)channels);
    if (m->options.image == DT_IMAGE_TRAINED && f->info.channels != channels)
        return dt_fail(DT_ERR_USAGE, "%s does not say how the images were normalised that it was trained on",
                       m->info.name);
    for (int64_t c = 0; c < channels && m->options.image != DT_IMAGE_UNIT; c++) {
        const bool own = m->options.image == DT_IMAGE_TRAINED;
        image->mean[c] = own ? (float)f->info.mean[c] : imagenet[0][c];
        image->stddev[c] = own ? (float)f->info.stddev[c] : imagenet[1][c];
    }
    dt_serve_io *given = (dt_serve_io *)(uintptr_t)m->info.in;
    given->type = DT_TENSOR_U8;
    if (image->planar)
        for (int d = 0; d < 3; d++) given->dim[1 + d] = io->dim[d == 2 ? 1 : d + 2];
    return DT_OK;
}

/* A name a line. */
static dt_status read_labels(dt_serve_model *m, const char *path) {
    char *line = NULL;
    size_t room = 0;
    dt_status st = DT_OK;
    FILE *f = fopen(path, "re");
    if (!f) return dt_fail(DT_ERR_DATA, "%s: no names of classes can be read there", path);
    for (ssize_t n; st == DT_OK && (n = getline(&line, &room, f)) > 0;) {
        line[strcspn(line, "\r\n")] = '\0';
        char **more =
            m->n_label < LABELS_MAX ? realloc(m->label, (size_t)(m->n_label + 1) * sizeof *more) : NULL;
        if (more) m->label = more;
        char *name = more ? strdup(line) : NULL;
        if (name)
            m->label[m->n_label++] = name;
        else
            st = dt_fail(DT_ERR_MEMORY, "%s: no memory for so many names", path);
    }
    free(line), fclose(f);
    return st;
}

static dt_status take_labels(dt_serve_model *m, dt_data_facts *f) {
    if (m->options.labels) return read_labels(m, m->options.labels);
    m->label = f->class_name, m->n_label = f->class_name ? f->info.n_classes : 0;
    f->class_name = NULL;
    return DT_OK;
}

static dt_status find_softmax(dt_serve_model *m) {
    m->softmax = -1;
    if (!m->options.softmax) return DT_OK;
    for (int32_t i = 0; i < m->info.n_out; i++)
        if (strcmp(m->info.out[i].name, m->options.softmax) == 0) m->softmax = i;
    return m->softmax >= 0 ? DT_OK
                           : dt_fail(DT_ERR_USAGE, "%s has no output \"%s\" to take a softmax of",
                                     m->info.name, m->options.softmax);
}

dt_status dt_serve_hooks_open(dt_serve_model *m) {
    dt_data_facts f;
    dt_status st = facts_of(m, &f);
    if (st == DT_OK && m->options.image != DT_IMAGE_AS_IS) st = open_image(m, &f);
    if (st == DT_OK) st = find_softmax(m);
    if (st == DT_OK) st = take_labels(m, &f);
    dt_data_facts_free(&f);
    return st;
}

void dt_serve_hooks_close(dt_serve_model *m) {
    for (int64_t i = 0; i < m->n_label; i++) free(m->label[i]);
    free(m->label);
}

const char *dt_serve_label(const dt_serve_model *m, int64_t i) {
    return i >= 0 && i < m->n_label ? m->label[i] : "";
}

/* ---- before ---- */

/* N H W C bytes to the network's numbers. */
static dt_status normalise(const dt_serve_model *m, dt_host_tensor *t) {
    const dt_serve_images *image = &m->image;
    const int64_t n = t->dim[0], pixels = t->dim[1] * t->dim[2], channels = t->dim[3];
    const uint8_t *from = t->data;
    dt_host_tensor out = *t;
    out.type = m->net_in[0].type;
    if (image->planar) out.dim[1] = channels, out.dim[2] = t->dim[1], out.dim[3] = t->dim[2];
    out.data = malloc((size_t)dt_max_i64(dt_host_bytes(&out), 1));
    if (!out.data) return dt_fail(DT_ERR_MEMORY, "no memory for images");
    float table[4][256];
    for (int64_t c = 0; c < channels; c++)
        for (int v = 0; v < 256; v++) table[c][v] = ((float)v / 255 - image->mean[c]) / image->stddev[c];
    for (int64_t r = 0; r < n; r++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t c = 0; c < channels; c++, from++) {
                const int64_t at =
                    image->planar ? (r * channels + c) * pixels + p : (r * pixels + p) * channels + c;
                if (out.type == DT_TENSOR_F32)
                    ((float *)out.data)[at] = table[c][*from];
                else
                    dt_host_put_f64(&out, at, (double)table[c][*from]);
            }
    *t = out;
    return DT_OK;
}

/* One step may replace data that another has made. */
static void keep_made(dt_serve_request *r, int32_t i, const void *before) {
    if (r->in[i].data == before) return;
    if (r->made[i]) free(r->made[i]);
    r->made[i] = r->in[i].data;
}

static dt_status run_before(const dt_serve_model *m, dt_serve_request *r) {
    const size_t n = (size_t)m->info.n_in + 1;
    void **before = calloc(n, sizeof *before);
    if (!before) return dt_fail(DT_ERR_MEMORY, "no memory for a request");
    for (int32_t i = 0; i < m->info.n_in; i++) before[i] = r->in[i].data;
    const dt_status st = m->options.before(m->options.hook_arg, m->info.n_in, r->in);
    for (int32_t i = 0; i < m->info.n_in; i++) keep_made(r, i, before[i]);
    free(before);
    return st;
}

dt_status dt_serve_hooks_before(const dt_serve_model *m, dt_serve_request *r) {
    const bool images = m->options.image != DT_IMAGE_AS_IS;
    if (!images && !m->options.before) return dt_serve_check(m, m->info.in, r->in);
    r->made = calloc((size_t)m->info.n_in + 1, sizeof *r->made);
    if (!r->made) return dt_fail(DT_ERR_MEMORY, "no memory for a request");
    if (m->options.before) DT_TRY(run_before(m, r));
    DT_TRY(dt_serve_check(m, m->info.in, r->in));
    if (!images) return DT_OK;
    const void *before = r->in[0].data;
    DT_TRY(normalise(m, &r->in[0]));
    keep_made(r, 0, before);
    return DT_OK;
}

/* ---- after ---- */

void dt_serve_softmax(dt_host_tensor *t) {
    const int64_t n = t->ndim > 0 ? t->dim[t->ndim - 1] : 1, rows = n > 0 ? dt_host_n_elem(t) / n : 0;
    for (int64_t r = 0; r < rows; r++) {
        double most = -INFINITY, sum = 0;
        for (int64_t i = r * n; i < (r + 1) * n; i++) most = fmax(most, dt_host_f64(t, i));
        for (int64_t i = r * n; i < (r + 1) * n; i++) sum += exp(dt_host_f64(t, i) - most);
        for (int64_t i = r * n; i < (r + 1) * n; i++)
            dt_host_put_f64(t, i, exp(dt_host_f64(t, i) - most) / sum);
    }
}

void dt_serve_top_k(const dt_host_tensor *t, int64_t row, int64_t k, int64_t *index) {
    const int64_t n = t->ndim > 0 ? t->dim[t->ndim - 1] : 1, from = row * n;
    int64_t have = 0;
    for (int64_t i = 0; i < n; i++) { /* numbers that are none come last */
        const double v = dt_host_f64(t, from + i);
        int64_t at = have;
        while (at > 0 && !(dt_host_f64(t, from + index[at - 1]) >= v) && !isnan(v)) at--;
        if (at == k) continue;
        if (have < k) have++;
        memmove(index + at + 1, index + at, (size_t)(have - at - 1) * sizeof *index);
        index[at] = i;
    }
}

dt_status dt_serve_hooks_after(const dt_serve_model *m, dt_serve_request *r) {
    if (m->softmax >= 0 && dt_host_is(&r->out[m->softmax], DT_HOST_FLOATS))
        dt_serve_softmax(&r->out[m->softmax]);
    return m->options.after ? m->options.after(m->options.hook_arg, m->info.n_out, r->out) : DT_OK;
}
