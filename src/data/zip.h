/* The members of a zip file (.npz): stored and deflated ones, zip64 too. Nothing is ever written by a
 * member's name. What the directory claims is checked against the file: members lie inside it and do not
 * overlap, so that all of them together unpack to at most what deflate makes of a file of this size. */
#ifndef DT_DATA_ZIP_H
#define DT_DATA_ZIP_H

#include "core/status.h"
#include "core/types.h"

typedef struct dt_zip_member {
    char *name; /* owned; no directories, and never empty */
    bool deflated;
    uint32_t crc;
    int64_t offset, stored_bytes; /* where its bytes lie in the file */
    int64_t n_bytes;              /* unpacked */
} dt_zip_member;

typedef struct dt_zip {
    char *path;
    int fd;
    int64_t n_bytes, n_members;
    dt_zip_member *member;
} dt_zip;

/* DT_ERR_DATA: not a zip file, damaged, encrypted, or with members of other kinds. Closed by dt_zip_close in
 * any case. */
dt_status dt_zip_open(const char *path, dt_zip *out);
void dt_zip_close(dt_zip *z);

/* The whole of a member, unpacked and compared with its checksum; caller frees. Memory grows with what really
 * comes. */
dt_status dt_zip_unpack(const dt_zip *z, const dt_zip_member *m, uint8_t **out);
/* Reads a stored member through and compares it with its checksum. */
dt_status dt_zip_check(const dt_zip *z, const dt_zip_member *m);

#endif
