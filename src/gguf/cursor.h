/* Reads a byte image from front to back; no read leaves it, whatever the image claims. */
#ifndef VLY_GGUF_CURSOR_H
#define VLY_GGUF_CURSOR_H

#include "base/error.h"
#include "base/vec.h"

typedef struct {
    const uint8_t *data;
    uint64_t n_bytes;
    uint64_t at; /* of the next byte to read; <= n_bytes */
} vly_cursor;

static inline uint64_t vly_cursor_left(const vly_cursor *cursor)
{
    return cursor->n_bytes - cursor->at;
}

/* The next `n` bytes, to *out. `field` is what they mean, for the message. Here and below: an image
 * that ends too early is VLY_E_FORMAT, and the cursor stays where it was. */
int vly_cursor_take(vly_cursor *cursor, uint64_t n, const char *field, const uint8_t **out,
                    vly_error *err);

int vly_cursor_u32(vly_cursor *cursor, const char *field, uint32_t *out, vly_error *err);
int vly_cursor_u64(vly_cursor *cursor, const char *field, uint64_t *out, vly_error *err);

/* A 64-bit length and that many bytes: a view into the image. */
int vly_cursor_string(vly_cursor *cursor, const char *field, vly_bytes *out, vly_error *err);

/* The unsigned little-endian number in `n_bytes` (1..8) bytes at `p`, which may be unaligned. */
static inline uint64_t vly_load_le(const uint8_t *p, unsigned n_bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < n_bytes; i++) value |= (uint64_t)p[i] << (8 * i);
    return value;
}

#endif
