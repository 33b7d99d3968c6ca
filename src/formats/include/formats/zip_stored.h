/* The members of a zip file that are stored as they are, in a mapped file. The directory is held to the file: members lie
 * inside it, apart from each other, under names of their own. */
#ifndef DT_FORMATS_ZIP_STORED_H
#define DT_FORMATS_ZIP_STORED_H

#include "formats/tensors.h"

typedef struct dt_zip_stored {
    const char *name; /* n_name bytes, without '\0' */
    int32_t n_name;
    const uint8_t *data;
    int64_t n_bytes;
    bool packed; /* is not: its bytes mean nothing by themselves */
} dt_zip_stored;

/* All members, ascending by name; the caller frees *out, also after an error. DT_ERR_DATA: damaged, encrypted. */
dt_status dt_zip_stored_list(const dt_mapped_file *f, int64_t *n, dt_zip_stored **out);
/* The order of members; for qsort and bsearch. */
int dt_zip_stored_by_name(const void *a, const void *b);
/* The member of that name, NULL if absent. */
const dt_zip_stored *dt_zip_stored_find(int64_t n, const dt_zip_stored *member, const char *name,
                                        size_t n_name);

#endif
