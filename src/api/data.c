/* Data sets, and networks that are trained, evaluated and applied on them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "data/augment.h"
#include "data/loader.h"
#include "net.h"

struct dt_data {
    dt_handle head;
    dt_run *run; /* held */
    dt_data_options options;
    dt_augment_options augment;
    dt_dataset *set;
    dt_dataset_info info;
    struct {
        dt_loader *loader; /* NULL: none is open */
        uint64_t net;      /* serial of the one that it feeds */
        int64_t step;      /* of the batch that comes next */
    } feed[2];             /* by dt_mode */
};

static dt_status fill_policy(const dt_data_open_options *o, dt_augment_options *a) {
    static const char *const policies[] = {[DT_POLICY_NONE] = "none",
                                           [DT_POLICY_RANDAUGMENT] = "randaugment",
                                           [DT_POLICY_TRIVIALAUGMENT] = "trivialaugment"};
    const int64_t n = sizeof policies / sizeof policies[0];
    a->policy = DT_POLICY_NONE;
    while (o->policy && a->policy < n && strcmp(policies[a->policy], o->policy) != 0) a->policy++;
    if (a->policy == n)
        return dt_fail(DT_ERR_CONFIG,
                       "dt_data_open: policy is \"%.40s\", expected randaugment or trivialaugment",
                       o->policy);
    if ((o->policy_ops > 0 || o->policy_magnitude > 0) && a->policy != DT_POLICY_RANDAUGMENT)
        return dt_fail(DT_ERR_CONFIG,
                       "dt_data_open: policy_ops and policy_magnitude are for the policy randaugment");
    if (o->policy_ops > 0) a->policy_ops = o->policy_ops;
    if (o->policy_magnitude > 0) a->policy_magnitude = o->policy_magnitude;
    return DT_OK;
}

static dt_status fill_options(const dt_data_open_options *o, const char *path, dt_data *d) {
    const struct {
        const char *field;
        int64_t value, most;
    } number[] = {{"pad_crop", o->pad_crop, 1024},
                  {"threads", o->threads, 1024},
                  {"rows", o->rows, 1000000000000},
                  {"classes", o->classes, 1 << 20},
                  {"image_size", o->image_size, 16384},
                  {"channels", o->channels, 4},
                  {"context", o->context, 1 << 24},
                  {"policy_ops", o->policy_ops, 8},
                  {"policy_magnitude", o->policy_magnitude, 255},
                  {"repeats", o->repeats, 64}};
    const struct {
        const char *field;
        double value, most;
    } share[] = {{"brightness", o->brightness, 100},
                 {"contrast", o->contrast, 100},
                 {"saturation", o->saturation, 100},
                 {"hue", o->hue, 0.5},
                 {"grayscale", o->grayscale, 1},
                 {"scale_min", o->scale_min, 1},
                 {"erase", o->erase, 1},
                 {"mixup", o->mixup, 1000},
                 {"cutmix", o->cutmix, 1000}};
    for (size_t i = 0; i < sizeof number / sizeof number[0]; i++)
        DT_TRY(dt_check_whole("dt_data_open", number[i].field, number[i].value, 1, number[i].most));
    for (size_t i = 0; i < sizeof share / sizeof share[0]; i++)
        DT_TRY(dt_check_real("dt_data_open", share[i].field, share[i].value, 0, share[i].most));
    if (o->classes == 1) return dt_fail(DT_ERR_CONFIG, "dt_data_open: classes is 1, expected 2 or more");
    if (o->pad_crop > 0 && o->random_resized)
        return dt_fail(DT_ERR_CONFIG, "dt_data_open: pad_crop and random_resized: one of them is possible");
    dt_section_defaults(&dt_data_section, &d->options);
    dt_section_defaults(&dt_augment_section, &d->augment);
    const char *fields = o->fields ? o->fields : "";
    if (strlen(path) >= sizeof d->options.train || strlen(fields) >= sizeof d->options.synthetic_fields)
        return dt_fail(DT_ERR_CONFIG, "dt_data_open: path or fields are too long");
    memcpy(d->options.train, path, strlen(path) + 1);
    memcpy(d->options.synthetic_fields, fields, strlen(fields) + 1);
    if (o->rows > 0) d->options.synthetic_samples = o->rows;
    if (o->classes > 0) d->options.synthetic_classes = o->classes;
    if (o->channels > 0) d->options.synthetic_channels = o->channels;
    if (o->context > 0) d->options.context = o->context;
    d->options.documents = o->isolated ? DT_DOCUMENTS_ISOLATED : DT_DOCUMENTS_JOINED;
    d->options.image_size = o->image_size;
    d->options.workers = o->threads;
    d->options.verify = !o->unverified;
    d->augment.flip = o->flip;
    d->augment.brightness = o->brightness, d->augment.contrast = o->contrast;
    d->augment.saturation = o->saturation, d->augment.hue = o->hue;
    d->augment.grayscale = o->grayscale, d->augment.erase = o->erase;
    d->augment.mixup = o->mixup, d->augment.cutmix = o->cutmix;
    if (o->repeats > 0) d->augment.repeats = o->repeats;
    DT_TRY(fill_policy(o, &d->augment));
    d->augment.crop = o->random_resized ? DT_CROP_RANDOM_RESIZED
                      : o->pad_crop > 0 ? DT_CROP_PAD
                                        : DT_CROP_NONE;
    if (o->pad_crop > 0) d->augment.pad = o->pad_crop;
    if (o->scale_min > 0 && !o->random_resized)
        return dt_fail(DT_ERR_CONFIG, "dt_data_open: scale_min is for random_resized");
    if (o->scale_min > 0) d->augment.scale_min = o->scale_min;
    DT_TRY(dt_section_settle(&dt_augment_section, "dt_data_open", &d->augment));
    DT_TRY(dt_section_settle(&dt_data_section, "dt_data_open", &d->options));
    if (strcmp(path, "synthetic") == 0 && !fields[0] && o->image_size == 0)
        return dt_fail(DT_ERR_CONFIG, "dt_data_open: synthetic data needs fields, or an image_size");
    return DT_OK;
}

/* Options for another kind of data would be ignored. */
static dt_status check_kind(const dt_data_open_options *o, const dt_data *d) {
    const bool text = d->info.n_vocab > 0, images = d->info.channels > 0;
    const struct {
        const char *field, *of;
        bool set, counts;
    } options[] = {{"context", "text", o->context > 0, text},
                   {"isolated", "text", o->isolated, text},
                   {"pad_crop", "images", o->pad_crop > 0, images},
                   {"random_resized", "images", o->random_resized, images},
                   {"flip", "images", o->flip, images},
                   {"brightness", "images", o->brightness > 0, images},
                   {"contrast", "images", o->contrast > 0, images},
                   {"saturation", "images", o->saturation > 0, images},
                   {"hue", "images", o->hue > 0, images},
                   {"grayscale", "images", o->grayscale > 0, images},
                   {"policy", "images", d->augment.policy != DT_POLICY_NONE, images},
                   {"repeats", "images", o->repeats > 0, images},
                   {"erase", "images", o->erase > 0, images},
                   {"mixup", "images", o->mixup > 0, images},
                   {"cutmix", "images", o->cutmix > 0, images}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (options[i].set && !options[i].counts)
            return dt_fail(DT_ERR_CONFIG, "dt_data_open: %s is for %s, and %s is %s", options[i].field,
                           options[i].of, d->options.train, d->info.kind);
    return DT_OK;
}

dt_status dt_data_open(dt_run *run, const char *path, dt_data_open_options options, dt_data **out) {
    DT_CHECK_RUN(run);
    DT_CHECK_POINTER(path);
    DT_CHECK_POINTER(out);
    *out = NULL;
    dt_data *d = dt_handle_new(DT_HANDLE_DATA, sizeof *d);
    if (!d) return dt_fail(DT_ERR_MEMORY, "no memory for a data set");
    dt_run_hold(d->run = run);
    dt_status st = fill_options(&options, path, d);
    if (st == DT_OK) st = dt_dataset_open(&d->options, path, &d->set);
    if (st == DT_OK) dt_dataset_info_get(d->set, &d->info);
    if (st == DT_OK) st = check_kind(&options, d);
    if (st == DT_OK)
        *out = d;
    else
        dt_data_free(d);
    return st;
}

static void end_feed(dt_data *d, dt_mode mode) {
    dt_loader_close(d->feed[mode].loader);
    d->feed[mode].loader = NULL;
}

void dt_data_free(dt_data *d) {
    if (!dt_handle_end(DT_HANDLE_DATA, d)) return;
    end_feed(d, DT_TRAINING);
    end_feed(d, DT_EVALUATION);
    dt_dataset_close(d->set);
    dt_run_drop(d->run);
    dt_handle_free(d);
}

/* ---- questions ---- */

int64_t dt_data_n_rows(const dt_data *d) {
    return dt_handle_is(DT_HANDLE_DATA, d) ? d->info.n_samples : 0;
}

int64_t dt_data_n_classes(const dt_data *d) {
    return dt_handle_is(DT_HANDLE_DATA, d) ? d->info.n_classes : 0;
}

dt_status dt_data_field(const dt_data *data, const char *name, dt_dtype *type, dt_shape *shape) {
    DT_CHECK_DATA(data);
    DT_CHECK_POINTER(name);
    for (int32_t i = 0; i < data->info.n_field; i++) {
        const dt_field *f = &data->info.field[i];
        if (strcmp(f->name, name) != 0) continue;
        if (type) *type = f->dtype;
        if (shape) {
            *shape = (dt_shape){.ndim = f->ndim};
            memcpy(shape->dim, f->dim, (size_t)f->ndim * sizeof *f->dim);
        }
        return DT_OK;
    }
    return dt_fail(DT_ERR_USAGE, "dt_data_field: %s has no field \"%s\"; a row is %s", data->options.train,
                   name, dt_dataset_describe(&data->info).s);
}

dt_status dt_data_image(const dt_data *data, dt_image_options *out) {
    DT_CHECK_DATA(data);
    DT_CHECK_POINTER(out);
    *out = (dt_image_options){0};
    if (data->info.channels == 0)
        return dt_fail(DT_ERR_USAGE, "dt_data_image: %s has no images; a row is %s", data->options.train,
                       dt_dataset_describe(&data->info).s);
    out->height = data->info.height, out->width = data->info.width, out->channels = data->info.channels;
    for (int32_t c = 0; c < out->channels; c++) {
        out->mean[c] = (float)data->info.mean[c];
        out->stddev[c] = (float)data->info.stddev[c];
    }
    out->mixed = dt_augment_mixes(&data->augment);
    out->erased = dt_augment_has_mix_rows(&data->augment) && !out->mixed;
    return DT_OK;
}

/* ---- batches ---- */

/* A loader of batches as the network takes them. */
static dt_status open_feed(dt_data *d, dt_net *net, dt_mode mode) {
    const dt_net_input *image = d->info.channels > 0 ? dt_net_find_input(net, "image") : NULL;
    const bool eval = mode == DT_EVALUATION, gpu = net->be->info.is_gpu;
    end_feed(d, mode);
    if (image && (image->field.dtype != DT_DTYPE_U8 || image->field.ndim != 3 ||
                  image->field.dim[2] != d->info.channels))
        return dt_fail(
            DT_ERR_DATA,
            "the network's input \"image\" is not of bytes [height, width, %lld], as the images of %s "
            "are",
            (long long)d->info.channels, d->options.train);
    if (image && !eval &&
        (dt_augment_mixes(&d->augment) != (dt_net_find_input(net, "partner") != NULL) ||
         dt_augment_has_mix_rows(&d->augment) != (dt_net_find_input(net, "mix") != NULL)))
        return dt_fail(DT_ERR_DATA, "the data's erase, mixup and cutmix are for a network whose "
                                    "dt_image_input has erased and mixed as "
                                    "dt_data_image gives them for this data");
    const dt_loader_options o = {
        .data = &d->options,
        .augment = &d->augment,
        .dataset = d->set,
        .eval = eval,
        .out_h = image ? image->field.dim[0] : d->info.height,
        .out_w = image ? image->field.dim[1] : d->info.width,
        .seed = (uint64_t)net->config.run.seed,
        .batch = net->options.batch,
        .global_batch = net->config.train.global_batch,
        .n_micro_all = dt_net_world(net),
        .rank = net->run->mpi ? net->run->mpi->rank : 0,
        .world = dt_net_world(net),
        .first_step = eval ? 0 : net->step,
        .n_steps = -1,
        .threads = d->options.workers > 0 ? (int32_t)d->options.workers
                   : gpu                  ? net->be->host_threads
                                          : 1,
        .n_slots = (int32_t)d->options.prefetch + 2,
    };
    dt_status st = dt_loader_check(&o);
    if (st == DT_OK) st = dt_loader_open(&o, &d->feed[mode].loader);
    if (st != DT_OK) dt_error_context("%s", d->options.train);
    d->feed[mode].net = net->serial;
    d->feed[mode].step = o.first_step;
    return st;
}

/* The batch's fields into the inputs of their names. */
static dt_status fill_inputs(const dt_data *d, dt_net *net, const dt_batch *b, bool eval) {
    for (int32_t i = 0; i < net->n_input; i++) {
        dt_net_input *in = &net->input[i];
        const dt_field *f = NULL;
        int32_t k = 0;
        if (eval && in->mixes) {
            in->rows = 0;
            continue;
        }
        while (k < b->n_field && strcmp(b->field[k].name, in->field.name) != 0) k++;
        if (k < b->n_field) f = &b->field[k];
        if (!f || f->dtype != in->field.dtype || dt_field_bytes(f) != dt_field_bytes(&in->field))
            return dt_fail(DT_ERR_DATA, "the network's input \"%s\" is %s of %lld bytes a row; %s has %s",
                           in->field.name, dt_dtype_name(in->field.dtype),
                           (long long)dt_field_bytes(&in->field), d->options.train,
                           f ? "it in another type or size" : "no field of that name");
        DT_TRY(dt_net_fill(net, in, b->n_valid, b->data[k]));
    }
    return DT_OK;
}

dt_status dt_net_next(dt_net *net, dt_data *data, dt_mode mode, bool *more) {
    DT_CHECK_NET(net);
    DT_CHECK_DATA(data);
    if (mode != DT_TRAINING && mode != DT_EVALUATION)
        return dt_fail(DT_ERR_USAGE, "dt_net_next: %d is no dt_mode", (int)mode);
    const bool eval = mode == DT_EVALUATION;
    if (eval) DT_CHECK_POINTER(more);
    if (more) *more = false;
    if (net->run != data->run)
        return dt_fail(DT_ERR_USAGE, "dt_net_next: the network and the data set are of different runs");
    DT_TRY(dt_net_compile(net));
    if (!data->feed[mode].loader || data->feed[mode].net != net->serial ||
        (!eval && data->feed[mode].step != net->step))
        DT_TRY(open_feed(data, net, mode));
    dt_loader *loader = data->feed[mode].loader;
    dt_batch b = {.n_valid = 0};
    if (eval && data->feed[mode].step < 0) { /* the last one was taken */
        end_feed(data, mode);
        return DT_OK;
    }
    dt_status st = dt_loader_next(loader, &b, NULL);
    if (st == DT_OK) {
        if (b.n_valid > 0) st = fill_inputs(data, net, &b, eval);
        dt_loader_release(loader, &b);
    }
    if (st != DT_OK) {
        end_feed(data, mode);
        return st;
    }
    data->feed[mode].step = eval && b.last ? -1 : data->feed[mode].step + 1;
    if (b.n_valid == 0) end_feed(data, mode); /* this rank has none */
    if (more) *more = b.n_valid > 0;
    return DT_OK;
}

/* ---- all of them ---- */

/* The beginning of a collective call on a data set: of all ranks the same, as far as can be told without reading it. */
static dt_status meet(dt_net *net, const dt_data *d, dt_status mine, const char *function, const char *more) {
    char text[DT_MEET_TEXT_MAX];
    snprintf(text, sizeof text, "%s", more);
    if (mine == DT_OK)
        snprintf(text, sizeof text, "%s\ndata of %lld rows, %s, means %.9g %.9g %.9g %.9g\n", more,
                 (long long)d->info.n_samples, dt_dataset_describe(&d->info).s, d->info.mean[0],
                 d->info.mean[1], d->info.mean[2], d->info.mean[3]);
    return dt_net_meet(net, mine, function, text);
}

static dt_status check_fit(const dt_net *net, const dt_data *data, const dt_fit_options *o, int64_t *steps) {
    DT_TRY(dt_handle_check(DT_HANDLE_DATA, data, "dt_net_fit", "data"));
    DT_TRY(dt_check_real("dt_net_fit", "epochs", o->epochs, 1e-12, 1e12));
    DT_TRY(dt_check_whole("dt_net_fit", "steps", o->steps, 1, INT64_MAX));
    const double all = (o->epochs > 0 ? o->epochs : 1) * (double)data->info.n_samples;
    if (all > 1e17)
        return dt_fail(DT_ERR_CONFIG, "dt_net_fit: epochs is %g: more than can be counted", o->epochs);
    *steps =
        o->steps > 0 ? o->steps : (int64_t)ceil(all / (double)net->config.train.global_batch * (1 - 1e-12));
    return DT_OK;
}

/* What fails on one rank ends all of them at the next step's beginning, or at the end. */
dt_status dt_net_fit(dt_net *net, dt_data *data, dt_fit_options o) {
    DT_CHECK_NET(net);
    int64_t steps = 0;
    char more[64];
    dt_status st = check_fit(net, data, &o, &steps);
    if (st != DT_OK && !net->run->mpi) return st;
    DT_TRY(dt_net_compile(net));
    snprintf(more, sizeof more, "steps %lld", (long long)steps);
    DT_TRY(meet(net, data, st, __func__, more));
    for (int64_t i = 0; i < steps; i++) {
        if (st == DT_OK) st = dt_net_next(net, data, DT_TRAINING, NULL);
        DT_TRY(dt_net_step_after(net, st));
        if (o.after_step) st = dt_check_brought("dt_net_fit: after_step", o.after_step(o.arg, net, i));
    }
    return dt_net_meet(net, st, "the end of dt_net_fit", "");
}

dt_status dt_net_evaluate(dt_net *net, dt_data *data) {
    bool more;
    DT_CHECK_NET(net);
    dt_status st = dt_handle_check(DT_HANDLE_DATA, data, __func__, "data");
    if (st != DT_OK && !net->run->mpi) return st;
    DT_TRY(dt_net_compile(net));
    DT_TRY(meet(net, data, st, __func__, ""));
    DT_TRY(dt_net_begin_evaluation(net));
    end_feed(data, DT_EVALUATION);
    while ((st = dt_net_next(net, data, DT_EVALUATION, &more)) == DT_OK && more)
        if ((st = dt_net_forward(net, DT_EVALUATION)) != DT_OK) break;
    st = dt_net_meet(net, st, "the end of dt_net_evaluate", "");
    if (st == DT_OK) return dt_net_end_evaluation(net);
    char why[1024];
    snprintf(why, sizeof why, "%s", dt_error_text());
    (void)dt_net_end_evaluation(net); /* weights and statistics of training */
    dt_error_set(st, why);
    return st;
}

/* This rank's samples to their places among all. */
static dt_status predict(dt_net *net, dt_data *data, const char *output, int64_t width, float *all) {
    const int64_t world = dt_net_world(net), rank = net->run->mpi ? net->run->mpi->rank : 0;
    bool more;
    end_feed(data, DT_EVALUATION);
    for (int64_t sample = rank;;) {
        const float *row;
        int64_t n;
        DT_TRY(dt_net_next(net, data, DT_EVALUATION, &more));
        if (!more) return DT_OK;
        DT_TRY(dt_net_forward(net, DT_EVALUATION));
        DT_TRY(dt_engine_output(net->engine, output, &n, &row));
        for (int64_t r = 0; r < net->input[0].rows && sample < data->info.n_samples; r++, sample += world)
            memcpy(all + sample * width, row + r * width, (size_t)width * sizeof *all);
    }
}

/* The result before it is computed. */
static dt_status prepare(dt_net *net, const dt_data *data, const char *output, int64_t *width,
                         dt_tensor **out) {
    static const char function[] = "dt_net_predict";
    DT_TRY(dt_handle_check(DT_HANDLE_DATA, data, function, "data"));
    if (!output || !out) return dt_fail(DT_ERR_USAGE, "%s: %s is NULL", function, output ? "out" : "output");
    const dt_graph *g = dt_engine_program(net->engine, true)->graph;
    const dt_vid id = dt_graph_output(g, output);
    if (id < 0)
        return dt_fail(DT_ERR_USAGE, "%s: the network has no output \"%.200s\": name one with dt_expose",
                       function, output);
    const dt_value *v = &g->value[id];
    dt_shape shape = {.ndim = v->ndim};
    memcpy(shape.dim, v->dim, (size_t)v->ndim * sizeof *v->dim);
    *width = dt_value_n_elem(v) / v->dim[0];
    shape.dim[0] = data->info.n_samples;
    return dt_tensor_zeros_host(net->run, DT_DTYPE_F32, shape, out);
}

dt_status dt_net_predict(dt_net *net, dt_data *data, const char *output, dt_tensor **out) {
    DT_CHECK_NET(net);
    if (out) *out = NULL;
    DT_TRY(dt_net_compile(net));
    int64_t width = 0;
    char more[256];
    dt_status st = prepare(net, data, output, &width, out);
    snprintf(more, sizeof more, "output %.200s", st == DT_OK ? output : "");
    st = meet(net, data, st, __func__, more);
    if (st == DT_OK) st = dt_net_all(net, predict(net, data, output, width, (*out)->data));
    if (st == DT_OK && net->run->mpi) st = dt_run_all_reduce(net->run, *out);
    if (st == DT_OK || !out) return st;
    char why[1024];
    snprintf(why, sizeof why, "%s", dt_error_text());
    dt_tensor_free(*out);
    dt_error_set(st, why);
    *out = NULL;
    return st;
}
