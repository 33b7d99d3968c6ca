/* The built-in networks as rows: what each is, what it reads, and where it was published. model.name and its errors,
 * `dtrain models` and `dtrain inspect --model` are made of them. */
#ifndef DT_MODEL_MODEL_TABLE_H
#define DT_MODEL_MODEL_TABLE_H

#include <stdio.h>

#include "model/task.h"

/* A network: from the input value to `outputs` numbers a row, or a place of it. `shape`: what its row says. */
typedef dt_vid dt_net_fn(dt_builder *b, dt_vid x, int64_t outputs, const dt_model_options *o,
                         const void *shape);

typedef enum dt_model_reads {
    DT_READS_IMAGES, /* given the images, or of arrays the first field that is no target */
    DT_READS_ROWS,   /* likewise, of any shape */
    DT_READS_TOKENS, /* given the field "tokens", i32 [N, steps] */
    DT_READS_FIELDS  /* given the images or nothing: it chooses among the data's fields by itself */
} dt_model_reads;

typedef struct dt_model_row {
    const char *name;
    dt_net_fn *build;
    const void *shape; /* as the builder wants it; NULL: nothing */
    dt_model_reads reads;
    const char *task;      /* of dt_task_choices: what it is meant for */
    const char *reference; /* whose parameters' names and shapes, and results, it has */
    /* As published: height and width of images with their channels, or steps with how many tokens there are; 0: it has
     * no size of its own. */
    int64_t input, depth;
    int64_t outputs;
} dt_model_row;

extern const dt_model_row dt_model_table[];
extern const int dt_model_count;
/* NULL where there is no such network. */
const dt_model_row *dt_model_find(const char *name);
/* The same, with DT_ERR_CONFIG. */
dt_status dt_model_get(const char *name, const dt_model_row **out);

enum { DT_TOKEN_FIELDS = 2 };
/* The fields of text: "tokens", i32 [steps], and "label", of each place or, by the task, of a row. */
void dt_model_token_fields(const dt_task_row *task, int64_t steps, dt_field out[DT_TOKEN_FIELDS]);
/* What it was published for, one sample; `field` is what a network of tokens has as in->field. */
dt_model_input dt_model_published(const dt_model_row *row, dt_field field[DT_TOKEN_FIELDS]);

/* A line for each network that has a size of its own: its input, outputs, parameters and FLOPs at that, its reference. */
dt_status dt_model_print_all(FILE *out);

#endif
