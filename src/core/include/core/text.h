/* Text for people, and text that came from outside on its way into a format that wants UTF-8. */
#ifndef DT_CORE_TEXT_H
#define DT_CORE_TEXT_H

#include <locale.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes of the UTF-8 character at `text` ('\0'-terminated, not at its end), 0 where there is none. */
static inline int dt_utf8_bytes(const char *text) {
    const uint8_t *b = (const uint8_t *)text;
    const int n = b[0] < 0x80                   ? 1
                  : b[0] >= 0xc2 && b[0] < 0xe0 ? 2
                  : b[0] >= 0xe0 && b[0] < 0xf0 ? 3
                  : b[0] >= 0xf0 && b[0] < 0xf5 ? 4
                                                : 0;
    for (int i = 1; i < n; i++)
        if ((b[i] & 0xc0) != 0x80) return 0;
    if (n == 3 && ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] >= 0xa0))) return 0;
    if (n == 4 && ((b[0] == 0xf0 && b[1] < 0x90) || (b[0] == 0xf4 && b[1] >= 0x90))) return 0;
    return n;
}

/* The locale of programs and files, whatever the caller's is: numbers with a point. For strtod_l and uselocale. */
locale_t dt_plain_locale(void);

/* A short text by value: dt_bytes_text(n).s is valid to the end of the call that it is an argument of. */
typedef struct dt_text {
    char s[96];
} dt_text;

/* "3 classes", "1 class", "0 classes": the number of what `noun` names, in the singular. */
dt_text dt_count_text(int64_t n, const char *noun);
/* "0 bytes", "1 byte", "12.5 KiB", "1.21 GiB": three digits, four from 1000 of a unit on; below 0:
 * "unknown". */
dt_text dt_bytes_text(double bytes);
/* What is needed, never rounded down, and what there is, never rounded up: so the two texts differ where the
 * first is more. */
dt_text dt_bytes_needed_text(double bytes);
dt_text dt_bytes_free_text(double bytes);
/* 987, 12.3k, 1.23M, 12.30G: a number in few characters; "-" of what is none. */
dt_text dt_number_text(double x);
/* "12.3 GFLOP/s" of 1.23e10 and "FLOP/s": three digits and a prefix, from k to E. */
dt_text dt_unit_text(double x, const char *unit);
/* 2, 1.1, 0.25, 0.0031: at most two decimals, of numbers below 0.1 two digits, no zeros at the end. */
dt_text dt_decimal_text(double x);

/* `s` in quotes, with what TOML's and JSON's strings want escaped. */
void dt_print_quoted(const char *s, FILE *out);

/* Whether `pattern`, in which "*" stands for any characters, none among them, is the whole of `name`. */
bool dt_name_matches(const char *pattern, const char *name);

/* Edits (insertions, deletions, substitutions, swaps of neighbours) from `a` to `b`, at most `limit` + 1. */
int dt_edit_distance(const char *a, const char *b, int limit);
/* The nearest of `names`, or NULL where none is near enough to be meant. */
const char *dt_nearest_name(const char *word, int n, const char *const *names);

#endif
