/* What a network must know of the data it was trained on to be used without it: the shape and normalisation
 * of samples, how an import made them out of image files, the names of the classes, the tokenizer of text. Kept as a JSON object
 * that checkpoints hold. */
#ifndef DT_DATA_FACTS_H
#define DT_DATA_FACTS_H

#include "data/loader.h"
#include "data/tokenizer.h"

/* How an import made the samples: options of `dtrain data import folder`; 0 where it did nothing of the
 * kind. */
typedef struct dt_recipe {
    int64_t resize, square, exif_rotate;
    int64_t quality; /* of JPEG files encoded anew */
} dt_recipe;

typedef struct dt_data_facts {
    dt_dataset_info info; /* n_samples 0 */
    dt_recipe recipe;
    uint64_t samples_xxh3;   /* as dt_data_samples_hash; 0 where it is not known */
    char **class_name;       /* [info.n_classes], owned; NULL: they have no names */
    dt_tokenizer *tokenizer; /* of text, owned; NULL: none */
} dt_data_facts;

/* Those of an open set as JSON, without a line break at its end; caller frees. Names that are not UTF-8 are
 * left out, all of them. */
dt_status dt_data_facts_text(const dt_dataset *d, char **out);
/* DT_ERR_DATA where the text does not say all that is needed. *out is to be freed in any case. */
dt_status dt_data_facts_parse(const char *text, dt_data_facts *out);
/* Those of an open set. */
dt_status dt_data_facts_of(const dt_dataset *d, dt_data_facts *out);
void dt_data_facts_free(dt_data_facts *f); /* accepts a zeroed one */
/* "" where classes have no names, and for a class that there is not. */
const char *dt_data_facts_class(const dt_data_facts *f, int64_t label);

#endif
