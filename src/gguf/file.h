/* What gguf.c and parse.c share: the object behind gguf.h. */
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
};

/* Reads the image `data`, `n_bytes` into the rest of a zeroed object. On failure the object may be
 * partly filled; vly_gguf_close frees it either way. Messages do not name the file. */
int vly_gguf_parse(vly_gguf *gguf, vly_error *err);

/* Bytes of one value of a scalar type; 0 for strings, arrays and unknown types. */
unsigned vly_gguf_type_bytes(uint32_t type);

/* "u32", "string"...; "unknown" for a number that is not a type. */
const char *vly_gguf_type_name(uint32_t type);

#endif
