/* Finds the first of several strings in a text that comes piece by piece. */
#ifndef VLY_TEXT_STOP_H
#define VLY_TEXT_STOP_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    struct {
        char *text;
        uint32_t *border; /* [len]: Knuth, Morris and Pratt's failure function */
        uint32_t len, matched;
    } string[VLY_MAX_STOP];
    uint32_t n;
} vly_stop;

/* Copies the strings. VLY_E_INVALID (more than VLY_MAX_STOP, or an empty one: says which),
 * VLY_E_HOST_MEMORY. The caller deinits in any case. */
int vly_stop_init(vly_stop *stop, const char *const *strings, uint32_t n, vly_error *err);
void vly_stop_deinit(vly_stop *stop);

/* Reads on: at most `len` bytes, up to the end of the first string that occurs. Returns which one,
 * of those that end at that byte the longest; -1: none yet. *n_read gets the bytes read, *n_tail
 * how many bytes at the end of all that was read are that string, or may be the beginning of one.
 */
int32_t vly_stop_read(vly_stop *stop, const char *bytes, size_t len, size_t *n_read,
                      size_t *n_tail);

#endif
