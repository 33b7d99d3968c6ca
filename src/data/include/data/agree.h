/* Whether data fits the configuration, the other set of a run, and what a network was trained on. What kind the
 * data is of decides what is compared: of images channels, sizes, classes and their names; of arrays the fields. */
#ifndef DT_DATA_AGREE_H
#define DT_DATA_AGREE_H

#include "data/facts.h"
#include "data/loader.h"

/* What people should know, "" where there is nothing. */
typedef struct dt_data_note {
    char text[640];
} dt_data_note;

/* A set and the configuration. `classes`: of the model, 0: as many as the data has. `path` is for errors. */
dt_status dt_data_check(const dt_data_options *o, int64_t classes, const char *path, const dt_dataset *d);
/* Every number of the field `name` is from `least` to `most`: DT_ERR_DATA with the file, the row, the place in it and
 * `why`. `note`: whole numbers that fp32 does not hold. Reads all of them; images have been checked when they were
 * opened. */
dt_status dt_data_check_numbers(const dt_dataset *d, const char *name, double least, double most,
                                const char *why, dt_data_note *note);
/* Training and validation. */
dt_status dt_data_agree(const dt_data_options *o, const dt_dataset *train, const dt_dataset *val,
                        dt_data_note *note);

/* Fields of the set at `path` that a network was trained on, too, are such as they were then: DT_ERR_DATA. */
dt_status dt_data_same_fields(const dt_dataset_info *trained, const dt_dataset *d, const char *path);

/* What ranks must agree in, but for names; and the names of the classes with their places, 0 where there are
 * none. */
uint64_t dt_data_hash(const dt_dataset_info *info);
uint64_t dt_data_classes_hash(const dt_dataset *d);
/* Of all samples in their order, however they are divided into files (of text also of where the files end); 0 where it is not known: files without checksums,
 * generated sets. */
uint64_t dt_data_samples_hash(const dt_dataset *d);
/* The mean and deviation that images are normalised by: the options', else the data's. */
uint64_t dt_data_statistics_hash(const dt_augment_options *o, const dt_dataset_info *info);

/* What evaluation alone takes from training. */
typedef struct dt_data_trained {
    dt_dataset_info info;  /* of the evaluation set, with training's statistics and number of classes */
    bool known;            /* the statistics are training's */
    uint64_t classes_xxh3; /* of the classes that the network was trained on, 0 where not known */
} dt_data_trained;
/* `facts`: of a checkpoint; NULL: those of the set o->train, where it can be opened. DT_ERR_DATA where a label
 * means something else in `val`. */
dt_status dt_data_trained_facts(const dt_data_options *o, const dt_augment_options *a, int64_t classes,
                                const dt_dataset *val, const dt_data_facts *facts, dt_data_trained *out,
                                dt_data_note *note);

/* What a network that reads images is fed. */
typedef struct dt_image_input {
    int64_t height, width; /* of the network's input */
    int64_t channels, classes;
    bool source_crop; /* the device crops from stored images of src_height x src_width */
    bool edits;       /* the device edits colours */
    int64_t src_height, src_width;
    float mean[4], stddev[4];
} dt_image_input;
/* Height and width that networks are fed in training, or in evaluation; 0: as stored. */
int64_t dt_data_image_side(const dt_data_options *o, bool training);
/* `classes`: as above; `on_device`: it crops and edits colours where it can, in training. */
dt_status dt_data_image_input(const dt_data_options *o, const dt_augment_options *a, int64_t classes,
                              const dt_dataset_info *info, bool training, bool on_device,
                              dt_image_input *out);

#endif
