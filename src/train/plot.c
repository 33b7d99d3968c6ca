/* curves.svg: loss and the first metric over steps, two panels, from metrics.jsonl alone. Written without a plotting
 * library; colours are readable on white and, where the viewer prefers dark, on black. */
#include "train/metrics.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "core/dir.h"

enum {
    POINTS_MAX = 1000, /* of a drawn curve */
    MARKED_MAX = 60,   /* curves with at most so many points show each */
    WIDTH = 980,
    HEIGHT = 400,
    PANEL_WIDTH = 400,
    PANEL_HEIGHT = 270,
    PANEL_TOP = 70,
    PANEL_LEFT = 65, /* of the first panel */
    PANEL_STEP = 480,
    TICKS = 6
};

typedef struct curve {
    double *x, *y;
    size_t n, room;
} curve;

/* What the file holds, of loss and of the metric, an accuracy in percent: training, evaluation, and where that is of
 * averaged weights, the evaluation of the current ones. */
typedef enum curve_id {
    TRAIN_LOSS = 0,
    EVAL_LOSS,
    CURRENT_LOSS,
    TRAIN_METRIC,
    EVAL_METRIC,
    CURRENT_METRIC,
    CURVE_COUNT
} curve_id;

typedef struct curves_of {
    const dt_metric_row *metric; /* the first of a task that a record has; NULL: none has one */
    curve curve[CURVE_COUNT];
} curves_of;

typedef struct axis {
    double low, high, tick;
} axis;

static dt_status curve_add(curve *c, double x, double y) {
    if (!(fabs(x) < 1e30 && fabs(y) < 1e30)) return DT_OK; /* no axis could show it */
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 1024;
        double *px = realloc(c->x, room * sizeof *px);
        if (px) c->x = px;
        double *py = realloc(c->y, room * sizeof *py);
        if (py) c->y = py;
        if (!px || !py) return dt_fail(DT_ERR_MEMORY, "out of memory for %zu points of a curve", room);
        c->room = room;
    }
    c->x[c->n] = x;
    c->y[c->n] = y;
    c->n++;
    return DT_OK;
}

/* Records say by their members which task they are of. */
static void find_metric(curves_of *c, const json_t *record) {
    for (int i = 0; dt_task_choices[i] && !c->metric; i++) {
        const dt_task_row *task = &dt_task_table[i];
        if (task->n_metric > 0 && json_object_get(record, task->metric[0].name)) c->metric = &task->metric[0];
    }
}

static dt_status add_record(curves_of *c, const char *line, size_t size) {
    json_t *record = json_loadb(line, size, 0, NULL);
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const json_t *step = json_object_get(record, "step");
    const bool eval = kind && strcmp(kind, "eval") == 0;
    find_metric(c, record);
    char current[64];
    const char *name = c->metric ? c->metric->name : "top1";
    const double unit = !c->metric || c->metric->percent ? 100 : 1;
    snprintf(current, sizeof current, "current_%s", name);
    const struct {
        const char *member;
        curve_id curve;
        double unit;
    } part[] = {{"loss", eval ? EVAL_LOSS : TRAIN_LOSS, 1},
                {name, eval ? EVAL_METRIC : TRAIN_METRIC, unit},
                {"current_loss", CURRENT_LOSS, 1},
                {current, CURRENT_METRIC, unit}};
    dt_status status = DT_OK;
    for (size_t i = 0; kind && json_is_number(step) && status == DT_OK && i < sizeof part / sizeof part[0];
         i++) {
        const json_t *value = json_object_get(record, part[i].member);
        if (json_is_number(value))
            status = curve_add(&c->curve[part[i].curve], json_number_value(step),
                               part[i].unit * json_number_value(value));
    }
    json_decref(record);
    return status;
}

static dt_status read_curves(const char *path, curves_of *c) {
    FILE *in = fopen(path, "rb");
    if (!in) return dt_fail(DT_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    dt_status status = DT_OK;
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n = getline(&line, &room, in); n > 0 && status == DT_OK; n = getline(&line, &room, in))
        status = add_record(c, line, (size_t)n);
    if (status == DT_OK && ferror(in)) status = dt_fail(DT_ERR_IO, "%s: cannot be read", path);
    free(line);
    fclose(in);
    return status;
}

/* Means of equal runs of points, so that at most POINTS_MAX are left. */
static void thin(curve *c) {
    size_t run = (c->n + POINTS_MAX - 1) / POINTS_MAX, n = 0;
    if (run <= 1) return;
    for (size_t i = 0; i < c->n; i += run, n++) {
        size_t end = i + run < c->n ? i + run : c->n;
        double x = 0, y = 0;
        for (size_t k = i; k < end; k++) {
            x += c->x[k];
            y += c->y[k];
        }
        c->x[n] = x / (double)(end - i);
        c->y[n] = y / (double)(end - i);
    }
    c->n = n;
}

/* `to` is `from` averaged over a centred window of about a fiftieth of the curve, narrower near the ends, so
 * that it lags behind at neither side. */
static dt_status smooth(const curve *from, curve *to) {
    size_t reach = from->n / 100;
    *to = (curve){0};
    for (size_t i = 0; i < from->n; i++) {
        size_t r = reach, after = from->n - 1 - i;
        if (r > i) r = i;
        if (r > after) r = after;
        double sum = 0;
        for (size_t k = i - r; k <= i + r; k++) sum += from->y[k];
        DT_TRY(curve_add(to, from->x[i], sum / (double)(2 * r + 1)));
    }
    return DT_OK;
}

static void extend(double *low, double *high, const double *v, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (v[i] < *low) *low = v[i];
        if (v[i] > *high) *high = v[i];
    }
}

/* Ticks at 1, 2 or 5 times a power of ten. For values the range is widened to whole ticks; steps are whole
 * numbers. */
static axis make_axis(double low, double high, bool steps) {
    if (!(low <= high)) {
        low = 0;
        high = 1;
    }
    if (high - low < 1e-9 * fmax(1, fabs(high))) {
        double margin = fmax(0.5 * fabs(high), 0.5);
        low -= margin;
        high += margin;
    }
    double raw = (high - low) / TICKS, power = pow(10, floor(log10(raw))), lead = raw / power;
    axis a = {low, high, power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10)};
    if (steps) {
        a.tick = fmax(a.tick, 1);
    } else {
        a.low = floor(low / a.tick + 1e-9) * a.tick;
        a.high = ceil(high / a.tick - 1e-9) * a.tick;
    }
    return a;
}

static double place_x(axis a, int left, double x) {
    return left + PANEL_WIDTH * (x - a.low) / (a.high - a.low);
}

static double place_y(axis a, double y) {
    return PANEL_TOP + PANEL_HEIGHT * (1 - (y - a.low) / (a.high - a.low));
}

/* 0.25, 40, 12k, 1.5M: as many decimals as the tick distance needs. */
static void print_tick(FILE *out, double v, double tick) {
    double unit = fabs(v) >= 1e6 ? 1e6 : fabs(v) >= 1e4 ? 1e3 : 1;
    const char *suffix = unit > 1e5 ? "M" : unit > 1 ? "k" : "";
    int decimals = 0;
    for (double t = tick / unit; decimals < 8 && fabs(t - round(t)) > 1e-6 * t; t *= 10) decimals++;
    if (fabs(v) < 1e-9 * tick) v = 0;
    fprintf(out, "%.*f%s", decimals, v / unit, suffix);
}

static void draw_axes(FILE *out, const char *title, int left, axis ax, axis ay) {
    int bottom = PANEL_TOP + PANEL_HEIGHT, right = left + PANEL_WIDTH;
    fprintf(out, "<text class=\"h\" x=\"%d\" y=\"%d\">%s</text>\n", left, PANEL_TOP - 14, title);
    for (double v = ceil(ay.low / ay.tick - 1e-9) * ay.tick; v <= ay.high + 1e-9 * ay.tick; v += ay.tick) {
        double y = place_y(ay, v);
        fprintf(out, "<path class=\"g\" d=\"M%d %.1fH%d\"/><text class=\"e\" x=\"%d\" y=\"%.1f\">", left, y,
                right, left - 8, y + 4);
        print_tick(out, v, ay.tick);
        fputs("</text>\n", out);
    }
    for (double v = ceil(ax.low / ax.tick - 1e-9) * ax.tick; v <= ax.high + 1e-9 * ax.tick; v += ax.tick) {
        double x = place_x(ax, left, v);
        fprintf(out, "<path class=\"a\" d=\"M%.1f %dv5\"/><text class=\"m\" x=\"%.1f\" y=\"%d\">", x, bottom,
                x, bottom + 19);
        print_tick(out, v, ax.tick);
        fputs("</text>\n", out);
    }
    fprintf(out, "<path class=\"a\" d=\"M%d %dV%dH%d\"/>\n", left, PANEL_TOP, bottom, right);
    fprintf(out, "<text class=\"m\" x=\"%d\" y=\"%d\">step</text>\n", left + PANEL_WIDTH / 2, bottom + 40);
}

static void draw_curve(FILE *out, const curve *c, const char *class, int left, axis ax, axis ay,
                       bool marked) {
    if (c->n == 0) return;
    fprintf(out, "<polyline class=\"%s\" points=\"", class);
    for (size_t i = 0; i < c->n; i++)
        fprintf(out, "%s%.1f,%.1f", i > 0 ? " " : "", place_x(ax, left, c->x[i]), place_y(ay, c->y[i]));
    fputs("\"/>\n", out);
    if (!marked || c->n > MARKED_MAX) return;
    for (size_t i = 0; i < c->n; i++)
        fprintf(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"/>\n", class,
                place_x(ax, left, c->x[i]), place_y(ay, c->y[i]));
}

/* Of a curve before it is thinned. */
typedef struct outcome {
    double last, best;
} outcome;

static outcome outcome_of(const curve *c, bool higher) {
    outcome o = {NAN, NAN};
    for (size_t i = 0; i < c->n; i++) {
        o.last = c->y[i];
        o.best = higher ? fmax(o.best, o.last) : fmin(o.best, o.last); /* of a number and NaN: the number */
    }
    return o;
}

/* Right-aligned above the panel: name and last value of each curve, the best value of the evaluation. */
static void draw_legend(FILE *out, int left, const curve *train, const curve *eval, const curve *current,
                        outcome o, bool percent) {
    int right = left + PANEL_WIDTH;
    const char *unit = percent ? " %" : "";
    int decimals = percent ? 2 : 4;
    fprintf(out, "<text class=\"e\" x=\"%d\" y=\"%d\">", right, PANEL_TOP - 14);
    if (train->n > 0)
        fprintf(out, "<tspan class=\"tt\">&#9644; train %.*f%s</tspan>", decimals, train->y[train->n - 1],
                unit);
    if (eval->n > 0)
        fprintf(out, "%s<tspan class=\"et\">&#9679; eval %.*f%s (best %.*f%s)</tspan>",
                train->n > 0 ? " &#160; " : "", decimals, o.last, unit, decimals, o.best, unit);
    fputs("</text>\n", out);
    if (current->n > 0)
        fprintf(out, "<text class=\"e ct\" x=\"%d\" y=\"%d\">&#9675; current weights %.*f%s</text>\n", right,
                PANEL_TOP - 30, decimals, current->y[current->n - 1], unit);
}

/* `c`: training, evaluation, evaluation of the current weights. */
static dt_status draw_panel(FILE *out, int index, const char *title, curve *c, axis ax, bool percent,
                            bool higher) {
    int left = PANEL_LEFT + index * PANEL_STEP;
    curve *train = &c[0], *eval = &c[1], *current = &c[2];
    curve smoothed;
    double low = INFINITY, high = -INFINITY;
    const outcome end = outcome_of(eval, higher);
    thin(train);
    thin(eval);
    thin(current);
    dt_status status = smooth(train, &smoothed);
    if (status != DT_OK) goto done;
    /* Single wild steps run out of the panel rather than flatten everything else. */
    extend(&low, &high, smoothed.y, smoothed.n);
    extend(&low, &high, eval->y, eval->n);
    extend(&low, &high, current->y, current->n);
    if (!percent && low > 0 && low < 0.3 * high) low = 0;
    axis ay = make_axis(low, high, false);
    draw_axes(out, title, left, ax, ay);
    fprintf(out, "<g clip-path=\"url(#p%d)\">\n", index);
    draw_curve(out, train, "r", left, ax, ay, false);
    draw_curve(out, &smoothed, "t", left, ax, ay, smoothed.n == 1);
    fputs("</g>\n", out);
    draw_curve(out, current, "c", left, ax, ay, true);
    draw_curve(out, eval, "v", left, ax, ay, true);
    draw_legend(out, left, &smoothed, eval, current, end, percent);
    if (smoothed.n + eval->n == 0)
        fprintf(out, "<text class=\"m\" x=\"%d\" y=\"%d\">no data</text>\n", left + PANEL_WIDTH / 2,
                PANEL_TOP + PANEL_HEIGHT / 2);
done:
    free(smoothed.x);
    free(smoothed.y);
    return status;
}

/* The name of the directory that holds the metrics, which is the run's. */
static void print_run_name(FILE *out, const char *metrics_path) {
    char *path = realpath(metrics_path, NULL);
    char *slash = path ? strrchr(path, '/') : NULL;
    if (slash) *slash = '\0';
    const char *name = slash ? strrchr(path, '/') : NULL;
    for (const char *p = name ? name + 1 : ""; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '<' || c == '>' || c == '&' || c < 0x20 || c >= 0x7f)
            fprintf(out, "&#%d;", c < 0x20 || c >= 0x7f ? '?' : c);
        else
            fputc(c, out);
    }
    free(path);
}

static void draw_head(FILE *out, const char *metrics_path) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
            "<style>\n"
            "text{font:12px system-ui,sans-serif;fill:#57606a}.h{font-size:14px;font-weight:600}\n"
            ".n{font-size:15px;font-weight:600}.m{text-anchor:middle}.e{text-anchor:end}\n"
            ".b{fill:#fff}.g{stroke:#d0d7de;stroke-width:.6}.a{stroke:#8c959f;fill:none}\n"
            "polyline{fill:none;stroke-width:2;stroke-linejoin:round}\n"
            "polyline.r{stroke:#2f81f7;stroke-width:1;stroke-opacity:.28}polyline.t{stroke:#2f81f7}\n"
            "polyline.v{stroke:#e8590c}circle.t,.tt{fill:#2f81f7}circle.v,.et{fill:#e8590c}\n"
            "polyline.c{stroke:#2da44e;stroke-dasharray:5 3}circle.c,.ct{fill:#2da44e}\n"
            "@media(prefers-color-scheme:dark){.b{fill:#0d1117}text{fill:#a5b0bb}.g{stroke:#30363d}}\n"
            "</style>\n<rect class=\"b\" width=\"%d\" height=\"%d\"/>\n",
            WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    for (int i = 0; i < 2; i++)
        fprintf(out, "<clipPath id=\"p%d\"><rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/></clipPath>\n",
                i, PANEL_LEFT + i * PANEL_STEP, PANEL_TOP - 4, PANEL_WIDTH + 5, PANEL_HEIGHT + 8);
    fprintf(out, "<text class=\"n\" x=\"%d\" y=\"28\">", PANEL_LEFT);
    print_run_name(out, metrics_path);
    fputs("</text>\n", out);
}

static dt_status draw(FILE *out, const char *metrics_path, curves_of *c) {
    double low = INFINITY, high = -INFINITY;
    char title[DT_METRIC_TEXT] = "Accuracy";
    const bool percent = !c->metric || c->metric->percent, higher = !c->metric || c->metric->higher_is_better;
    if (c->metric) snprintf(title, sizeof title, "%s", c->metric->line);
    title[0] = (char)toupper((unsigned char)title[0]);
    for (int i = 0; i < CURVE_COUNT; i++) extend(&low, &high, c->curve[i].x, c->curve[i].n);
    if (low <= 0.2 * high || low == high) low = 0;
    axis ax = make_axis(low, high, true);
    draw_head(out, metrics_path);
    DT_TRY(draw_panel(out, 0, "Loss", &c->curve[TRAIN_LOSS], ax, false, false));
    DT_TRY(draw_panel(out, 1, title, &c->curve[TRAIN_METRIC], ax, percent, higher));
    fputs("</svg>\n", out);
    return DT_OK;
}

dt_status dt_plot_curves(const char *metrics_path, const char *svg_path) {
    curves_of curves = {.metric = NULL};
    dt_status status = DT_OK;
    char copy[4096 + 8];
    FILE *out = NULL;
    if (snprintf(copy, sizeof copy, "%s.tmp", svg_path) >= (int)sizeof copy)
        return dt_fail(DT_ERR_IO, "%.60s...: path too long", svg_path);
    DT_TRY_GOTO(status, read_curves(metrics_path, &curves), done);
    out = fopen(copy, "wb");
    if (!out) {
        status = dt_fail(DT_ERR_IO, "%s: cannot be written: %s", copy, dt_create_error(copy, errno).s);
        goto done;
    }
    status = draw(out, metrics_path, &curves);
    bool written = !ferror(out);
    if (fclose(out) != 0) written = false;
    if (status == DT_OK && (!written || rename(copy, svg_path) != 0))
        status = dt_fail(DT_ERR_IO, "%s: cannot be written: %s", svg_path, strerror(errno));
    if (status != DT_OK) unlink(copy);
done:
    for (int i = 0; i < CURVE_COUNT; i++) {
        free(curves.curve[i].x);
        free(curves.curve[i].y);
    }
    return status;
}
