/* confusion.svg: a square per pair of classes, shaded by its part of the label's samples among those shown.
 * In the colours of curves.svg: right answers blue, wrong ones orange. */
#include <stdio.h>

#include "core/text.h"
#include "report.h"

enum { CELL = 26, LEFT = 30, HEAD = 72, RIGHT = 90, BOTTOM = 24, CHAR = 6, NAME_CHARS = 22 };

/* Where the cells begin: names need room beside and above them. */
typedef struct place {
    int left, top;
} place;

/* At most NAME_CHARS characters of a name, or the number of a class without one. */
static void put_name(const char *text, int64_t class, FILE *out) {
    if (!text[0]) fprintf(out, "%lld", (long long)class);
    for (int n = 0; *text; n++) {
        if (n == NAME_CHARS) {
            fputs("&#8230;", out);
            return;
        }
        const int bytes = dt_utf8_bytes(text);
        const unsigned char c = (unsigned char)*text;
        if (bytes == 0 || c < 0x20)
            fputc('?', out);
        else if (c == '<' || c == '>' || c == '&')
            fprintf(out, "&#%d;", c);
        else
            fwrite(text, 1, (size_t)bytes, out);
        text += bytes ? bytes : 1;
    }
}

static int name_width(const char *text) {
    int n = text[0] ? 0 : 7;
    for (; *text && n <= NAME_CHARS; n++) text += dt_utf8_bytes(text) ? dt_utf8_bytes(text) : 1;
    return n * CHAR;
}

static void draw_head(FILE *out, place at, int64_t n, int64_t n_class) {
    const int width = (int)(at.left + n * CELL + RIGHT), height = (int)(at.top + n * CELL + BOTTOM);
    const int full = width > 420 ? width : 420;
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
            "<style>\n"
            "text{font:11px system-ui,sans-serif;fill:#57606a}.n{font-size:15px;font-weight:600}\n"
            ".m{text-anchor:middle}.e{text-anchor:end}.b{fill:#fff}.c{fill:#f6f8fa}\n"
            ".t{fill:#2f81f7}.v{fill:#e8590c}text.w{fill:#fff}\n"
            "@media(prefers-color-scheme:dark){.b{fill:#0d1117}.c{fill:#161b22}text{fill:#a5b0bb}}\n"
            "</style>\n<rect class=\"b\" width=\"%d\" height=\"%d\"/>\n",
            full, height, full, height, full, height);
    fputs("<text class=\"n\" x=\"12\" y=\"26\">Confusion: rows are labels, columns answers</text>\n", out);
    if (n < n_class)
        fprintf(out, "<text x=\"12\" y=\"46\">%lld of %lld classes: those with most mistakes</text>\n",
                (long long)n, (long long)n_class);
}

/* One label: its name, and what its samples were taken for. */
static void draw_row(FILE *out, place at, int64_t n, int64_t y, const int64_t *count) {
    int64_t sum = 0;
    for (int64_t x = 0; x < n; x++) sum += count[x];
    for (int64_t x = 0; x < n; x++) {
        const double part = sum > 0 ? (double)count[x] / (double)sum : 0;
        const int left = (int)(at.left + x * CELL), top = (int)(at.top + y * CELL);
        fprintf(out, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"",
                count[x] ? x == y ? "t" : "v" : "c", left + 1, top + 1, CELL - 2, CELL - 2);
        if (count[x]) fprintf(out, " fill-opacity=\"%.2f\"", 0.15 + 0.85 * part);
        fputs("/>\n", out);
        if (count[x] > 0 && count[x] < 10000)
            fprintf(out, "<text class=\"m%s\" x=\"%d\" y=\"%d\">%lld</text>\n", part > 0.4 ? " w" : "",
                    left + CELL / 2, top + CELL / 2 + 4, (long long)count[x]);
    }
}

void dt_report_draw(FILE *out, int64_t n_shown, const int64_t *class, const int64_t *count, int64_t n_class,
                    const char *(*name)(const void *of, int64_t i), const void *of) {
    int widest = 0;
    for (int64_t i = 0; i < n_shown; i++) {
        const int width = name_width(name(of, class[i]));
        widest = width > widest ? width : widest;
    }
    const place at = {.left = LEFT + widest, .top = HEAD + widest};
    draw_head(out, at, n_shown, n_class);
    for (int64_t i = 0; i < n_shown; i++) {
        const int x = (int)(at.left + i * CELL + CELL / 2), y = (int)(at.top + i * CELL + CELL / 2 + 4);
        fprintf(out, "<text class=\"e\" x=\"%d\" y=\"%d\">", at.left - 6, y);
        put_name(name(of, class[i]), class[i], out);
        fprintf(out, "</text>\n<text transform=\"translate(%d %d) rotate(-60)\">", x + 2, at.top - 6);
        put_name(name(of, class[i]), class[i], out);
        fputs("</text>\n", out);
        draw_row(out, at, n_shown, i, count + i * n_shown);
    }
    fputs("</svg>\n", out);
}
