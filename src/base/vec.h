/* Growable arrays of the few element types that cross folders. Zero-initialise; the owner frees. */
#ifndef VLY_BASE_VEC_H
#define VLY_BASE_VEC_H

#include <stddef.h>
#include <stdint.h>

/* A view of bytes that somebody else owns; not terminated. */
typedef struct {
    const char *data;
    size_t len;
} vly_bytes;

/* Token ids. */
typedef struct {
    uint32_t *data;
    size_t len, cap;
} vly_ids;

/* Bytes that are owned and grow; `data` is NUL-terminated at `len` once anything was appended. */
typedef struct {
    char *data;
    size_t len, cap;
} vly_text;

/* Each returns 0 or VLY_E_HOST_MEMORY, in which case the array is as it was. */
int vly_ids_push(vly_ids *ids, uint32_t id);
int vly_ids_append(vly_ids *ids, const uint32_t *data, size_t n);
int vly_ids_reserve(vly_ids *ids, size_t n); /* n more can be appended without allocating */
int vly_text_append(vly_text *text, const void *data, size_t n);
int vly_text_reserve(vly_text *text, size_t n); /* the same */

void vly_ids_free(vly_ids *ids);
void vly_text_free(vly_text *text);

#endif
