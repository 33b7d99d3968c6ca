/* The command line as one table: verbs with their options. The parser, --help, the manual page and bash's
 * completion all read it. */
#ifndef DT_APP_COMMAND_H
#define DT_APP_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/status.h"

struct dt_app;

enum { DT_OPTIONS_MAX = 24 };

/* An option --name. */
typedef struct dt_option {
    const char *name;
    const char *argument; /* NULL: a flag; "raw|jpeg": one of these; else what --help calls it */
    const char *help;
    int64_t max;           /* above 0: a whole number from 1 to max */
    int64_t fallback;      /* of a number that is not given */
    const char *otherwise; /* what holds where it is not given, for --help; NULL: fallback, or nothing */
} dt_option;

/* Whether its argument is one of a few words. */
bool dt_option_has_choices(const dt_option *o);

typedef struct dt_args dt_args;
typedef dt_status dt_verb_fn(struct dt_app *app, const dt_args *args);

typedef struct dt_verb {
    const char *name;        /* "train"; of a verb's verb "data import", below the row of "data" */
    dt_verb_fn *run;         /* NULL: has verbs of its own */
    bool ranks;              /* starts MPI */
    bool config;             /* takes CONFIG.toml and section.key=value */
    const char *usage;       /* its arguments */
    const char *help;        /* in a few words */
    const char *about;       /* lines of --help and the manual */
    const dt_option *option; /* to one without a name; NULL: none */
    const char *example;     /* lines: a command, then "  # " and what it does */
} dt_verb;

extern const dt_verb dt_verb_table[];
extern const int dt_verb_count;

/* An exit code and its meaning. */
typedef struct dt_exit_row {
    int code;
    const char *meaning;
} dt_exit_row;
extern const dt_exit_row dt_exit_table[];
extern const int dt_exit_count;

/* The row that argv[1] names, or argv[1] and argv[2] together, and in *n_words how many of them; NULL:
 * none. */
const dt_verb *dt_verb_find(int argc, char **argv, int *n_words);
/* The words of a verb that are not those of the row that it is below. */
const char *dt_verb_word(const dt_verb *v);
/* Whether `v` is one of the verbs of `group`. */
bool dt_verb_is_below(const dt_verb *v, const dt_verb *group);

/* What a verb was given: its options by name, and the other arguments in argv[1..argc-1]; argv[0] is its
 * name. */
struct dt_args {
    const dt_verb *verb;
    int argc;
    char **argv;
    const char *value[DT_OPTIONS_MAX]; /* of the verb's options; "" of a flag, NULL where not given */
    int64_t number[DT_OPTIONS_MAX];
};

/* Takes the verb's options, --name VALUE and --name=VALUE, out of argv. DT_ERR_USAGE: an option that the verb
 * does not have, twice the same, without its value, or with one that it cannot have. */
dt_status dt_args_parse(const dt_verb *verb, int argc, char **argv, dt_args *out);
/* Value of an option; NULL if it was not given. */
const char *dt_args_text(const dt_args *a, const char *name);
bool dt_args_has(const dt_args *a, const char *name);
/* Value of an option that is a number, or its fallback. */
int64_t dt_args_number(const dt_args *a, const char *name);

/* All verbs; what a verb can do; all of it as a manual page; a script for bash. */
void dt_help_print(FILE *out);
void dt_help_print_verb(const dt_verb *v, FILE *out);
void dt_help_print_man(FILE *out);
void dt_help_print_completion(FILE *out);

#endif
