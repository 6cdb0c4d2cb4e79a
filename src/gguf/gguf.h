/* GGUF v2 and v3 files, mapped read-only. Every length and offset is checked against the file when
 * it is opened, so that what the accessors return can be read without a further check.
 * Format: the ggml project's gguf.md. Little-endian files only. */
#ifndef VLY_GGUF_H
#define VLY_GGUF_H

#include "base/error.h"
#include "base/vec.h"
#include "gguf/formats.h"

typedef struct vly_gguf vly_gguf;

/* Types of metadata values, with the numbers that the file uses. */
typedef enum {
    VLY_GGUF_U8 = 0,
    VLY_GGUF_I8 = 1,
    VLY_GGUF_U16 = 2,
    VLY_GGUF_I16 = 3,
    VLY_GGUF_U32 = 4,
    VLY_GGUF_I32 = 5,
    VLY_GGUF_F32 = 6,
    VLY_GGUF_BOOL = 7,
    VLY_GGUF_STRING = 8,
    VLY_GGUF_ARRAY = 9,
    VLY_GGUF_U64 = 10,
    VLY_GGUF_I64 = 11,
    VLY_GGUF_F64 = 12
} vly_gguf_type;

/* One metadata entry. Scalars are in the member of their kind; all views point into the file. */
typedef struct {
    vly_bytes key;
    vly_gguf_type type;
    vly_gguf_type item_type; /* of arrays; arrays of arrays are refused as unsupported */
    uint64_t count;          /* of arrays: how many items */
    union {
        uint64_t u; /* U8..U64, BOOL */
        int64_t i;  /* I8..I64 */
        double f;   /* F32, F64 */
        vly_bytes string;
        const uint8_t *items; /* arrays of numbers: packed, unaligned */
    } value;
} vly_gguf_entry;

/* One tensor. dims[0] is the contiguous one: a matrix of `rows` rows of `columns` weights has dims
 * {columns, rows}. */
typedef struct {
    vly_bytes name;
    uint32_t n_dims; /* 1..4; unused dims are 1 */
    uint64_t dims[4];
    const vly_format *format; /* never NULL; may be one that cannot be computed with */
    uint32_t part;            /* of a split file, from 0 */
    uint64_t offset;          /* of its first byte, in that part's file */
    uint64_t n_bytes;
    const uint8_t *data; /* n_bytes inside the mapping */
} vly_gguf_tensor;

/* Maps and checks the file at `path`, or makes the model of random weights that a path like
 * "synthetic:mistral-7b:q8_0" names (gguf/synthetic.h). Where it is a part of a split file,
 * whichever (its name ends in -00002-of-00003.gguf), all parts are opened from the same folder and
 * are one file: with the metadata of the first and the tensors of all. Errors: VLY_E_NOT_FOUND,
 * VLY_E_IO, VLY_E_FORMAT (names the field, what was expected and what came), VLY_E_UNSUPPORTED
 * (version, big-endian file, unknown tensor format), VLY_E_HOST_MEMORY. *out is owned by the
 * caller, NULL on failure. The file must not shrink while it is open: as with every mapping,
 * reading what is gone ends the process. */
int vly_gguf_open(const char *path, vly_gguf **out, vly_error *err);

/* The same over `n` bytes that stay the caller's and must outlive the object. */
int vly_gguf_open_memory(const void *data, size_t n, vly_gguf **out, vly_error *err);

void vly_gguf_close(vly_gguf *gguf);

/* The path it was opened with, or that of the first part, or "memory". */
const char *vly_gguf_path(const vly_gguf *gguf);
uint32_t vly_gguf_version(const vly_gguf *gguf);
uint64_t vly_gguf_file_bytes(const vly_gguf *gguf); /* of all parts */

/* 1 where it is not split. */
uint32_t vly_gguf_n_parts(const vly_gguf *gguf);
const char *vly_gguf_part_path(const vly_gguf *gguf, uint32_t part);

size_t vly_gguf_n_entries(const vly_gguf *gguf);
const vly_gguf_entry *vly_gguf_entry_at(const vly_gguf *gguf, size_t i);
/* NULL where there is none. Constant time. */
const vly_gguf_entry *vly_gguf_find(const vly_gguf *gguf, const char *key);

/* Item `i` (< count) of an array of strings. Constant time. */
vly_bytes vly_gguf_string_at(const vly_gguf *gguf, const vly_gguf_entry *array, uint64_t i);
/* Item `i` of an array of F32 or F64 / of any integer type or BOOL. */
double vly_gguf_float_at(const vly_gguf_entry *array, uint64_t i);
int64_t vly_gguf_int_at(const vly_gguf_entry *array, uint64_t i);

/* Typed reads. Any integer type serves for u32 if the value fits, F32 and F64 for f32 if it is
 * finite. A missing key is VLY_E_FORMAT; with `_or` it gives `fallback`. A value of another type or
 * range is always VLY_E_FORMAT and names the key. */
int vly_gguf_u32(const vly_gguf *gguf, const char *key, uint32_t *out, vly_error *err);
int vly_gguf_u32_or(const vly_gguf *gguf, const char *key, uint32_t fallback, uint32_t *out,
                    vly_error *err);
int vly_gguf_f32(const vly_gguf *gguf, const char *key, float *out, vly_error *err);
int vly_gguf_f32_or(const vly_gguf *gguf, const char *key, float fallback, float *out,
                    vly_error *err);
int vly_gguf_bool_or(const vly_gguf *gguf, const char *key, bool fallback, bool *out,
                     vly_error *err);
int vly_gguf_string(const vly_gguf *gguf, const char *key, vly_bytes *out, vly_error *err);
int vly_gguf_string_or(const vly_gguf *gguf, const char *key, const char *fallback, vly_bytes *out,
                       vly_error *err);

/* Hints to the system, where the file was opened by its path: the tensor's data will be read soon;
 * it was read, and its pages need not stay with this process. */
void vly_gguf_will_need(const vly_gguf *gguf, const vly_gguf_tensor *tensor);
void vly_gguf_release(const vly_gguf *gguf, const vly_gguf_tensor *tensor);

size_t vly_gguf_n_tensors(const vly_gguf *gguf);
const vly_gguf_tensor *vly_gguf_tensor_at(const vly_gguf *gguf, size_t i);
/* NULL where there is none. Constant time. */
const vly_gguf_tensor *vly_gguf_tensor_find(const vly_gguf *gguf, const char *name);

/* Holds `n_blocks` of the tensor's blocks, from `blocks` on, against vly_format_finite.
 * VLY_E_FORMAT names the tensor and the place. */
int vly_gguf_check_finite(const vly_gguf_tensor *tensor, const uint8_t *blocks, size_t n_blocks,
                          vly_error *err);

#endif
