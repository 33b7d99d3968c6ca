/* safetensors: a length, a JSON header, and tensors without gaps. Read through formats/tensors.h. */
#ifndef DT_FORMATS_SAFETENSORS_H
#define DT_FORMATS_SAFETENSORS_H

#include "formats/tensors.h"

/* Writes n tensors under another name, synced, then renamed: a file of that name is whole. They are put in the order
 * of the format's own library: types with large elements first, then by name. DT_ERR_IO; DT_ERR_DATA where a name or note is
 * none (two of a name, no UTF-8), or n_bytes does not fit the shape. */
dt_status dt_safetensors_write(const char *path, int64_t n, const dt_file_tensor *tensor, int64_t n_note,
                               const dt_tensor_note *note);

#endif
