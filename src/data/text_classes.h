/* Text with classes: where they are found, and the labels that they get. */
#ifndef DT_DATA_TEXT_CLASSES_H
#define DT_DATA_TEXT_CLASSES_H

#include "class_names.h"
#include "data/import.h"
#include "text_read.h"

/* Inputs of an import, where directories are taken apart. */
typedef struct dt_text_inputs {
    char **file;  /* [n] owned */
    char **class; /* [n] owned; NULL: they have none */
    int32_t n;
} dt_text_inputs;
/* A directory among o->input has one of plain text for each class. DT_ERR_USAGE: some are directories, others not. */
dt_status dt_text_inputs_find(const dt_import_options *o, dt_text_inputs *out);
void dt_text_inputs_free(dt_text_inputs *t);

/* Names in the order of their labels: o->class_names, else all that occur, in byte order. `read` says where. */
dt_status dt_text_classes_find(const dt_import_options *o, const dt_text_read_options *read,
                               dt_class_names *out);

/* The labels of documents, in their order. */
typedef struct dt_text_labels {
    int32_t *label; /* owned: free() */
    int64_t n, capacity;
} dt_text_labels;
dt_status dt_text_labels_add(dt_text_labels *l, int64_t n, const int32_t *label);
/* That of a class by its name. DT_ERR_DATA: it is not in the list. */
dt_status dt_text_labels_add_class(dt_text_labels *l, const dt_class_names *names, const char *class);

#endif
