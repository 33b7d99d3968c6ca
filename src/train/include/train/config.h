/* The run's configuration: the options of every room, filled from TOML and command-line overrides.
 *
 * Each section is an options struct that stands with its keys in the room that reads it; here is only the list
 * of them. The rows parse, check, print the resolved file and write docs/config.md. */
#ifndef DT_TRAIN_CONFIG_H
#define DT_TRAIN_CONFIG_H

#include <stdio.h>

#include "core/optim.h"
#include "core/optim_group.h"
#include "core/schedule.h"
#include "data/options.h"
#include "dist/options.h"
#include "model/options.h"
#include "train/options.h"

enum { DT_CONFIG_KEYS_MAX = 256, DT_CONFIG_LEFT_OUT = 512 };

/* Where something was set: 0 nowhere, line -1: on the command line. */
typedef struct dt_config_place {
    int32_t line, column;
} dt_config_place;

typedef struct dt_config {
    char path[DT_KEY_STRING_MAX]; /* the file read, for messages */
    dt_config_place set_at[DT_CONFIG_KEYS_MAX], layers_at, losses_at;
    /* Names of the file's keys that do not count any more, because the command line chose otherwise: "" or "a, b". */
    char left_out[DT_CONFIG_LEFT_OUT];
    dt_job_options run;
    dt_model_options model;
    dt_data_options data;
    dt_augment_options augment;
    dt_train_options train;
    dt_optim_options optim;
    dt_optim_groups groups; /* [[optim.groups]] */
    dt_schedule_options schedule;
    dt_dist_options dist;
    dt_checkpoint_options checkpoint;
} dt_config;

/* Fills the defaults; what `c` held before is not freed. */
void dt_config_init(dt_config *c);
/* Frees the layers. Harmless after a failed load, and twice. */
void dt_config_fini(dt_config *c);

/* Starts with dt_config_init: defaults, then the file, then `override` strings "section.key=value" (TOML
 * values; bare words are strings), then cross checks. Errors: DT_ERR_CONFIG with file:line:column, the key,
 * and the nearest valid name. */
dt_status dt_config_load(dt_config *c, const char *path, int n_override, const char *const *override);

/* The same from text in memory; `name` stands for the file in messages. */
dt_status dt_config_parse(dt_config *c, const char *name, const char *text, int n_override,
                          const char *const *override);

/* Keys that do not count with data of this kind ("images", "arrays", ...): DT_ERR_CONFIG where one is set. Those of
 * the file, where the command line named the data, are told in `left_out` as above. */
dt_status dt_config_check_data(const dt_config *c, const char *kind, char left_out[DT_CONFIG_LEFT_OUT]);

/* Writes every key with its value as TOML that dt_config_load reads back to the same struct; those that do not count,
 * or may not with the data, as comments. */
dt_status dt_config_write(const dt_config *c, FILE *out);
/* The same as text; caller frees. */
dt_status dt_config_to_text(const dt_config *c, char **out);

/* Hash of what changes the mathematics of a run: model, data, augmentation, training, optimizer, schedule,
 * seed, payload. A run and its exact resumption agree in it; output paths, threads, intervals and logging are
 * left out. */
uint64_t dt_config_hash(const dt_config *c);
/* Hash of every key: what the ranks of one job must agree in. */
uint64_t dt_config_hash_all(const dt_config *c);

/* The key table for people (`dtrain config`) and for docs/config.md. */
void dt_config_print_keys(FILE *out);
void dt_config_print_markdown(FILE *out);
/* A line per key, for programs: "optim.lr=", and behind it "|" between the values that it can have where they
 * are few. */
void dt_config_print_choices(FILE *out);

#endif
