/* State_dicts of PyTorch, as torch.save writes them. Read through formats/tensors.h. */
#ifndef DT_FORMATS_TORCH_H
#define DT_FORMATS_TORCH_H

#include "formats/tensors.h"

/* Writes n tensors in their order under another name, synced, then renamed; torch.load(weights_only=True) reads them. The file
 * holds no notes. DT_ERR_IO; DT_ERR_DATA: two of a name, or of a type that PyTorch has no storage for. */
dt_status dt_torch_write(const char *path, int64_t n, const dt_file_tensor *tensor);

#endif
