/* Which files of a folder are samples, and of which class each is: by the directory it lies in, or by a
 * list. */
#ifndef DT_DATA_FOLDER_H
#define DT_DATA_FOLDER_H

#include "data/import.h"
#include "files.h"

typedef struct dt_folder_file {
    char *name; /* below the folder: "cat/1.jpg" */
    int32_t class;
} dt_folder_file;

typedef struct dt_folder {
    const char *root;
    dt_names classes;  /* in byte order */
    char *class_names; /* the same, separated by line breaks */
    dt_folder_file *file;
    int64_t n_files, capacity, n_bytes;
    uint64_t identity; /* hash of names, sizes and classes */
    char *doubt;       /* why the classes may be none; NULL if nothing speaks against them */
} dt_folder;

/* A class for each directory, with the files in it and below it that are images by their names. */
dt_status dt_folder_by_directory(const dt_import_options *o, dt_folder *out);
/* The files that o->labels lists, a class for each label. */
dt_status dt_folder_by_list(const dt_import_options *o, dt_folder *out);
/* Whatever became of the two. */
void dt_folder_free(dt_folder *f);

/* A row of a list of labels; name and label are owned. */
typedef struct dt_label {
    char *name, *label;
    int64_t line;
} dt_label;
typedef struct dt_label_list {
    dt_label *row; /* by the bytes of their names */
    int64_t n, capacity;
} dt_label_list;
/* Reads a CSV file with the columns file and label. Names lose "./" and doubled slashes. DT_ERR_DATA with the
 * line: an empty name or label, a name that is there twice or leads out of the folder. */
dt_status dt_label_list_read(const char *path, dt_label_list *out);
void dt_label_list_free(dt_label_list *l);

/* The parts that both are made of. */
bool dt_folder_image_is(const char *name);
dt_status dt_folder_add(dt_folder *f, const char *name, int32_t class, int64_t n_bytes);
/* Calls `file` for every visible file below `below` ("" or "cat/"), directory by directory in byte order. */
typedef dt_status dt_folder_visit(void *arg, const char *name, int64_t n_bytes);
dt_status dt_folder_walk(const char *root, const char *below, dt_folder_visit *file, void *arg);
/* Sets f->class_names of f->classes. DT_ERR_DATA: `what` names one that shards cannot hold. */
dt_status dt_folder_name_classes(dt_folder *f, const char *what);

#endif
