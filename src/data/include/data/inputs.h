/* Samples that are named instead of imported: image files, folders with images at any depth, data sets. They
 * form a data set that the loader evaluates like any other: files become what an import of the training set's
 * kind would have made of them. */
#ifndef DT_DATA_INPUTS_H
#define DT_DATA_INPUTS_H

#include "data/facts.h"

/* `path`: what the user named, in that order; folders and data sets stand for all that they hold, sorted.
 * What cannot be used (absent, a folder without images, a damaged set) is one sample that fails when it is
 * read. Only memory can be lacking. `f` of the training set must outlive the result, whose info is that of
 * `f`. */
dt_status dt_inputs_open(const dt_data_facts *f, int n_path, const char *const *path, dt_dataset **out);
/* The same for a network that reads arrays. `path`: data sets and their shards, .npy, .npz and .csv files; a .npy file
 * is of the only field, or of the one that "NAME=FILE" says. For one that has learnt classes of text: files of text, of which
 * each line is a sample. */
typedef struct dt_inputs_arrays {
    const dt_data_facts *facts; /* of the training set; must outlive the result */
    int n_path;
    const char *const *path;
    bool reads[DT_FIELDS_MAX]; /* which of the facts' fields must be there; the others are zero */
    const char *columns;       /* of .csv files, "a,b,c", in the order of the field; NULL: all */
    bool verify;               /* checksums */
} dt_inputs_arrays;
dt_status dt_inputs_open_arrays(const dt_inputs_arrays *o, dt_dataset **out);
/* Of the names and their order: what ranks must agree in. */
uint64_t dt_inputs_hash(const dt_dataset *d);

typedef struct dt_input {
    const char *path;       /* owned by the data set */
    int64_t sample;         /* of the set at `path`; -1: it is a file */
    int64_t label;          /* -1: not known */
    const char *label_name; /* "" where it has none; owned by the data set */
} dt_input;
void dt_inputs_get(const dt_dataset *d, int64_t sample, dt_input *out);

/* Files in folders that were left out for their names, and images so far whose size was not that of the
 * training set, so that their centre was resized to it. */
int64_t dt_inputs_ignored(const dt_dataset *d);
int64_t dt_inputs_resized(const dt_dataset *d);
/* Samples of data sets that hold images of another size than the training set: they stay as they are, and are
 * cropped as evaluation does. 0 where the training set has no one size. */
int64_t dt_inputs_unlike(const dt_dataset *d);

#endif
