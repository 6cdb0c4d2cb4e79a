/* What gguf.c, parse.c and split.c share: the object behind gguf.h. */
#ifndef VLY_GGUF_FILE_H
#define VLY_GGUF_FILE_H

#include "gguf/gguf.h"
#include "gguf/name_index.h"

typedef struct {
    vly_gguf_entry entry;     /* first: callers hold pointers to it */
    uint64_t *string_offsets; /* of arrays of strings: where in the file each item's length is */
} gguf_record;

struct vly_gguf {
    char *path; /* NULL over a caller's memory */
    const uint8_t *data;
    uint64_t n_bytes;
    uint32_t version;
    gguf_record *records;
    size_t n_records;
    vly_gguf_tensor *tensors;
    size_t n_tensors;
    vly_name_index keys, tensor_names;
    /* Of a split file, in its first part: the others, [n_parts], [0] being NULL. */
    vly_gguf **parts;
    uint32_t n_parts;
};

/* vly_gguf_open of one file, be it a part of a split one or not. */
int vly_gguf_open_part(const char *path, vly_gguf **out, vly_error *err);

/* Where *gguf is a part of a split file, opens the others and makes *gguf the first of them, with
 * the tensors of all. On failure *gguf is as it was. VLY_E_NOT_FOUND (names the missing parts),
 * VLY_E_FORMAT (parts that do not belong together), and those of vly_gguf_open. */
int vly_gguf_join_parts(vly_gguf **gguf, vly_error *err);

/* Reads the image `data`, `n_bytes` into the rest of a zeroed object. On failure the object may be
 * partly filled; vly_gguf_close frees it either way. Messages do not name the file. */
int vly_gguf_parse(vly_gguf *gguf, vly_error *err);

/* Bytes of one value of a scalar type; 0 for strings, arrays and unknown types. */
unsigned vly_gguf_type_bytes(uint32_t type);

/* "u32", "string"...; "unknown" for a number that is not a type. */
const char *vly_gguf_type_name(uint32_t type);

#endif
