/* Text for people: amounts, and the word that was meant. */
#include "core/text.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static locale_t plain;

static void make_plain(void) {
    plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

locale_t dt_plain_locale(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_plain);
    return plain;
}

/* -tch, -sh, -s and -x take -es (batch, class); an epoch does not. */
static const char *plural_of(const char *noun) {
    static const char *const es[] = {"tch", "sh", "s", "x"};
    const size_t n = strlen(noun);
    for (size_t i = 0; i < sizeof es / sizeof es[0]; i++) {
        const size_t k = strlen(es[i]);
        if (n >= k && strcmp(noun + n - k, es[i]) == 0) return "es";
    }
    return "s";
}

dt_text dt_count_text(int64_t n, const char *noun) {
    dt_text t;
    snprintf(t.s, sizeof t.s, "%lld %s%s", (long long)n, noun, n == 1 ? "" : plural_of(noun));
    return t;
}

/* The largest unit of which there is at least one, after rounding by `round_digits`. */
static dt_text bytes_text(double bytes, double (*round_digits)(double)) {
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    dt_text t;
    if (!(bytes >= 0) || isinf(bytes)) {
        snprintf(t.s, sizeof t.s, "unknown");
        return t;
    }
    if (bytes < 1024) {
        const double whole = round_digits(bytes);
        if (whole < 1024) return dt_count_text((int64_t)whole, "byte");
    }
    double x = fmax(bytes / 1024, 1);
    for (size_t u = 0;; u++, x /= 1024) {
        const int decimals = x < 10 ? 2 : x < 100 ? 1 : 0;
        const double scale = pow(10, decimals), shown = round_digits(x * scale) / scale;
        if (shown >= 1024 && u + 1 < sizeof unit / sizeof unit[0]) continue;
        snprintf(t.s, sizeof t.s, "%.*f %s", decimals, shown, unit[u]);
        return t;
    }
}

dt_text dt_bytes_text(double bytes) {
    return bytes_text(bytes, round);
}

dt_text dt_bytes_needed_text(double bytes) {
    return bytes_text(bytes, ceil);
}

dt_text dt_bytes_free_text(double bytes) {
    return bytes_text(bytes, floor);
}

dt_text dt_number_text(double x) {
    dt_text t;
    if (!isfinite(x) || x < 0)
        snprintf(t.s, sizeof t.s, "-");
    else if (x < 9.95 && x != floor(x))
        return dt_decimal_text(x < 0.095 ? x : round(10 * x) / 10);
    else if (x < 9999.5)
        snprintf(t.s, sizeof t.s, "%.0f", x);
    else if (x < 999.5e3)
        snprintf(t.s, sizeof t.s, x < 99.95e3 ? "%.1fk" : "%.0fk", x / 1e3);
    else if (x < 999.5e6)
        snprintf(t.s, sizeof t.s, x < 99.995e6 ? "%.2fM" : "%.0fM", x / 1e6);
    else
        snprintf(t.s, sizeof t.s, x < 99.995e9 ? "%.2fG" : "%.0fG", x / 1e9);
    return t;
}

dt_text dt_unit_text(double x, const char *unit) {
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P", "E"};
    dt_text t;
    size_t p = 0;
    if (!isfinite(x)) {
        snprintf(t.s, sizeof t.s, "-");
        return t;
    }
    while (fabs(x) >= 999.5 && p + 1 < sizeof prefix / sizeof prefix[0]) x /= 1000, p++;
    snprintf(t.s, sizeof t.s,
             fabs(x) < 9.995   ? "%.3g %s%s"
             : fabs(x) < 99.95 ? "%.1f %s%s"
                               : "%.0f %s%s",
             x, prefix[p], unit);
    return t;
}

dt_text dt_decimal_text(double x) {
    dt_text t;
    const double size = fabs(x);
    if (size < 0.095 || !(size < 1e15)) {
        snprintf(t.s, sizeof t.s, isnan(x) ? "not a number" : "%.2g", x == 0 ? 0 : x);
        return t;
    }
    snprintf(t.s, sizeof t.s, "%.2f", x);
    size_t n = strlen(t.s);
    while (t.s[n - 1] == '0') t.s[--n] = 0;
    if (t.s[n - 1] == '.') t.s[--n] = 0;
    return t;
}

void dt_print_quoted(const char *s, FILE *out) {
    fputc('"', out);
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04X", c);
        else
            fputc(c, out);
    }
    fputc('"', out);
}

int dt_edit_distance(const char *a, const char *b, int limit) {
    enum { WORD_MAX = 64 };
    size_t na = strnlen(a, WORD_MAX), nb = strnlen(b, WORD_MAX);
    if (a[na] || b[nb]) return limit + 1;
    /* Rows i-2, i-1 and i of the table of distances between prefixes; i-2 is for swapped neighbours. */
    int rows[3][WORD_MAX + 1] = {0};
    for (size_t j = 0; j <= nb; j++) rows[0][j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int *row = rows[i % 3];
        const int *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best) best = above[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    int d = rows[na % 3][nb];
    return d <= limit ? d : limit + 1;
}

/* In another case alone. */
static const char *name_in_case(const char *word, int n, const char *const *names) {
    for (int i = 0; i < n; i++)
        if (strcasecmp(word, names[i]) == 0) return names[i];
    return NULL;
}

const char *dt_nearest_name(const char *word, int n, const char *const *names) {
    int limit = 1 + (int)strnlen(word, 64) / 4;
    const char *best = name_in_case(word, n, names);
    if (best) return best;
    for (int i = 0; i < n; i++) {
        int d = dt_edit_distance(word, names[i], limit);
        if (d > limit || d >= (int)strlen(names[i])) continue;
        best = names[i];
        limit = d - 1;
        if (limit < 0) break;
    }
    return best;
}

bool dt_name_matches(const char *pattern, const char *name) {
    const char *star = NULL, *from = NULL;
    while (*name) {
        if (*pattern == '*') {
            star = pattern++, from = name;
        } else if (*pattern == *name) {
            pattern++, name++;
        } else if (star) { /* the last star takes one character more */
            pattern = star + 1, name = ++from;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == '\0';
}
