/* Models that need no file: random weights of a real shape, for measuring. Their text is worthless.
 *
 * A name is "synthetic:SHAPE:FORMAT". SHAPE is a row of shapes.def or a list of dimensions,
 * "dim=64,layers=2,heads=4,kv_heads=2,head_dim=16,ff=128,vocab=512,ctx=256,tied=1" (all but dim and
 * layers may be left out). FORMAT is a tensor format (all matrices have it) or a mix, "q4_k_m".
 *
 * vly_gguf_open takes such names, so that all who open files take them. */
#ifndef VLY_GGUF_SYNTHETIC_H
#define VLY_GGUF_SYNTHETIC_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define VLY_SYNTHETIC_PREFIX "synthetic:"

/* Does `path` name such a model? */
bool vly_synthetic_is(const char *path);

/* Maps the image of a GGUF file for the name `path`: *n_bytes at *data, for the caller to munmap.
 * The weights of a format lie in memory once, as a few MiB that are mapped again and again, so that
 * a model of any size takes next to nothing. VLY_E_INVALID (no such shape or format: names those
 * that there are), VLY_E_UNSUPPORTED (a format that Volley does not compute with),
 * VLY_E_HOST_MEMORY. */
int vly_synthetic_map(const char *path, void **data, size_t *n_bytes, vly_error *err);

#endif
