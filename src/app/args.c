/* Reads the options of a verb. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/text.h"
#include "command.h"

static int option_count(const dt_verb *v) {
    int n = 0;
    while (v->option && v->option[n].name) n++;
    return n;
}

static int find(const dt_verb *v, const char *name, size_t length) {
    for (int i = 0; i < option_count(v); i++)
        if (strlen(v->option[i].name) == length && strncmp(v->option[i].name, name, length) == 0) return i;
    return -1;
}

static dt_status unknown(const dt_verb *v, const char *argument) {
    const char *name[DT_OPTIONS_MAX];
    const int n = option_count(v);
    char word[64];
    for (int i = 0; i < n; i++) name[i] = v->option[i].name;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(argument, "="), argument);
    const char *near = dt_nearest_name(word + strspn(word, "-"), n, name);
    return dt_fail(DT_ERR_USAGE, "%s: unknown option %s%s%s; dtrain %s --help lists %s", v->name, argument,
                   near ? "; did you mean --" : "", near ? near : "", v->name,
                   n > 0 ? "its options" : "what it takes");
}

/* Whether `value` is one of "a|b|c". */
static bool is_choice(const char *choices, const char *value) {
    const size_t length = strlen(value);
    for (const char *at = choices; *at;) {
        const size_t n = strcspn(at, "|");
        if (n == length && strncmp(at, value, n) == 0) return true;
        at += n + (at[n] == '|');
    }
    return false;
}

static dt_status check_value(const dt_option *o, const char *value, int64_t *number) {
    if (dt_option_has_choices(o) && !is_choice(o->argument, value))
        return dt_fail(DT_ERR_USAGE, "--%s %s: expected %s", o->name, value, o->argument);
    if (o->max == 0) return DT_OK;
    char *end;
    errno = 0;
    const long long v = strtoll(value, &end, 10);
    if (errno || *end || end == value || v < 1 || v > o->max)
        return dt_fail(DT_ERR_USAGE, "--%s %s: expected a whole number from 1 to %lld", o->name, value,
                       (long long)o->max);
    *number = v;
    return DT_OK;
}

/* The option at argv[*at]; *at becomes the last argument that belongs to it. */
static dt_status take(dt_args *a, int argc, char **argv, int *at) {
    const char *name = argv[*at] + strspn(argv[*at], "-"), *equals = strchr(name, '=');
    const int i = strncmp(argv[*at], "--", 2) == 0
                      ? find(a->verb, name, equals ? (size_t)(equals - name) : strlen(name))
                      : -1;
    if (i < 0) return unknown(a->verb, argv[*at]);
    const dt_option *o = &a->verb->option[i];
    if (a->value[i]) return dt_fail(DT_ERR_USAGE, "--%s is there twice", o->name);
    if (!o->argument) {
        if (equals) return dt_fail(DT_ERR_USAGE, "--%s takes no value", o->name);
        a->value[i] = "";
        return DT_OK;
    }
    if (equals) {
        a->value[i] = equals + 1;
    } else {
        if (*at + 1 >= argc || strncmp(argv[*at + 1], "--", 2) == 0)
            return dt_fail(DT_ERR_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->argument);
        a->value[i] = argv[++*at];
    }
    return check_value(o, a->value[i], &a->number[i]);
}

dt_status dt_args_parse(const dt_verb *verb, int argc, char **argv, dt_args *out) {
    *out = (dt_args){.verb = verb, .argc = argc > 0 ? 1 : 0, .argv = argv};
    DT_ASSERT(option_count(verb) <= DT_OPTIONS_MAX);
    for (int i = 0; i < option_count(verb); i++) out->number[i] = verb->option[i].fallback;
    for (int i = 1; i < argc; i++)
        if (argv[i][0] == '-' && argv[i][1])
            DT_TRY(take(out, argc, argv, &i));
        else
            argv[out->argc++] = argv[i];
    return DT_OK;
}

static int must_find(const dt_args *a, const char *name) {
    const int i = find(a->verb, name, strlen(name));
    DT_ASSERT(i >= 0);
    return i;
}

const char *dt_args_text(const dt_args *a, const char *name) {
    return a->value[must_find(a, name)];
}

bool dt_args_has(const dt_args *a, const char *name) {
    return dt_args_text(a, name) != NULL;
}

int64_t dt_args_number(const dt_args *a, const char *name) {
    return a->number[must_find(a, name)];
}
