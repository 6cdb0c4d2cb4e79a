/* A hash index over an array of structs whose first member is a vly_bytes: their name. */
#ifndef VLY_GGUF_NAME_INDEX_H
#define VLY_GGUF_NAME_INDEX_H

#include "base/error.h"
#include "base/vec.h"

typedef struct {
    const void *items;
    size_t stride;   /* bytes from one item to the next */
    uint32_t *slots; /* item + 1, or 0; linear probing, at most half full */
    size_t n_slots;  /* a power of two, or 0 */
    uint64_t seed;   /* random, so that a file cannot be made of colliding names */
} vly_name_index;

/* Indexes `n` items, which must stay where they are. Where two names are equal, *duplicate is the
 * later item of a pair, else `n`. Errors: VLY_E_HOST_MEMORY, VLY_E_UNSUPPORTED (2^30 items or
 * more). */
int vly_name_index_init(vly_name_index *index, const void *items, size_t n, size_t stride,
                        size_t *duplicate, vly_error *err);
void vly_name_index_deinit(vly_name_index *index);

/* The item of that name, or NULL. */
const void *vly_name_index_find(const vly_name_index *index, vly_bytes name);

#endif
